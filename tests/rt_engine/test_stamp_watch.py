"""Lost and repeated samples show in the stamps of those after them; lateness, drift and jitter do not look like it."""

from bisect import bisect_right
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rt_engine.stamp_watch import SETTLED_S, StampWatch, Verdict

RATE_HZ = 2000.0
EVERY = 83
T0 = 3.6e5
Floats = NDArray[np.float64]


def _watch(stamps: Floats, cuts: Iterable[int] = (), gap_s: float = 0.02) -> tuple[StampWatch, list[Verdict]]:
    """Hand stamps over as the assembler does, cut at some places besides."""
    watch = StampWatch(RATE_HZ, gap_s, EVERY)
    verdicts = []
    borders = sorted({*cuts, len(stamps)})
    index = knot_start = 0
    while index < len(stamps):
        since = (index - knot_start) % EVERY
        if since == 0 and watch.suspect_from is None:
            watch.add_knot(index, float(stamps[index]))
        end = min(index + EVERY - since, borders[bisect_right(borders, index)])
        index += watch.scan(index, stamps[index:end])
        if watch.verdict is not None:
            verdicts.append(watch.verdict)
            knot_start = watch.verdict.start if watch.verdict.broken else knot_start
    return watch, verdicts


def _times(n: int, ppm: float = 0.0) -> Floats:
    return np.asarray(T0 + np.arange(n) * (1.0 + ppm * 1e-6) / RATE_HZ, dtype=np.float64)


def _jitter(n: int, packet: int, sd_s: float, seed: int) -> Floats:
    return np.repeat(np.random.default_rng(seed).normal(0.0, sd_s, n // packet + 1), packet)[:n]


@given(ppm=st.floats(-200.0, 200.0), at=st.integers(2100, 8000), lost=st.integers(1, 5000))
def test_one_lost_sample_is_found_where_stamps_are_regular(ppm: float, at: int, lost: int) -> None:
    stamps = _times(14_000, ppm)
    _, verdicts = _watch(np.delete(stamps, slice(at, at + lost)))
    (verdict,) = verdicts
    assert verdict.broken
    assert (verdict.begin, verdict.start) == (at, at)
    assert verdict.shift_s == pytest.approx(lost / RATE_HZ, rel=3e-4, abs=2e-5)


@pytest.mark.parametrize("packet", [1, 2, 8, 27, 64])
@pytest.mark.parametrize("sd_ms", [0.2, 0.5, 1.0, 2.0])
def test_a_loss_of_five_sds_of_the_jitter_is_found_whatever_the_packets(packet: int, sd_ms: float) -> None:
    lost = max(2, round(5.0 * sd_ms * RATE_HZ / 1000.0))
    n, at = 24_000, 15_000 // packet * packet
    stamps = _times(n, 50.0) + _jitter(n, packet, sd_ms / 1000.0, seed=packet)
    _, verdicts = _watch(stamps)
    assert not any(verdict.broken for verdict in verdicts)
    _, verdicts = _watch(np.delete(stamps, slice(at, at + lost)))
    (broken,) = [verdict for verdict in verdicts if verdict.broken]
    assert abs(broken.begin - at) <= max(64, packet)
    assert broken.shift_s == pytest.approx(lost / RATE_HZ, abs=1.5e-3 * sd_ms)


@given(
    at=st.integers(2100, 6000),
    packet=st.sampled_from([1, 2, 8, 27, 64, 400]),
    late_s=st.floats(0.001, 1.5),
    packets=st.integers(1, 3),
)
def test_stamps_that_are_late_and_come_back_are_no_loss(at: int, packet: int, late_s: float, packets: int) -> None:
    stamps = _times(10_000)
    length = min(packet * packets, 400)
    stamps[at : at + length] += late_s
    _, verdicts = _watch(stamps)
    assert [verdict.broken for verdict in verdicts] == [False]
    assert verdicts[0].begin == at


@given(at=st.integers(2100, 4000), held_s=st.floats(0.005, 1.2), packet=st.sampled_from([2, 8, 27]))
def test_a_sender_that_was_held_up_and_catches_up_has_lost_nothing(at: int, held_s: float, packet: int) -> None:
    """Its packets are stamped as they leave, all at once after the hold-up: each is less late than the one before."""
    true = _times(12_000)
    leaves = true.copy()
    leaves[at:] = np.maximum(leaves[at:], true[at] + held_s)
    first = np.arange(at, 12_000, packet)
    late = np.zeros(12_000)
    late[at:] = np.repeat(leaves[first] - true[first], packet)[: 12_000 - at]
    _, verdicts = _watch(true + late)
    assert not any(verdict.broken for verdict in verdicts)


@pytest.mark.parametrize("ppm", [-20_000.0, -200.0, 200.0, 20_000.0, 74_000.0])
def test_a_rate_beside_the_nominal_one_is_no_gap(ppm: float) -> None:
    _, verdicts = _watch(_times(120_000, ppm))
    assert verdicts == []


def test_a_rate_that_changes_slowly_is_no_gap() -> None:
    ppm = np.linspace(-100.0, 100.0, 240_000)
    stamps = T0 + np.cumsum((1.0 + ppm * 1e-6) / RATE_HZ)
    _, verdicts = _watch(stamps)
    assert verdicts == []


@given(at=st.integers(2100, 6000), repeated=st.integers(1, 400))
def test_samples_sent_twice_with_the_same_stamps_are_a_step_back(at: int, repeated: int) -> None:
    stamps = _times(10_000)
    twice = np.insert(stamps, at, stamps[at - repeated : at])
    _, verdicts = _watch(twice)
    (verdict,) = verdicts
    assert verdict.broken
    assert (verdict.begin, verdict.start) == (at, at)
    assert verdict.shift_s == pytest.approx(-repeated / RATE_HZ, abs=1e-9)


def test_a_packet_sent_again_behind_the_next_one_belongs_to_neither_side() -> None:
    stamps = _times(10_000)
    at, packet = 5000, 16
    twice = np.insert(stamps, at, stamps[at - 2 * packet : at - packet])
    _, verdicts = _watch(twice)
    (verdict,) = verdicts
    assert verdict.broken
    assert (verdict.begin, verdict.start) == (at, at + packet)
    assert verdict.shift_s == pytest.approx(-packet / RATE_HZ, abs=1e-9)


def test_a_verdict_comes_a_quarter_of_a_second_after_the_loss_and_not_before() -> None:
    stamps = np.delete(_times(10_000), slice(5000, 5016))
    settled = round(SETTLED_S * RATE_HZ)
    watch, verdicts = _watch(stamps[: 5000 + settled])
    assert watch.suspect_from == 5000
    assert verdicts == []
    watch, verdicts = _watch(stamps[: 5000 + settled + 1])
    assert watch.suspect_from is None
    assert len(verdicts) == 1


def test_in_the_first_second_only_what_is_set_as_a_gap_is_looked_into() -> None:
    stamps = _times(4000)
    assert _watch(np.delete(stamps, slice(1000, 1030)))[1] == []
    (verdict,) = _watch(np.delete(stamps, slice(1000, 1050)))[1]
    assert verdict.broken
    (verdict,) = _watch(np.delete(stamps, slice(1000, 1010)), gap_s=0.002)[1]
    assert verdict.broken


def test_the_smallest_loss_that_can_be_found_is_said() -> None:
    regular, _ = _watch(_times(10_000))
    assert regular.threshold_s * RATE_HZ == pytest.approx(0.75, abs=1e-6)
    jittering, _ = _watch(_times(40_000) + _jitter(40_000, 8, 2e-3, seed=2))
    assert 0.004 < jittering.threshold_s < 0.007
    fresh, _ = _watch(_times(500))
    assert fresh.threshold_s == 0.02


@settings(max_examples=30)
@given(
    seed=st.integers(0, 99),
    packet=st.sampled_from([1, 8, 27]),
    sd_s=st.sampled_from([0.0, 1e-4, 2e-3, 0.03]),
    lost=st.lists(st.tuples(st.integers(100, 9000), st.integers(1, 60)), max_size=3),
    late=st.lists(st.tuples(st.integers(100, 9000), st.integers(1, 600), st.floats(-0.1, 1.0)), max_size=3),
    every=st.sampled_from([1, 7, 64, 4096]),
)
def test_it_does_not_matter_how_the_samples_come_in_blocks(
    seed: int, packet: int, sd_s: float, lost: list[tuple[int, int]], late: list[tuple[int, int, float]], every: int
) -> None:
    stamps = _times(10_000, 80.0) + _jitter(10_000, packet, sd_s, seed)
    for begin, n, delay_s in late:
        stamps[begin : begin + n] += delay_s
    for begin, n in lost:
        stamps = np.delete(stamps, slice(begin, begin + n))
    whole, expected = _watch(stamps)
    cut, observed = _watch(stamps, range(0, len(stamps), every))
    assert observed == expected
    assert cut.threshold_s == whole.threshold_s
    assert cut.suspect_from == whole.suspect_from


@pytest.mark.parametrize("value", [0.0, 5.0, -1e9])
def test_stamps_that_stand_still_are_given_up_and_looked_at_anew(value: float) -> None:
    """No line goes through them: every two seconds there is a break, and no end to the suspicion before."""
    stamps = _times(20_000)
    stamps[4000:] = value
    _, verdicts = _watch(stamps)
    assert all(verdict.broken for verdict in verdicts)
    assert len(verdicts) >= 2


@pytest.mark.parametrize("packet", [50, 100])
def test_a_driver_that_gives_a_whole_packet_one_stamp_is_not_in_doubt_all_the_time(packet: int) -> None:
    """Each sample of a packet of 50 ms is 0.5 ms further from its stamp: jitter, and no suspicion in each packet."""
    n = 60_000
    stamps = _times(n)[np.arange(n) // packet * packet]
    watch, verdicts = _watch(stamps, gap_s=0.04)
    assert not any(verdict.broken for verdict in verdicts)
    assert len(verdicts) < 5
    assert watch.threshold_s > packet / RATE_HZ / 2.0
