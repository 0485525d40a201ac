"""Mutated model files: the digest refuses what was changed, and what was signed anew is opened or refused in words."""

import shutil
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from rt_engine.errors import FileFormatError
from rt_engine.model_file import read_model_info
from tests.fuzz.counts import COUNTS, for_each_seed, in_words
from tests.fuzz.model_specimen import spoil_model, verdicts, write_specimen
from tests.fuzz.mutations import spoil_bytes

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
    counts: Counter[str] = Counter()
    for first in range(0, n, BATCH):
        folder = tmp_path / "batch"
        folder.mkdir()
        for seed in range(first, first + BATCH):
            (folder / f"{seed}.onnx").write_bytes(spoil_model(specimen, Random(seed)))
        for name, verdict in verdicts(sorted(folder.iterdir()), tmp_path / "names").items():
            kind, _, words = verdict.partition(": ")
            assert kind in ("opened", "M2MError", "refused in a child"), f"{name}: {verdict}"
            assert kind == "opened" or words.strip(), f"{name} is refused without a reason"
            counts[kind] += 1
        shutil.rmtree(folder)
    assert counts.total() == n
    assert counts["opened"] > 0, "some mutations harm nothing"
    assert counts["M2MError"] > n // 4
