"""`m2m bench efield`: the solvers' and the basis' errors, and their times."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tools.commands.options import JsonOption
from tools.console import console, emit_json

SHARED_MESH = Path(__file__).resolve().parents[3] / "shared" / "data" / "mesh_and_coil" / "sphere3.msh"
"""Where a checkout for development has SimNIBS' mesh of three spheres beside it."""

QUICK_RESOLUTION_MM = 4.0
QUICK_PLACEMENTS = 6


def bench_efield(
    subject: Annotated[
        Path | None, typer.Option("--subject", help="Subject file. Default: the one that ships with the demo.")
    ] = None,
    placements: Annotated[int, typer.Option("--placements", "-n", min=1, help="Unseen placements to solve.")] = 60,
    resolution_mm: Annotated[
        float, typer.Option("--resolution-mm", min=0.5, max=10.0, help="Voxels of the three-layer sphere.")
    ] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the placements.")] = 2026,
    sphere_mesh: Annotated[
        Path | None, typer.Option("--sphere-mesh", help="Mesh of concentric spheres (.msh) for the tetrahedra.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Where heads are kept. Default: as `m2m subject build`.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A coarse sphere, no mesh, 6 placements: shows that it runs, not how well.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the E-field: solvers against the closed form, the basis against direct solves, and both by the clock.

    Makes the head of the subject's basis again if it is not in the cache (a minute), and solves for placements that the
    basis never saw (some seconds each).
    """
    import msgspec

    from rt_engine.edges.foreign_files import read_foreign_subject
    from tools.bench.efield import measure_efield, solver_of
    from tools.commands.subject import default_cache

    if quick:
        placements, resolution_mm = min(placements, QUICK_PLACEMENTS), max(resolution_mm, QUICK_RESOLUTION_MM)
    if sphere_mesh is None and not quick and SHARED_MESH.is_file():
        sphere_mesh = SHARED_MESH
    anatomy = read_foreign_subject(subject or Path(str(files("configs") / "demo" / "default.subject.h5")))
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("head", total=None)
        figures = measure_efield(
            anatomy,
            solver_of(anatomy, cache or default_cache()),
            placements=placements,
            resolution_mm=resolution_mm,
            seed=seed,
            sphere_mesh=sphere_mesh,
            told=lambda stage, done, of: progress.update(task, description=stage, completed=done, total=of),
        )
    values = msgspec.to_builtins(figures)
    table = Table(
        title=f"{anatomy.name}: basis of {figures.basis_rank} placements, {figures.basis_components} components",
        caption=figures.method,
    )
    table.add_column("figure", no_wrap=True)
    table.add_column("here", justify="right", no_wrap=True)
    for name, value in values.items():
        if name == "method" or value is None:
            continue
        is_share = name.endswith(("_error", "_residual", "_limit", "_refused")) and isinstance(value, float)
        table.add_row(name, f"{100 * value:.3g} %" if is_share else f"{value:.4g}")
    console.print(table)
    if as_json:
        emit_json(values)
