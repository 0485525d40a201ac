"""`m2m subject`: make subjects, from packaged anatomy (`build`) or from a laboratory's own files (`import`)."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from rt_engine.errors import SettingsError
from rt_engine.field.subject_file import read_subject
from tools.chosen_coil import chosen_coil
from tools.commands.options import JsonOption
from tools.commands.subject_import import import_subject
from tools.console import console, emit_json

FIGURE_OF_EIGHT = "figure-of-eight"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Make subjects: anatomy, head, E-field basis.",
)
app.command("import")(import_subject)


@app.command("build")
def build(
    out: Annotated[Path, typer.Option("--out", "-o", help="Subject file to write (*.subject.h5).")],
    source: Annotated[
        Literal["default", "pycortex"],
        typer.Option("--source", help="The group-average default head, or the individual S1 that pycortex carries."),
    ] = "default",
    archive: Annotated[
        Path | None,
        typer.Option("--archive", help="For pycortex: its source archive (pycortex-1.4.0.tar.gz), or a folder db/S1."),
    ] = None,
    resolution_mm: Annotated[
        int, typer.Option("--resolution-mm", min=1, max=2, help="Edge of the head's voxels: 2 is quick, 1 accurate.")
    ] = 2,
    basis: Annotated[
        bool, typer.Option("--basis/--no-basis", help="Solve for the E-field's basis. Takes minutes at 2 mm.")
    ] = True,
    rank: Annotated[int, typer.Option("--rank", min=1, max=1000, help="Placements to solve for the basis.")] = 150,
    coil: Annotated[
        str, typer.Option("--coil", help=f"Coil of the basis: a file (.ccd, .tcd), or {FIGURE_OF_EIGHT} (70 mm).")
    ] = FIGURE_OF_EIGHT,
    max_didt: Annotated[
        float | None,
        typer.Option("--max-didt-a-per-us", min=0.1, help="Largest dI/dt of the coil, where its file does not say it."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that solve at the same time.")] = 1,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", "--folder", help="Where heads and solved placements are kept. Default: the user's."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a subject with scalp and E-field basis from anatomy that Python packages carry.

    The first call makes the head (a minute) and solves for the basis (minutes at 2 mm, far longer at 1 mm). Ctrl-C
    stops it; the same command goes on where it was. The same command again finds all in the cache.
    """
    from trainer.head_models.build import Cache, build_subject, default_recipe, pycortex_recipe

    folder = out.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        # Said now, and not when everything is solved.
        raise SettingsError(f"--out {out}: {folder} is no folder that can be written to; make it first")
    if source == "default" and archive is not None:
        raise SettingsError("--archive is for --source pycortex; the default subject needs none")
    chosen = chosen_coil(None if coil == FIGURE_OF_EIGHT else Path(coil), max_didt) if basis else None
    recipe = default_recipe() if source == "default" else pycortex_recipe(archive or _installed_pycortex())
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("looking into the cache", total=None)
        try:
            built = build_subject(
                recipe,
                out,
                Cache(cache or default_cache()),
                resolution_mm=resolution_mm,
                coil=chosen,
                rank=rank,
                jobs=jobs,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
                stage=lambda words: progress.update(task, description=words),
            )
        except KeyboardInterrupt:
            console.print("What was solved is kept: the same command goes on from there.")
            raise
    subject = read_subject(out)
    figures = built.summary
    console.print(subject.notices, soft_wrap=True, markup=False)
    console.print(
        f"subject: {out} ({out.stat().st_size / 1e6:.2f} MB{', from the cache' if built.cached else ''}): "
        f"{subject.n_voxels} voxels, {100 * figures['mask_fraction']:.2f} % of the box, "
        f"{100 * figures['ba4_in_grey_matter']:.1f} % of them in the head's grey matter; scalp to cortex "
        f"{figures['scalp_to_cortex_mm']:.1f} mm at the hand knob",
        soft_wrap=True,
    )
    if as_json:
        emit_json(
            {
                "path": out,
                "sha256": built.sha256,
                "bytes": out.stat().st_size,
                "cached": built.cached,
                "name": subject.name,
                "space": subject.space,
                **figures,
                "notices": subject.notices,
            }
        )


def default_cache() -> Path:
    """Return the folder for what can be made again: XDG's, or what the system has in its place."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "m2m-live"


def _installed_pycortex() -> Path:
    from trainer.head_models.pycortex_store import HOW_TO_GET

    folder = Path(sys.prefix) / "share" / "pycortex" / "db" / "S1"
    if not folder.is_dir():
        raise SettingsError(f"--source pycortex needs --archive, and no installed pycortex was found. {HOW_TO_GET}")
    return folder
