"""Mutated model and data files: the digest refuses what was changed; signed anew, it is opened or refused in words."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from rt_engine.errors import FileFormatError
from rt_engine.field.hdf5_file import USER_BLOCK
from rt_engine.field.stimulation_file import write_stimulation_set
from rt_engine.model_file import read_model_info
from tests.fuzz.counts import COUNTS, for_each_seed, in_words
from tests.fuzz.model_specimen import spoil_model, write_specimen
from tests.fuzz.mutations import spoil_bytes
from tests.fuzz.verdicts import open_models, read_stimulations, verdicts
from tests.trainer.conftest import make_stimulations

BATCH = 250


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_specimen(tmp_path_factory.mktemp("specimen") / "small.onnx")


@pytest.mark.parametrize("n", COUNTS)
def test_a_mutated_model_file_is_refused_by_its_digest(n: int, specimen: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"

    def check(random: Random) -> None:
        content = spoil_bytes(specimen, random)
        if content == specimen:
            return
        path.write_bytes(content)
        try:
            read_model_info(path)
        except FileFormatError as error:
            in_words(error)
        else:
            pytest.fail("a changed model file was taken for a good one")

    for_each_seed(n, check)


@pytest.mark.parametrize("n", [BATCH, *COUNTS[1:]])
def test_a_mutated_model_file_with_a_digest_that_fits_is_opened_or_refused_in_words(
    n: int, specimen: bytes, tmp_path: Path
) -> None:
    counts = spoil_and_read(n, lambda random: spoil_model(specimen, random), open_models, tmp_path)
    assert counts["opened"] > 0, "some mutations harm nothing"
    assert counts["M2MError"] > n // 4


@pytest.mark.parametrize("n", [100, *COUNTS[1:]])
def test_a_mutated_hdf5_file_with_a_digest_that_fits_is_read_or_refused_in_words(n: int, tmp_path: Path) -> None:
    path = tmp_path / "small.stim.h5"
    write_stimulation_set(path, make_stimulations(6))
    body = path.read_bytes()[USER_BLOCK:]

    def spoil(random: Random) -> bytes:
        spoilt = spoil_bytes(body, random, keep_length=random.random() < 0.8)
        line = f"m2m-hdf5 bytes={len(spoilt)} sha256={hashlib.sha256(spoilt).hexdigest()}\n"
        return line.encode().ljust(USER_BLOCK, b"\0") + spoilt

    counts = spoil_and_read(n, spoil, read_stimulations, tmp_path)
    assert counts["M2MError"] > 0


def spoil_and_read(
    n: int, spoil: Callable[[Random], bytes], read_all: Callable[[Path], bytes], scratch: Path
) -> Counter[str]:
    """Count what becomes of `n` spoilt files; none may end in anything but an error in words."""
    counts: Counter[str] = Counter()
    for first in range(0, n, BATCH):
        folder = scratch / "batch"
        folder.mkdir()
        for seed in range(first, min(first + BATCH, n)):
            (folder / str(seed)).write_bytes(spoil(Random(seed)))
        for name, verdict in verdicts(read_all, sorted(folder.iterdir()), scratch / "names").items():
            kind, _, words = verdict.partition(": ")
            assert kind in ("opened", "M2MError", "refused in a child"), f"{name}: {verdict}"
            assert kind == "opened" or words.strip(), f"{name} is refused without a reason"
            counts[kind] += 1
        shutil.rmtree(folder)
    assert counts.total() == n
    return counts
