"""A training's curves for TensorBoard, where they are asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainer.training_checkpoint import EpochReport

FIGURES = (
    "loss", "squared_error", "kl", "validation_squared_error", "validation_nrmse", "learning_rate", "seconds",
)  # fmt: skip
"""What is drawn, each per stage."""


@contextmanager
def summaries(log_dir: str | Path | None) -> Iterator[Any]:
    """Give a writer of TensorBoard's files, or None where no folder is named."""
    if log_dir is None:
        yield None
        return
    writer = tf.summary.create_file_writer(str(log_dir))
    try:
        yield writer
    finally:
        writer.close()


def summarise(writer: Any, report: EpochReport, epoch: int) -> None:
    """Write an epoch's figures.

    Parameters
    ----------
    writer
        From `summaries`.
    report : EpochReport
        The epoch.
    epoch : int
        Its number, counted through all stages.
    """
    if writer is None:
        return
    with writer.as_default(step=epoch):
        for name in FIGURES:
            value = getattr(report, name)
            if value is not None:
                tf.summary.scalar(f"{report.stage}/{name}", value)
    writer.flush()
