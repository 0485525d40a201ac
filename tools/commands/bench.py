"""`m2m bench`: figures that the requirements are checked by, each a subcommand."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tools.commands.bench_efield import bench_efield
from tools.commands.bench_inference import bench_inference
from tools.commands.bench_latency import bench_latency
from tools.commands.bench_replay import bench_replay
from tools.commands.bench_training import bench_training
from tools.commands.options import JsonOption
from tools.console import console, emit_json

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Measure latency, the speed of replays, the E-field's accuracy and speed, the simulated subject, and what the "
    "masked networks save.",
)


app.command("efield")(bench_efield)
app.command("inference")(bench_inference)
app.command("latency")(bench_latency)
app.command("replay")(bench_replay)
app.command("training")(bench_training)


@app.command("subject")
def bench_subject(
    subject: Annotated[
        Path | None, typer.Option("--subject", help="Subject file. Default: the one that ships with the demo.")
    ] = None,
    pulses: Annotated[int, typer.Option("--pulses", "-n", min=50, help="Stimulations of the protocol.")] = 1200,
    seed: Annotated[int, typer.Option(help="Seed of the session.")] = 1,
    subject_seed: Annotated[int, typer.Option(help="Seed of the person.")] = 0,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Folds of the baselines' validation.")] = 10,
    emg: Annotated[bool, typer.Option("--emg/--no-emg", help="Measure the MEPs in simulated EMG.")] = True,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one setting of the simulated subject, as KEY=VALUE. Repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the simulated subject with people: variability, size and number of MEPs, and what the baselines reach.

    Simulates the article's protocol on the subject's own E-field and cross-validates all baselines on it. Minutes.
    """
    import msgspec

    from tools.bench.subject import AIMS, measure_subject
    from tools.commands.simulate import chosen_session, given_subject

    given = {"seed": seed, "subject_seed": subject_seed, "protocol.pulses": pulses}
    settings = chosen_session(None, overrides, given)
    anatomy, _ = given_subject(subject)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("E-fields", total=None)
        figures = measure_subject(
            anatomy,
            settings,
            n_folds=folds,
            with_emg=emg,
            told=lambda stage, done, of: progress.update(task, description=stage, completed=done, total=of),
        )
    values = msgspec.to_builtins(figures)
    table = Table(
        title=f"{anatomy.name}: {figures.pulses} stimulations, {figures.folds} folds, field: {figures.field}",
        caption=f"RMT {figures.rmt_percent_mso:.1f} % of the stimulator's output; "
        f"data set made in {figures.dataset_s:.0f} s",
    )
    table.add_column("figure", no_wrap=True)
    for heading in ("here", "expected"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("after")
    for aim in AIMS:
        value = values[aim.name]
        colour = "green" if aim.low <= value <= aim.high else "red"
        table.add_row(
            aim.name + (f", {aim.unit}" if aim.unit else ""),
            f"[{colour}]{value:.3g}[/]",
            f"{aim.low:g} to {aim.high:g}",
            aim.source,
        )
    console.print(table)
    if as_json:
        emit_json(values)
