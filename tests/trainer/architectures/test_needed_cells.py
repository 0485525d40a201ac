"""Which cells a mask needs, against upsampling and convolving the whole box with numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import correlate

from rt_engine.errors import DataError
from trainer.architectures.needed_cells import needed_cells, parity_kernels

BOX = (8, 12, 8)

masks = hnp.arrays(np.bool_, BOX, elements=st.booleans(), fill=st.just(False)).filter(lambda mask: mask.any())


def upsample(grid: np.ndarray) -> np.ndarray:
    return grid.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)


def test_each_kernel_tap_is_in_one_coarse_tap_of_every_parity() -> None:
    matrix = parity_kernels().reshape(8, 8, 27)
    np.testing.assert_array_equal(matrix.sum(axis=1), 1.0)


@given(masks, st.integers(0, 9))
def test_reading_coarse_taps_is_upsampling_and_convolving(mask: np.ndarray, seed: int) -> None:
    voxel = np.argwhere(mask)
    cells = needed_cells(voxel, BOX)
    rng = np.random.default_rng(seed)
    kernel, grid = rng.normal(size=(3, 3, 3)), rng.normal(size=cells.half_shape)
    whole = correlate(upsample(grid), kernel, mode="constant")
    folded = (parity_kernels() @ kernel.ravel()).reshape(8, 8)
    known = np.append(grid[tuple(cells.half.T)], 0.0)
    found = (known[cells.last.tap] * folded[cells.last.parity]).sum(axis=1)
    np.testing.assert_allclose(found, whole[mask], atol=1e-12)


@given(masks)
def test_the_first_convolution_reads_its_27_neighbours_and_zeros_outside(mask: np.ndarray) -> None:
    cells = needed_cells(np.argwhere(mask), BOX)
    number = np.arange(1.0, np.prod(cells.latent_shape) + 1).reshape(cells.latent_shape)
    known = np.append(number.ravel()[cells.latent], 0.0)
    around = np.pad(number, 1)
    for row, (i, j, k) in enumerate(cells.coarse):
        np.testing.assert_array_equal(known[cells.first.tap[row]], around[i : i + 3, j : j + 3, k : k + 3].ravel())


@given(masks)
def test_no_cell_is_listed_that_nobody_reads(mask: np.ndarray) -> None:
    cells = needed_cells(np.argwhere(mask), BOX)
    assert set(cells.last.tap.ravel()) >= set(range(len(cells.half)))
    assert set(cells.second.tap.ravel()) >= set(range(len(cells.coarse)))
    assert set(cells.first.tap.ravel()) >= set(range(len(cells.latent)))


@given(masks)
def test_readers_are_the_taps_the_other_way_round(mask: np.ndarray) -> None:
    cells = needed_cells(np.argwhere(mask), BOX)
    reads = cells.second
    for out, (parity, taps) in enumerate(zip(reads.parity, reads.tap, strict=True)):
        for tap, cell in enumerate(taps):
            if cell < reads.n_in:
                assert reads.reader[parity, tap, cell] == out
    assert (reads.reader < len(reads.parity)).sum() == (reads.tap < reads.n_in).sum()
    assert (cells.first.reader < len(cells.coarse)).sum() == (cells.first.tap < cells.first.n_in).sum()


def test_outputs_of_one_parity_lie_together() -> None:
    mask = np.random.default_rng(0).random(BOX) < 0.2
    assert (np.diff(needed_cells(np.argwhere(mask), BOX).second.parity) >= 0).all()


def test_a_final_kernel_of_one_needs_only_the_cells_above_the_voxels() -> None:
    cells = needed_cells(np.array([[4, 5, 6]]), BOX, final_kernel=1)
    np.testing.assert_array_equal(cells.half, [[2, 2, 3]])


@pytest.mark.parametrize(
    ("voxel", "box", "message"),
    [
        (np.array([[0, 0, 0]]), (8, 10, 8), "multiples of 4"),
        (np.zeros((0, 3), int), BOX, "V > 0"),
        (np.array([[0, 12, 0]]), BOX, "leave the box"),
        (np.array([[-1, 0, 0]]), BOX, "leave the box"),
    ],
)
def test_what_fits_no_network_is_refused(voxel: np.ndarray, box: tuple[int, int, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        needed_cells(voxel, box)
