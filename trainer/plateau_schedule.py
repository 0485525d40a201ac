"""When the learning rate falls, and when training stops: the article's schedule (II.E).

The rate falls by a factor after some epochs without improvement of the training loss, and training stops after more
of them. The article asks for an improvement "by at least a factor of 1e-5", which is relative; Keras' callbacks of the
same purpose take an absolute one.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from trainer.training_settings import FittingSettings


@dataclass(frozen=True)
class Plateau:
    """Where a stage of training stands.

    Attributes
    ----------
    learning_rate : float
        Of the next epoch.
    best : float
        Smallest loss that counted as an improvement.
    since_best : int
        Epochs since then.
    since_change : int
        Epochs since the later of that and the last change of the learning rate.
    """

    learning_rate: float
    best: float = math.inf
    since_best: int = 0
    since_change: int = 0

    def after(self, loss: float, settings: FittingSettings) -> "Plateau":
        """Return where training stands after one more epoch.

        Parameters
        ----------
        loss : float
            The epoch's training loss; not negative.
        settings : FittingSettings
            Factor, patience and smallest improvement.
        """
        if loss < self.best * (1.0 - settings.min_delta):  # infinity times a positive number is infinity
            return Plateau(self.learning_rate, loss)
        counted = replace(self, since_best=self.since_best + 1, since_change=self.since_change + 1)
        if counted.since_change < settings.reduce_patience:
            return counted
        return replace(counted, learning_rate=self.learning_rate * settings.reduce_factor, since_change=0)

    def reached(self, settings: FittingSettings) -> bool:
        """Whether training has waited for an improvement long enough."""
        return self.since_best >= settings.stop_patience


def plateau_after(losses: Iterable[float], settings: FittingSettings) -> Plateau:
    """Return where a stage stands after epochs with these training losses."""
    plateau = Plateau(settings.learning_rate)
    for loss in losses:
        plateau = plateau.after(loss, settings)
    return plateau
