"""Two sessions have equal digests only if all amplitudes and maps agree to the bit, in order."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.result_digest import ResultDigest

PULSES = st.lists(
    st.tuples(
        st.lists(st.floats(width=32), min_size=2, max_size=2), st.lists(st.floats(width=32), min_size=3, max_size=3)
    ),
    max_size=4,
)


def _digest(pulses: list[tuple[list[float], list[float]]]) -> tuple[str, str]:
    digest = ResultDigest()
    for mep_uv, field in pulses:
        digest.add(np.array(mep_uv, dtype=np.float32), np.array(field, dtype=np.float32))
    return digest.sha256_meps, digest.sha256_maps


def _bytes(pulses: list[tuple[list[float], list[float]]], which: int) -> bytes:
    return b"".join(np.array(pulse[which], dtype="<f4").tobytes() for pulse in pulses)


@given(a=PULSES, b=PULSES)
def test_digests_agree_exactly_where_the_bits_do(a: list, b: list) -> None:
    for which in (0, 1):
        assert (_digest(a)[which] == _digest(b)[which]) == (_bytes(a, which) == _bytes(b, which))


@given(pulses=PULSES)
def test_a_digest_is_the_sha256_of_the_little_endian_bytes(pulses: list) -> None:
    assert _digest(pulses) == tuple(hashlib.sha256(_bytes(pulses, which)).hexdigest() for which in (0, 1))


def test_the_order_counts() -> None:
    one, two = ([1.0, 2.0], [0.1, 0.2, 0.3]), ([3.0, 4.0], [0.4, 0.5, 0.6])
    assert _digest([one, two]) != _digest([two, one])


def test_layout_and_byte_order_of_an_array_do_not_count() -> None:
    digest, other = ResultDigest(), ResultDigest()
    digest.add(np.array([1.0, 2.0], dtype=np.float32), np.array([3.0, 5.0], dtype=np.float32))
    other.add(np.array([1.0, 0.0, 2.0, 0.0], dtype=">f4")[::2], [3.0, 5.0])
    assert (digest.sha256_meps, digest.sha256_maps) == (other.sha256_meps, other.sha256_maps)
