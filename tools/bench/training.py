"""`m2m bench training`: a training step of the published network against the masked one, each in a process of its own.

Weights and data are random, the mask is a subject's. Knows nothing of the command line; the steps themselves are taken
in `trainer.step_cost`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import M2MError
from trainer.architectures.settings import Form
from trainer.step_cost import StepCost, StepCostTask

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
"""Environment of the processes: one processor, no GPU, no chatter."""


OneDnn = Literal["auto", "on", "off"]

FORMS: tuple[Form, ...] = ("dense", "masked")


class TrainingFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of `m2m bench training --json`.

    Attributes
    ----------
    ratio, dense_ms, masked_ms
        Medians of one step of Direct Variational in one TensorFlow thread, ms, and their quotient.
    cpu_ratio, dense_cpu_ms, masked_cpu_ms
        The same of processor time, which other programs on the machine change less.
    memory_ratio, dense_mb, masked_mb
        By how much steps raise the largest resident memory of their process, MB, and the quotient.
    process_memory_ratio, dense_peak_mb, masked_peak_mb
        The same of the whole processes: with TensorFlow itself, weights and data, some 700 MB.
    max_grad_rel_diff
        Largest ||difference|| / ||gradient|| over the trained weights, same weights, batch and noise, nothing clipped.
    onednn
        Whether TensorFlow took oneDNN's kernels, which make the dense step several times faster.
    compiled
        Whether the masked decoder was compiled, which makes the masked step twice as fast.
    batch, voxels
        Stimulations per step; voxels of the mask.
    dense_steps, masked_steps
        Steps that were timed.
    """

    ratio: float
    cpu_ratio: float
    memory_ratio: float
    process_memory_ratio: float
    max_grad_rel_diff: float
    dense_ms: float
    masked_ms: float
    dense_cpu_ms: float
    masked_cpu_ms: float
    dense_mb: float
    masked_mb: float
    dense_peak_mb: float
    masked_peak_mb: float
    onednn: bool
    compiled: bool
    batch: int
    voxels: int
    dense_steps: int
    masked_steps: int


def measure_training(
    voxel: NDArray[np.integer],
    box_shape: tuple[int, int, int],
    *,
    batch: int = 8,
    dense_steps: int = 3,
    masked_steps: int = 60,
    n_muscles: int = 15,
    seed: int = 0,
    onednn: OneDnn = "auto",
    told: Callable[[Form], None] = lambda form: None,
) -> TrainingFigures:
    """Measure both forms, one after the other.

    Parameters
    ----------
    voxel : numpy.ndarray
        (V, 3) int, the mask.
    box_shape : tuple of int
        Voxels of the box.
    batch : int
        Stimulations per step.
    dense_steps, masked_steps : int
        Steps to time; a dense one takes seconds.
    n_muscles : int
        Length of the MEP vector.
    seed : int
        Of weights, data and noise.
    onednn : str
        ``on`` or ``off`` for oneDNN's kernels in both forms; ``auto`` leaves it to TensorFlow.
    told : callable
        Called with the form that is measured next.

    Raises
    ------
    M2MError
        If a process fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "mask.npy", voxel)
        costs: dict[Form, StepCost] = {}
        gradients: dict[Form, list[NDArray[np.float32]]] = {}
        steps: dict[Form, int] = {"masked": masked_steps, "dense": dense_steps}
        for form, number in steps.items():
            told(form)
            task = StepCostTask(
                form=form,
                mask=str(folder / "mask.npy"),
                box_shape=box_shape,
                gradients=str(folder / f"{form}.npz"),
                n_muscles=n_muscles,
                batch=batch,
                steps=number,
                seed=seed,
            )
            costs[form] = _measured(task, onednn)
            with np.load(task.gradients) as stored:
                gradients[form] = [stored[str(k)] for k in range(len(stored.files))]
    dense_ms, masked_ms = (float(np.median(costs[form].step_ms)) for form in FORMS)
    dense_cpu, masked_cpu = (float(np.median(costs[form].cpu_ms)) for form in FORMS)
    # At least a page: a step that fits into what was freed before does not raise the peak at all.
    own = {form: max(cost.peak_mb - cost.base_mb, 2.0**-8) for form, cost in costs.items()}
    return TrainingFigures(
        ratio=dense_ms / masked_ms,
        cpu_ratio=dense_cpu / masked_cpu,
        memory_ratio=own["dense"] / own["masked"],
        process_memory_ratio=costs["dense"].peak_mb / costs["masked"].peak_mb,
        max_grad_rel_diff=max(
            float(np.linalg.norm(one - other) / np.linalg.norm(one))
            for one, other in zip(gradients["dense"], gradients["masked"], strict=True)
        ),
        dense_ms=dense_ms,
        masked_ms=masked_ms,
        dense_cpu_ms=dense_cpu,
        masked_cpu_ms=masked_cpu,
        dense_mb=own["dense"],
        masked_mb=own["masked"],
        dense_peak_mb=costs["dense"].peak_mb,
        masked_peak_mb=costs["masked"].peak_mb,
        onednn=costs["dense"].onednn,
        compiled=costs["masked"].compiled,
        batch=batch,
        voxels=len(voxel),
        dense_steps=dense_steps,
        masked_steps=masked_steps,
    )


def _measured(task: StepCostTask, onednn: OneDnn) -> StepCost:
    """Measure in a new process."""
    chosen = {} if onednn == "auto" else {"TF_ENABLE_ONEDNN_OPTS": "1" if onednn == "on" else "0"}
    done = subprocess.run(
        [sys.executable, "-m", "trainer.step_cost", msgspec.json.encode(task).decode()],
        env=os.environ | QUIET | chosen,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise M2MError(
            f"the process that measures the {task.form} step ended with {done.returncode}: {last}. With too little "
            "memory (the dense step needs some GB), a smaller --batch helps."
        )
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=StepCost)
