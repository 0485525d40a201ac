"""The solver of singular systems against a dense one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from rt_engine.errors import DataError
from trainer.efield.multigrid import COARSEST, Multigrid


def laplacian(n: int, contrast: float, seed: int, scale: float = 1.0) -> sparse.csr_matrix:
    """Make the matrix of a cube of n^3 nodes joined by random conductances."""
    generator = np.random.default_rng(seed)
    node = np.arange(n**3).reshape(n, n, n)
    pairs = np.concatenate(
        [np.stack([np.delete(node, -1, a).ravel(), np.delete(node, 0, a).ravel()]) for a in range(3)], axis=1
    )
    conductance = scale * contrast ** generator.random(pairs.shape[1])
    off = sparse.coo_matrix((conductance, tuple(pairs)), shape=(n**3, n**3))
    off = off + off.T
    return sparse.csr_matrix(sparse.diags_array(np.asarray(off.sum(axis=1)).ravel()) - off)


@given(
    contrast=st.sampled_from([1.0, 165.0, 1e4]),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-12, 1.0, 1e9]),
    size=st.sampled_from([5, 9]),
)
@settings(max_examples=12)
def test_solutions_are_those_of_a_dense_solver(contrast, seed, scale, size):
    assert 5**3 < COARSEST < 9**3  # one size is solved on the coarsest level alone, the other is not
    matrix = laplacian(size, contrast, seed, scale)
    right = np.random.default_rng(seed).normal(size=size**3)
    right -= right.mean()
    found, iterations, residual = Multigrid(matrix, 1e-9).solve(right)
    expected = np.linalg.pinv(matrix.toarray() / scale, hermitian=True) @ right / scale
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert residual <= 1e-9
    assert iterations < 80


def test_a_source_that_does_not_sum_to_zero_is_balanced():
    matrix = laplacian(6, 10.0, 0)
    right = np.random.default_rng(0).normal(size=216)
    system = Multigrid(matrix, 1e-9)
    np.testing.assert_allclose(system.solve(right + 5.0)[0], system.solve(right)[0], atol=1e-7)


def test_no_source_needs_no_step():
    x, iterations, residual = Multigrid(laplacian(4, 1.0, 0), 1e-6).solve(np.zeros(64))
    assert (iterations, residual) == (0, 0.0)
    np.testing.assert_array_equal(x, 0)


def test_what_is_not_finite_is_reported_not_looped_on():
    right = np.ones(64)
    right[3] = np.nan
    with pytest.raises(DataError, match="left nan of the right-hand side after 0 steps"):
        Multigrid(laplacian(4, 1.0, 0), 1e-6).solve(right)


def test_a_guess_of_another_head_is_refused():
    with pytest.raises(DataError, match=r"guess has \(27,\) nodes, this head \(64,\)"):
        Multigrid(laplacian(4, 1.0, 0), 1e-6).solve(np.ones(64), np.zeros(27))
