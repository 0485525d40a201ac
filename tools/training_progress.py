"""What a person sees of a training: a line per epoch, and a bar with the time that is left."""

from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from tools.console import console
from trainer.training_checkpoint import EpochReport


class TrainingProgress:
    """Shows a training on stderr, while it is entered; hand its methods to `trainer.trained_network.train_network`."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
        self._bar = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stepped(self, stage: str, epoch: int, step: int, steps: int) -> None:
        """Move the bar within an epoch."""
        if self._task is None:
            self._task = self._bar.add_task("", total=1.0, left="")
        self._bar.update(self._task, description=f"{stage}, epoch {epoch}", completed=step / steps)

    def told(self, report: EpochReport) -> None:
        """Write an epoch's line."""
        console.print(Text(epoch_line(report)), soft_wrap=True)
        if self._task is not None:
            self._bar.update(self._task, left=f"{duration(report.seconds_left)} left at most")


def epoch_line(report: EpochReport) -> str:
    """Return an epoch in words."""
    parts = [f"{report.stage} {report.epoch}/{report.epochs}: loss {report.loss:.4g}"]
    parts.append(f"squared error {report.squared_error:.4g}")
    if report.validation_squared_error is not None:
        parts.append(f"validation {report.validation_squared_error:.4g}")
    if report.validation_nrmse is not None:
        parts.append(f"NRMSE {report.validation_nrmse:.3f}")
    parts.append(f"rate {report.learning_rate:.3g}")
    parts.append(f"{report.seconds:.1f} s, {duration(report.seconds_left)} left at most")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
