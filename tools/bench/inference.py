"""`m2m bench inference`: the published network's graph against the masked one, one map at a time, in one run.

Weights are random, the mask is a subject's. Knows nothing of the command line.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import ModelError
from rt_engine.onnx_session import CUDA, Provider, open_session
from trainer.architectures.needed_cells import needed_cells
from trainer.folded_weights import random_weights
from trainer.network_graph import dense_network, masked_network

WARM_UP = 2
MASKED_PER_DENSE = 20
"""The masked network is measured between the dense one's runs, so that both see the same machine."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Medians with one number of threads, ms."""

    threads: int
    dense_ms: float
    masked_ms: float
    ratio: float


class InferenceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of `m2m bench inference --json`.

    Attributes
    ----------
    ratio, dense_ms, masked_ms
        Medians at batch 1 and with the first number of threads, ms, and their quotient. On a GPU they include the
        copies to it and back.
    max_abs_diff
        Largest difference between the two maps inside the mask; both are in [0, 1].
    provider
        ONNX Runtime's execution provider that both ran on, as its sessions report it.
    notice
        Why that is not CUDA where it was tried; else None.
    threads
        All numbers of threads that were measured.
    voxels, half_cells, coarse_cells
        Of the mask, and of the two coarser grids as far as they are needed.
    dense_multiply_adds, masked_multiply_adds
        Of the three convolutions, for one map.
    """

    ratio: float
    max_abs_diff: float
    dense_ms: float
    masked_ms: float
    provider: str
    notice: str | None
    threads: list[Timing]
    voxels: int
    half_cells: int
    coarse_cells: int
    dense_multiply_adds: int
    masked_multiply_adds: int


def measure_inference(
    voxel: NDArray[np.integer],
    box_shape: tuple[int, int, int],
    *,
    n_muscles: int = 15,
    repeats: int = 15,
    threads: Sequence[int] = (1, 2),
    provider: Provider = "auto",
    seed: int = 0,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> InferenceFigures:
    """Time both graphs.

    Parameters
    ----------
    voxel : numpy.ndarray
        (V, 3) int, the mask.
    box_shape : tuple of int
        Voxels of the box.
    n_muscles : int
        Length of the MEP vector.
    repeats : int
        Runs of the dense graph per number of threads.
    threads : sequence of int
        Numbers of threads.
    provider : str
        As `rt_engine.onnx_session.open_session`.
    seed : int
        Of weights and MEPs.
    told : callable
        Called with dense runs done and to do.

    Raises
    ------
    ModelError
        If the two maps are not the same network's.
    """
    cells = needed_cells(voxel, box_shape)
    weights = random_weights(n_muscles, cells, seed=seed)
    graphs = [build(weights, cells).SerializeToString() for build in (dense_network, masked_network)]
    rng = np.random.default_rng(seed)
    timings, difference, used, notice = [], 0.0, "", None
    for number, count in enumerate(threads):
        opened = [open_session(graph, provider=provider, threads=count) for graph in graphs]
        used, notice = opened[0][1:]
        dense, masked = (_Runner(session, found) for session, found, _ in opened)
        taken: tuple[list[float], list[float]] = ([], [])
        for k in range(WARM_UP + repeats):
            meps = rng.random((1, n_muscles), dtype=np.float32)
            box, dense_ms = dense(meps)
            several = [masked(meps) for _ in range(MASKED_PER_DENSE)]
            inside = box[0, 0][tuple(cells.voxel.T)]
            difference = max(difference, float(np.abs(inside - several[-1][0][0]).max()))
            if k >= WARM_UP:
                taken[0].append(dense_ms)
                taken[1].extend(ms for _, ms in several)
            told(number * (WARM_UP + repeats) + k + 1, len(threads) * (WARM_UP + repeats))
        middle = [float(np.median(each)) for each in taken]
        timings.append(Timing(threads=count, dense_ms=middle[0], masked_ms=middle[1], ratio=middle[0] / middle[1]))
    if not difference < 1e-3:
        raise ModelError(f"dense and masked maps differ by {difference:.2g}; expected the same. Please report this.")
    first = timings[0]
    return InferenceFigures(
        ratio=first.ratio,
        max_abs_diff=difference,
        dense_ms=first.dense_ms,
        masked_ms=first.masked_ms,
        provider=used,
        notice=notice,
        threads=timings,
        voxels=len(cells.voxel),
        half_cells=len(cells.half),
        coarse_cells=len(cells.coarse),
        dense_multiply_adds=_dense_multiply_adds(box_shape),
        masked_multiply_adds=len(cells.coarse) * 27 * 64 + len(cells.half) * (8 * 64 * 32 + 64 * 32),
    )


def _dense_multiply_adds(box_shape: tuple[int, int, int]) -> int:
    full = int(np.prod(box_shape))
    return full // 64 * 27 * 64 + full // 8 * 27 * 64 * 32 + full * 27 * 32


class _Runner:
    """Runs a session once, by the clock.

    On a GPU through ONNX Runtime's I/O binding, which copies straight from and to the host's memory; the copies are in
    the time, as they are in a pulse's.
    """

    def __init__(self, session: Any, provider: str) -> None:
        self._session = session
        self._bound = provider == CUDA

    def __call__(self, meps: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        begin = time.perf_counter()
        if self._bound:
            binding = self._session.io_binding()
            binding.bind_cpu_input("meps", meps)
            binding.bind_output("field", "cpu")
            self._session.run_with_iobinding(binding)
            (field,) = binding.copy_outputs_to_cpu()
        else:
            (field,) = self._session.run(["field"], {"meps": meps})
        return field, 1e3 * (time.perf_counter() - begin)
