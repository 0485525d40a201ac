"""Matching rows: each row of both tables ends up matched or refused with a reason, once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_engine.errors import DataError
from trainer.importers.intensity import column_intensities, given_intensities
from trainer.importers.join import Side, join


def side(name="table", time_s=(), label=(), **column):
    n = max([len(time_s), len(label), *map(len, column.values())])
    rows = tuple(f"row {number}" for number in range(n))
    return Side(name, rows, column, tuple(label), np.array(time_s, float))


def matched(matches):
    return [(match.left, match.right) for match in matches if not match.refused]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)), st.sampled_from(["key", "index"]))
def test_every_row_is_matched_or_refused_once(left, right, by):
    a = side(key=[str(key) for key in left])
    b = side(key=[str(key) for key in right])
    matches = join(a, b, by)
    assert sorted(m.left for m in matches if m.left is not None) == list(range(len(left)))
    assert sorted(m.right for m in matches if m.right is not None) == list(range(len(right)))
    assert all((m.left is not None and m.right is not None) or m.refused for m in matches)
    if by == "key":
        for m in matches:
            if not m.refused:
                assert left[m.left] == right[m.right]
                assert left.count(left[m.left]) == right.count(right[m.right]) == 1


def test_by_order_needs_as_many_rows():
    assert matched(join(side(a="xyz"), side(b="uvw"), "order")) == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(DataError, match="has 3 rows, .* 2: they cannot be matched by order"):
        join(side(a="xyz"), side(b="uv"), "order")


def test_keys_compare_as_numbers_and_columns_whatever_their_case():
    a = side(Index=("01", "2.0", "", "9"))
    b = side(index=("2", "1", "3", "(null)"))
    matches = join(a, b, "index")
    assert matched(matches) == [(0, 1), (1, 0)]
    assert [m.refused for m in matches if m.refused] == [
        "no index",
        "no MEPs with index '9'",
        "no pose or field with index '3'",
        "no index",
    ]


def test_a_key_that_stands_there_twice_is_no_key():
    matches = join(side(key=("a", "a", "b")), side(key=("a", "b")), "key")
    assert matched(matches) == [(2, 1)]
    assert sum("more than once" in m.refused for m in matches) == 3


def test_columns_may_be_called_differently():
    assert matched(join(side(recordingTime=("7", "8")), side(ms=("8", "7")), "recordingTime=ms")) == [(0, 1), (1, 0)]


def test_names_are_labels_or_a_column():
    a = side(label=("Sample 1", "Sample 2"))
    assert matched(join(a, side(sample=("Sample 2", "Sample 1")), "name")) == [(0, 1), (1, 0)]


def test_index_counts_rows_where_there_is_no_such_column():
    assert matched(join(side(label=("a", "b")), side(index=("2", "1")), "index")) == [(0, 1), (1, 0)]


def test_a_column_that_is_not_there():
    with pytest.raises(DataError, match="right has no column 'key'; it has other"):
        join(side("left", key=("a",)), side("right", other=("a",)), "key")


def test_by_time_within_the_tolerance_and_with_an_offset():
    a = side(time_s=(10.0, 15.0, 20.0, np.nan))
    b = side(time_s=(20.3, 9.9, 30.0))
    matches = join(a, b, "time")
    assert matched(matches) == [(0, 1), (2, 0)]
    assert [m.refused for m in matches if m.refused][:2] == [
        "no MEPs within 0.5 s (the nearest are 5.1 s off)",
        "no time",
    ]
    assert matched(join(a, side(time_s=(5.0,)), "time", offset_s=10)) == [(1, 0)]


def test_two_pulses_within_the_tolerance_are_not_guessed():
    matches = join(side(time_s=(10.0, 20.0)), side(time_s=(9.8, 10.2, 20.0)), "time")
    assert matched(matches) == [(1, 2)]
    assert "more than one pulse within 0.5 s" in matches[0].refused


def test_clocks_on_the_wall_are_read_from_date_and_time():
    a = side(time_s=(1645451377.798, 1645451380.0))
    b = side(Date=("2022-02-21",) * 2, Time=("13:49:40.000", "13:49:37.800"))
    assert matched(join(a, b, "time")) == [(0, 1), (1, 0)]


def test_a_clock_without_date_is_compared_by_the_time_of_day():
    a = side(time_s=(1645451377.798, 1645451380.0))
    assert matched(join(a, side(Time=("13:49:40", "13:49:37.8")), "time")) == [(0, 1), (1, 0)]
    assert matched(join(side(time_s=(49777.8,)), side(time_s=(1645451377.8,)), "time")) == [(0, 0)]


def test_no_clock_at_all():
    with pytest.raises(DataError, match="no column time_s"):
        join(side(time_s=(1.0,)), side(a=("x",)), "time")
    with pytest.raises(DataError, match="no times at all"):
        join(side(time_s=(np.nan,)), side(time_s=(1.0,)), "time")


def test_one_intensity_follows_from_another():
    given_ = given_intensities(np.array([110.0, 120, 0]), "percent-rmt")
    full = given_.completed(rmt_percent_mso=40, max_didt_a_per_us=170)
    np.testing.assert_allclose(full.percent_mso, [44, 48, np.nan])
    np.testing.assert_allclose(full.didt_a_per_us, [74.8, 81.6, np.nan])
    back = given_intensities(full.didt_a_per_us, "a-per-us").completed(rmt_percent_mso=40, max_didt_a_per_us=170)
    np.testing.assert_allclose(back.percent_rmt, given_.percent_rmt)


def test_what_is_measured_is_kept():
    measured = given_intensities(np.array([84.0]), "a-per-us")
    assert measured.completed(rmt_percent_mso=None, max_didt_a_per_us=None).didt_a_per_us[0] == 84
    assert np.isnan(measured.completed(rmt_percent_mso=50, max_didt_a_per_us=None).percent_rmt[0])


@pytest.mark.parametrize(
    ("column", "cells", "mso", "rmt"),
    [("% MSO", "45%", 45, np.nan), ("percent_rmt", "120", np.nan, 120), ("Stim. Power A", "45,5", 45.5, np.nan)],
)
def test_a_columns_name_can_tell_its_unit(column, cells, mso, rmt):
    found = column_intensities((cells,), column, None)
    np.testing.assert_array_equal([found.percent_mso[0], found.percent_rmt[0]], [mso, rmt])


BAD = {
    "no unit": (lambda: column_intensities(("45",), "power", None), "not stated"),
    "word": (lambda: column_intensities(("full",), "% MSO", None), "row 1: expected an intensity"),
    "unknown unit": (lambda: given_intensities(np.ones(1), "volts"), "expected percent-mso"),
    "fractions": (lambda: given_intensities(np.array([0.45, 0.6]), "percent-mso"), "fractions"),
    "over 100": (lambda: given_intensities(np.array([130.0]), "percent-mso"), "to 100"),
    "A/s": (lambda: given_intensities(np.array([8.4e7]), "a-per-us"), "unit another one"),
    "negative": (lambda: given_intensities(np.array([-5.0, 50]), "percent-mso"), "expected 0 or more"),
    "threshold": (
        lambda: given_intensities(np.array([120.0]), "percent-rmt").completed(
            rmt_percent_mso=0.4, max_didt_a_per_us=None
        ),
        "RMT is 0.4 %",
    ),
    "too strong": (
        lambda: given_intensities(np.array([140.0]), "percent-rmt").completed(
            rmt_percent_mso=80, max_didt_a_per_us=None
        ),
        "up to 112 %",
    ),
    "didt of A/s": (
        lambda: given_intensities(np.array([50.0]), "percent-mso").completed(
            rmt_percent_mso=None, max_didt_a_per_us=1.7e8
        ),
        "largest dI/dt",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_intensities_that_cannot_be_are_refused(case):
    make, message = BAD[case]
    with pytest.raises(DataError, match=message):
        make()
