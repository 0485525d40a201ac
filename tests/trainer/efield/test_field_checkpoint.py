"""Solved fields survive what cuts a computation off, and are never mixed up with another's."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.errors import DataError, FileFormatError
from trainer.efield.field_checkpoint import FieldCheckpoint

KEY = "0" * 64
RECORD = 16 * 8 + 5 * 3 * 8 + 32


def pose(seed: int) -> np.ndarray:
    made = np.eye(4)
    made[:3, 3] = np.random.default_rng(seed).normal(size=3)
    return made


def field(seed: int) -> np.ndarray:
    return np.random.default_rng(1000 + seed).normal(size=(5, 3))


def keep(path: Path, *seeds: int) -> None:
    with FieldCheckpoint(path, KEY, 5) as kept:
        for seed in seeds:
            kept.add(pose(seed), field(seed))


def test_what_was_added_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    keep(tmp_path / "c", 1, 2)
    keep(tmp_path / "c", 3)
    with FieldCheckpoint(tmp_path / "c", KEY, 5) as kept:
        assert len(kept) == 3
        for seed in (1, 2, 3):
            np.testing.assert_array_equal(kept.get(pose(seed)), field(seed))
        assert kept.get(pose(4)) is None


@given(cut=st.integers(0, 2 * RECORD + 80))
def test_a_file_cut_off_anywhere_keeps_its_whole_records_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "c"
    keep(path, 1, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - cut, 0)])
    with FieldCheckpoint(path, KEY, 5) as kept:
        assert len(kept) == max(2 - -(-cut // RECORD), 0)
        kept.add(pose(2), field(2))
    with FieldCheckpoint(path, KEY, 5) as kept:
        np.testing.assert_array_equal(kept.get(pose(2)), field(2))


@given(place=st.integers(0, 2 * RECORD - 1), bit=st.integers(0, 7))
def test_a_damaged_record_is_never_given_out(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / "c"
    keep(path, 1, 2)
    content = bytearray(path.read_bytes())
    content[len(content) - 2 * RECORD + place] ^= 1 << bit
    path.write_bytes(content)
    with FieldCheckpoint(path, KEY, 5) as kept:
        assert len(kept) == (0 if place < RECORD else 1)
        assert kept.get(pose(2)) is None


def test_fields_of_another_head_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c"
    keep(path, 1)
    before = path.read_bytes()
    with pytest.raises(FileFormatError, match="another head"):
        FieldCheckpoint(path, "1" * 64, 5)
    assert path.read_bytes() == before


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("do not lose this: " * 20)
    with pytest.raises(FileFormatError, match="no solved fields"):
        FieldCheckpoint(path, KEY, 5)
    assert path.read_text() == "do not lose this: " * 20


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot write"):
        FieldCheckpoint(tmp_path / "none" / "c", KEY, 5)
