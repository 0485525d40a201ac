"""The plan of the second convolution with shared products, against the taps that it stands for."""

import numpy as np
import pytest

from tests.trainer.architectures.conftest import BOX
from trainer.architectures.needed_cells import NeededCells, needed_cells, parity_kernels
from trainer.architectures.term_plan import last_plan, term_kernels, term_plan


@pytest.fixture
def cells(sparse_mask: np.ndarray) -> NeededCells:
    return needed_cells(sparse_mask, BOX)


def test_terms_add_up_to_the_taps_that_they_stand_for(cells: NeededCells) -> None:
    rng = np.random.default_rng(0)
    plan = term_plan(cells)
    kernel, value = rng.normal(size=27), rng.normal(size=len(cells.coarse))
    by_tap = (parity_kernels() @ kernel).reshape(8, 8)
    taken = np.append(value, 0.0)[cells.second.tap]
    expected = (taken * by_tap[cells.second.parity]).sum(axis=1)

    rows = np.append(value, np.zeros(1 + len(plan.parents)))
    for k, (higher, lower) in enumerate(plan.parents):
        assert max(higher, lower) < plan.n_cells + 1 + k, "a difference before its parents"
        rows[plan.n_cells + 1 + k] = rows[higher] - rows[lower]
    found = np.zeros(len(cells.half))
    products = rows[plan.row] * (term_kernels() @ kernel)[plan.kernel]
    np.add.at(found, plan.reader, np.repeat(products, np.diff(plan.first)))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_no_product_is_made_twice_and_kernels_rise(cells: NeededCells) -> None:
    plan = term_plan(cells)
    assert len({*zip(plan.row.tolist(), plan.kernel.tolist(), strict=True)}) == len(plan.row)
    assert (np.diff(plan.kernel) >= 0).all()
    assert len(plan.reader) == 8 * len(cells.half) == plan.first[-1]
    assert plan.n_rows == plan.n_cells + 1 + len(plan.parents)


def test_whole_neighbourhoods_need_27_products_for_64_taps() -> None:
    voxel = np.argwhere(np.ones((16, 16, 16)))
    cells = needed_cells(voxel, (16, 16, 16))
    plan = term_plan(cells)
    assert len(cells.half) == 8**3
    # 4 coarse cells per axis: 4 by the cell itself, and as many differences of each parity.
    assert len(plan.row) == (3 * 4) ** 3


@pytest.mark.parametrize("final_kernel", [1, 3])
def test_the_last_plan_lists_each_read_by_voxel_and_by_cell(sparse_mask: np.ndarray, final_kernel: int) -> None:
    reads = needed_cells(sparse_mask, BOX, final_kernel=final_kernel).last
    plan = last_plan(reads)
    by_voxel = {
        (int(cell), voxel, int(combination))
        for voxel, taps in enumerate(zip(plan.cell, plan.combination, strict=True))
        for cell, combination in zip(*taps, strict=True)
        if cell >= 0
    }
    cell = np.repeat(np.arange(reads.n_in), np.diff(plan.first))
    by_cell = [*zip(cell.tolist(), plan.read_by.tolist(), plan.read_with.tolist(), strict=True)]
    assert len(by_cell) == len(by_voxel)
    assert set(by_cell) == by_voxel
    assert {c // 8 for _, _, c in by_cell} <= set(range(8))
    np.testing.assert_array_equal(plan.combination // 8, np.repeat(reads.parity[:, None], 8, axis=1))
