"""What a training step of the article's model (e) costs, in one form: time, memory, and the gradient that it follows.

A process of its own, so that its peak memory is its own: ``python -m trainer.step_cost`` reads a `StepCostTask` as JSON
from its only argument and writes a `StepCost` as JSON to stdout. `m2m bench training` compares two of them.
"""

import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from trainer.architectures.settings import Form, ModelName
from trainer.tensorflow_setup import set_up_tensorflow
from trainer.training_settings import FittingSettings

MODEL: ModelName = "direct-variational"
INSIDE_BIAS = 0.5
"""Bias of the last convolution: a fresh network's field then lies inside (0, 1), where no clipping hides a gradient."""


class StepCostTask(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes
    ----------
    form
        ``masked`` or ``dense``.
    mask
        File (.npy) with the (V, 3) voxels.
    box_shape
        Voxels of the box.
    gradients
        File (.npz) to write the gradients to, one array per trained weight.
    n_muscles, batch, steps, seed
        Length of the MEP vector, stimulations per step, steps to time, seed of weights and data.
    """

    form: Form
    mask: str
    box_shape: tuple[int, int, int]
    gradients: str
    n_muscles: int = 15
    batch: int = 8
    steps: int = 20
    seed: int = 0


class StepCost(msgspec.Struct, frozen=True, kw_only=True):
    """What came out.

    Attributes
    ----------
    step_ms
        Of each step but the first, which TensorFlow also traces.
    cpu_ms
        Processor time of the same: what it would be on a machine that does nothing else.
    base_mb
        Largest resident memory of the process before the first step, MB of 2^20 bytes: TensorFlow, weights and data.
    peak_mb
        The same after the last step.
    onednn
        Whether TensorFlow took oneDNN's kernels, as it does by itself where the processor has AVX512-VNNI.
    compiled
        Whether the masked decoder could be compiled (`trainer.architectures.native_library`).
    """

    step_ms: list[float]
    cpu_ms: list[float]
    base_mb: float
    peak_mb: float
    onednn: bool
    compiled: bool


def measure_step(task: StepCostTask) -> StepCost:
    """Time steps of training as `trainer.network_fitting` takes them, and write the gradients of the first weights."""
    import tensorflow as tf
    from tensorflow.python.framework.test_util import IsMklEnabled  # TensorFlow tells it nowhere else

    from trainer.architectures.family import InverseNetwork, build_network
    from trainer.architectures.native_library import native_library
    from trainer.network_fitting import fit_network

    voxel = np.load(task.mask)
    n = (task.steps + 1) * task.batch
    # One generator each: the first rows are then the same for any number of steps.
    x = np.random.default_rng([task.seed, 0]).random((n, len(voxel)), dtype=np.float32)
    y = np.random.default_rng([task.seed, 1]).random((n, task.n_muscles), dtype=np.float32)

    def fresh() -> InverseNetwork:
        network = build_network(MODEL, task.n_muscles, voxel, task.box_shape, form=task.form, seed=task.seed)
        network.decoder.convolutions[2].bias.assign([INSIDE_BIAS])
        return network

    done: list[tuple[float, float]] = []
    network = fresh()
    base = peak_memory_mb()
    fit_network(
        network,
        x,
        y,
        FittingSettings(epochs=1, batch_size=task.batch, seed=task.seed),
        stepped=lambda stage, epoch, step, steps: done.append((time.perf_counter(), time.process_time())),
    )
    peak = peak_memory_mb()

    network = fresh()
    (stage,) = network.stages
    variables = network.trainable(stage)
    noise = tf.random.stateless_normal((task.batch, network.latent), [task.seed, 1])
    with tf.GradientTape() as tape:
        loss = network.losses(stage, tf.constant(x[: task.batch]), tf.constant(y[: task.batch]), noise)["loss"]
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    np.savez(task.gradients, **{f"{k}": gradient.numpy() for k, gradient in enumerate(gradients)})
    step_ms, cpu_ms = (1e3 * np.diff(np.array(done), axis=0)).T.tolist()
    return StepCost(
        step_ms=step_ms,
        cpu_ms=cpu_ms,
        base_mb=base,
        peak_mb=peak,
        onednn=bool(IsMklEnabled()),
        compiled=native_library() is not None,
    )


def peak_memory_mb() -> float:
    """Return the largest resident memory that this process has had, MB.

    Linux' own count: what `getrusage` says there also counts the process that this one was forked from.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024.0
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 2.0**20 if sys.platform == "darwin" else largest / 1024.0


def main() -> None:
    """Measure what the command line asks for."""
    task = msgspec.json.decode(sys.argv[1], type=StepCostTask)
    set_up_tensorflow(threads=1)
    cost = measure_step(task)
    sys.stdout.write(msgspec.json.encode(cost).decode() + "\n")


if __name__ == "__main__":
    main()
