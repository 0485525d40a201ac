"""The ring holds the last samples under their absolute index, whatever blocks they came in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.sample_ring import SampleRing


def _numbered(first: int, n: int, n_channels: int = 2) -> np.ndarray:
    """Return samples that name their own index and channel."""
    index = np.arange(first, first + n, dtype=np.float32)[:, None]
    return (index + np.arange(n_channels, dtype=np.float32) / 8.0).astype(np.float32)


@given(capacity=st.integers(1, 12), blocks=st.lists(st.integers(0, 30), max_size=20), data=st.data())
def test_a_ring_is_the_tail_of_the_list_of_all_samples(capacity: int, blocks: list[int], data: st.DataObject) -> None:
    ring = SampleRing(capacity, 2)
    everything = np.empty((0, 2), dtype=np.float32)
    for n in blocks:
        block = _numbered(len(everything), n)
        ring.append(block)
        everything = np.concatenate((everything, block))
        assert ring.end == len(everything)
        assert ring.start == max(0, len(everything) - capacity)
    if ring.end > ring.start:
        first = data.draw(st.integers(ring.start, ring.end - 1))
        last = data.draw(st.integers(first, ring.end - 1))
        np.testing.assert_array_equal(ring.read(first, last), everything[first : last + 1])


@given(capacity=st.integers(1, 12), n=st.integers(0, 40), first=st.integers(-50, 50), last=st.integers(-50, 50))
def test_reading_what_the_ring_does_not_hold_is_an_error(capacity: int, n: int, first: int, last: int) -> None:
    ring = SampleRing(capacity, 1)
    ring.append(_numbered(0, n, 1))
    if ring.start <= first <= last < ring.end:
        assert ring.read(first, last).shape == (last - first + 1, 1)
    else:
        with pytest.raises(IndexError, match="asked for"):
            ring.read(first, last)


def test_what_was_read_does_not_change_when_more_samples_come() -> None:
    ring = SampleRing(4, 1)
    ring.append(_numbered(0, 4, 1))
    read = ring.read(0, 3)
    ring.append(_numbered(4, 4, 1))
    np.testing.assert_array_equal(read, _numbered(0, 4, 1))


def test_a_block_longer_than_the_ring_leaves_its_tail() -> None:
    ring = SampleRing(4, 1)
    ring.append(_numbered(0, 3, 1))
    ring.append(_numbered(3, 11, 1))
    assert (ring.start, ring.end) == (10, 14)
    np.testing.assert_array_equal(ring.read(10, 13), _numbered(10, 4, 1))
