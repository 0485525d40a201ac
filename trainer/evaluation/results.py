"""What an evaluation found: held-out estimates of a data set by all methods, and the file `*.eval.h5` of it.

Figures and report are made from it alone, so they can be made again without training anything again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.hdf5_file import read_hdf5, write_hdf5
from trainer.network_data import NetworkPreprocessing, Selection, scaled
from trainer.preprocessing import TrainingSet

EVALUATION_KIND = "m2m-evaluation"
EVALUATION_VERSION = 1
"""Version of the layout that this software writes, and the newest that it reads."""

SUFFIX = ".eval.h5"

NOT_TESTED = -1
"""Number of the fold of a row whose fold was not run."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Held-out estimates of n stimulations with m muscles and V voxels by all methods.

    Attributes
    ----------
    name : str
        Of the data set.
    training : TrainingSet
        The n rows that are left after the article's preprocessing; its field is in [0, 1] of the whole set's maximum.
    selection : Selection
        Which of all stimulations these rows are, and the counts of Table I.
    fold : dict of str to numpy.ndarray
        ``random`` and, where there are poses, ``blocks`` -> (n,) int64: number of the fold in which a row is tested,
        counted from 0; `NOT_TESTED` where that fold was not run.
    field : dict of str to dict of str to numpy.ndarray
        Kind of folds -> method -> (n, V) float32: the estimate by a model that was not fitted to the row, on the scale
        of `training.field`; NaN in rows that were not tested. Methods in the order of the report: ``mean-map``,
        ``knn``, ``ridge``, ``kernel-ridge``, then the article's models.
    normalised_meps : numpy.ndarray
        (n, m) float64 in [0, 1], scaled as for the networks, on all rows; NaN where missing.
    forward_meps : dict of str to numpy.ndarray
        ``m2m-net`` and ``constant`` -> (n, m) float64: held-out estimates of `normalised_meps` in the random folds; NaN
        in rows that were not tested. May be empty.
    settings : dict
        All settings, seeds and versions; JSON types.
    seconds : dict of str to float
        Method -> time of training, summed over folds, s.
    notes : tuple of str
        What is not as asked for, in words: folds that were not run, a kind of folds that cannot be made.
    """

    name: str
    training: TrainingSet
    selection: Selection
    fold: dict[str, npt.NDArray[np.int64]]
    field: dict[str, dict[str, npt.NDArray[np.float32]]]
    normalised_meps: npt.NDArray[np.float64]
    forward_meps: dict[str, npt.NDArray[np.float64]] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def article_meps(self) -> npt.NDArray[np.float64]:
        """(n, m) float64 in [0, 1]: amplitude by the muscle's largest, below an MEP zero, NaN where missing (II.C).

        This is what figures show and what "normalised" means in the article, whatever scale the networks were given.
        """
        published = NetworkPreprocessing(small_meps="zero", mep_scale="linear")
        amplitudes = self.training.amplitudes_uv
        return scaled(amplitudes, np.fmax.reduce(np.fmax(amplitudes, published.floor_uv), axis=0), published)

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods, in the report's order."""
        return tuple(dict.fromkeys(name for by_method in self.field.values() for name in by_method))

    def tested(self, kind: str) -> npt.NDArray[np.intp]:
        """Return the rows that were tested in a kind of folds, ascending."""
        return np.flatnonzero(self.fold[kind] != NOT_TESTED)

    def estimated(self, kind: str, method: str) -> npt.NDArray[np.float64]:
        """Return the (tested rows, V) estimates of a method in a kind of folds."""
        return self.field[kind][method][self.tested(kind)].astype(np.float64)

    def true(self, kind: str) -> npt.NDArray[np.float64]:
        """Return the (tested rows, V) true fields that belong to `estimated`."""
        return self.training.field[self.tested(kind)]


def write_evaluation(path: str | Path, evaluation: Evaluation) -> str:
    """Write an evaluation; the same evaluation gives the same bytes.

    Parameters
    ----------
    path : str or Path
        Where to write; a file already there is replaced in one step.
    evaluation : Evaluation
        What to write. The true fields are kept in V/m as float32, which is what they were made of.

    Returns
    -------
    str
        SHA-256 of the file, 64 hexadecimal digits.

    Raises
    ------
    DataError
        The evaluation contradicts itself, or the file cannot be written there.
    """
    check_evaluation(evaluation)
    training, selection = evaluation.training, evaluation.selection
    words = {
        "name": evaluation.name,
        "muscles": training.muscles,
        "box_shape": [int(side) for side in training.box_shape],
        "subject_sha256": training.subject_sha256,
        "training_notes": training.notes,
        "selection_notes": selection.notes,
        "methods": evaluation.methods,
        "settings": evaluation.settings,
        "seconds": evaluation.seconds,
        "notes": evaluation.notes,
    }
    counts = [(intensity, *of_applied) for intensity, of_applied in selection.counts.items()]
    arrays: dict[str, npt.NDArray[Any]] = {
        "words": np.frombuffer(json.dumps(words, ensure_ascii=False).encode(), np.uint8),
        "field_scale_v_per_m": np.asarray(training.field_scale_v_per_m, np.float64).reshape(1),
        "field_v_per_m": (training.field * training.field_scale_v_per_m).astype(np.float32),
        **{name: getattr(training, name) for name in _OF_TRAINING},
        "selection/kept": selection.kept,
        "selection/counts": np.asarray(counts, np.float64).reshape(-1, 3),
        "normalised_meps": evaluation.normalised_meps,
        **{f"fold/{kind}": fold for kind, fold in evaluation.fold.items()},
        **{f"forward/{name}": meps for name, meps in evaluation.forward_meps.items()},
    }
    for kind, by_method in evaluation.field.items():
        arrays |= {f"field/{kind}/{method}": estimate for method, estimate in by_method.items()}
    return write_hdf5(path, kind=EVALUATION_KIND, version=EVALUATION_VERSION, attributes={}, arrays=arrays)


def read_evaluation(path: str | Path) -> Evaluation:
    """Read and check an evaluation.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Evaluation
        What it holds.

    Raises
    ------
    FileFormatError
        No such file, not an evaluation, a newer version, truncated, damaged, or content that contradicts itself.
    """
    _, arrays = read_hdf5(path, kind=EVALUATION_KIND, version=EVALUATION_VERSION)
    try:
        evaluation = _assembled(json.loads(arrays["words"].tobytes().decode()), arrays)
        check_evaluation(evaluation)
    except KeyError as error:
        raise FileFormatError(f"{path} lacks {error}, which every evaluation has. Make it again.") from error
    except (DataError, ValueError, TypeError) as error:
        raise FileFormatError(f"{path} does not hold a usable evaluation: {error}") from error
    return evaluation


def check_evaluation(evaluation: Evaluation) -> None:
    """Check that an evaluation agrees with itself: shapes, and NaN exactly where nothing was tested.

    Parameters
    ----------
    evaluation : Evaluation
        What to check.

    Raises
    ------
    DataError
        The first thing that is wrong: what was found, what was expected.
    """
    n, v = evaluation.training.field.shape
    m = len(evaluation.training.muscles)
    if set(evaluation.field) != set(evaluation.fold):
        raise DataError(f"there are estimates for the folds {set(evaluation.field)}, but folds {set(evaluation.fold)}")
    expected: dict[str, tuple[npt.NDArray[Any], tuple[int, ...]]] = {
        "normalised_meps": (evaluation.normalised_meps, (n, m)),
        **{f"fold {kind}": (fold, (n,)) for kind, fold in evaluation.fold.items()},
        **{f"forward {name}": (meps, (n, m)) for name, meps in evaluation.forward_meps.items()},
    }
    for kind, by_method in evaluation.field.items():
        expected |= {f"field {kind} {method}": (estimate, (n, v)) for method, estimate in by_method.items()}
    for what, (array, shape) in expected.items():
        if array.shape != shape:
            raise DataError(f"{what} is {array.shape}; expected {shape}")
    if int(evaluation.selection.kept.sum()) != n:
        raise DataError(f"{evaluation.selection.kept.sum()} stimulations were kept, but there are {n}")
    for kind, by_method in evaluation.field.items():
        not_tested = evaluation.fold[kind] == NOT_TESTED
        for method, estimate in by_method.items():
            if not np.array_equal(~np.isfinite(estimate).all(axis=1), not_tested):
                raise DataError(f"field {kind} {method} is not finite where it was tested, or finite where it was not")


_OF_TRAINING = ("amplitudes_uv", "intensity_percent_rmt", "coil_mm", "voxel", "affine", "left_out_percent_rmt")
"""Arrays of `TrainingSet` that are kept as they are."""


def _assembled(words: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Evaluation:
    scale = float(arrays["field_scale_v_per_m"][0])
    training = TrainingSet(
        muscles=tuple(words["muscles"]),
        field=arrays["field_v_per_m"].astype(np.float64) / scale,
        field_scale_v_per_m=scale,
        box_shape=cast("tuple[int, int, int]", tuple(words["box_shape"])),
        subject_sha256=words["subject_sha256"],
        notes=tuple(words["training_notes"]),
        **{name: arrays[name] for name in _OF_TRAINING},
    )
    counts = {float(intensity): (int(kept), int(of)) for intensity, kept, of in arrays["selection/counts"]}
    selection = Selection(
        kept=arrays["selection/kept"].astype(bool), counts=counts, notes=tuple(words["selection_notes"])
    )

    def group(prefix: str) -> dict[str, npt.NDArray[Any]]:
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    by_kind: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for kind in sorted(group("fold/"), reverse=True):  # random before blocks
        found = group(f"field/{kind}/")
        by_kind[kind] = {method: found[method] for method in words["methods"] if method in found}
    return Evaluation(
        name=words["name"],
        training=training,
        selection=selection,
        fold={kind: arrays[f"fold/{kind}"] for kind in by_kind},
        field=by_kind,
        normalised_meps=arrays["normalised_meps"],
        forward_meps=group("forward/"),
        settings=words["settings"],
        seconds=words["seconds"],
        notes=tuple(words["notes"]),
    )
