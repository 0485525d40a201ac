"""Makes the documentation's figures of heads, fields and the simulated subject: `python -m tools.docs_figures`.

They are made from the subject that ships and from its head, which is built anew; the basis' error needs direct
solutions, which are kept in a cache beside those of `m2m subject build`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rt_engine.errors import M2MError
from tools.console import console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("head-planes", "coil-field", "mep-maps", "basis-error")
"""Names of the pictures, without .png."""

RESOLUTION_MM = 2

N_UNSEEN = 20
"""Placements that the basis' error is measured on."""

UNSEEN_SEED = 7
"""Of those placements; the basis' candidates have another."""

PERCENT_RMT = 120.0
"""Intensity of the field that is drawn."""

app = typer.Typer(add_completion=False)


@app.command()
def docs_figures(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the pictures.")] = Path("docs/images"),
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(FIGURES)}. Repeatable; default all.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps solved placements. Default: as for `m2m subject build`.")
    ] = None,
) -> None:
    """Make the figures. The first call solves some 170 placements for the basis' error; later ones reuse them."""
    unknown = [name for name in only or () if name not in FIGURES]
    if unknown:
        raise M2MError(f"--only {', '.join(unknown)}: expected {', '.join(FIGURES)}")
    if not out.is_dir():
        raise M2MError(f"--out {out}: there is no such folder; make it first")
    from tools.commands.subject import default_cache
    from tools.figures.canvas import save_figure

    makers = _makers(cache or default_cache())
    for name in only or FIGURES:
        path = out / f"{name}.png"
        console.print(f"{path}: {save_figure(makers[name](), path) / 1000:.0f} kB", soft_wrap=True)


def _makers(folder: Path) -> "dict[str, Callable[[], Figure]]":
    """Return what draws each figure; what several of them need is made once, when the first of them does."""
    from functools import cache as once
    from importlib.resources import files

    from drivers.simulated.calibration import Calibration, calibrate, didt_a_per_s
    from drivers.simulated.cortex import make_motor_cortex
    from drivers.simulated.field_source import FieldSource, make_field_source
    from drivers.simulated.settings import SimulatedSubjectSettings
    from rt_engine.field.subject_file import read_subject
    from tools.figures import basis_error, coil_field, head_planes, mep_maps
    from trainer.efield.coverage import covered_poses
    from trainer.efield.head import VoxelHead
    from trainer.efield.voxel_fem import VoxelFem
    from trainer.head_models.build import Cache, default_recipe

    subject = read_subject(Path(str(files("configs") / "demo" / "default.subject.h5")))
    settings = SimulatedSubjectSettings()
    cache, recipe = Cache(folder), default_recipe()

    @once
    def head() -> VoxelHead:
        with console.status("head"):
            return cache.head(recipe, RESOLUTION_MM)

    @once
    def solver() -> VoxelFem:
        with console.status("equations"):
            return VoxelFem(head())

    @once
    def calibrated() -> tuple[FieldSource, Calibration]:
        source = make_field_source(subject, settings.field)
        cortex = make_motor_cortex(subject, settings.cortex, settings.subject_seed)
        return source, calibrate(cortex, source, settings.cortex)

    def draw_coil() -> "Figure":
        source, calibration = calibrated()
        percent_mso = PERCENT_RMT / 100.0 * calibration.rmt_percent_mso
        with console.status("field on the cortex"):
            solution = solver().solve(source.coil, calibration.hotspot_pose)
            field = solver().field_at(subject.vertices.astype(np.float64), solution)
        magnitude = np.linalg.norm(field, axis=1) * didt_a_per_s(source.coil, percent_mso)
        title = f"finite elements on {RESOLUTION_MM} mm voxels, FDI hotspot, {PERCENT_RMT:.0f} % RMT"
        return coil_field.coil_field(subject, source.coil, calibration.hotspot_pose, magnitude, title)

    def draw_error() -> "Figure":
        source, _ = calibrated()
        columns = (TextColumn("placements"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("placements", total=None)
            return basis_error.basis_error(
                solver(),
                source.coil,
                covered_poses(subject, target_mm=recipe.target_mm()),
                covered_poses(subject, N_UNSEEN, seed=UNSEEN_SEED, target_mm=recipe.target_mm()),
                subject.voxel_mm,
                f"default head, {RESOLUTION_MM} mm voxels",
                checkpoint=cache.solved(solver(), source.coil, subject.voxel_mm),
                progress=lambda done, of: progress.update(task, completed=done, total=of),
            )

    return {
        "head-planes": lambda: head_planes.head_planes(head(), subject),
        "coil-field": draw_coil,
        "mep-maps": lambda: mep_maps.mep_maps(subject),
        "basis-error": draw_error,
    }


if __name__ == "__main__":
    try:
        app()
    except M2MError as error:
        console.print(f"Error: {error}", soft_wrap=True)
        raise SystemExit(1) from error
