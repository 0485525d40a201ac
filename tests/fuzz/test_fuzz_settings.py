"""Mutated settings files: each is understood or refused with a reason, and never does more."""

import contextlib
import tomllib
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rt_engine.edges.bound_socket import refuse_public
from rt_engine.errors import M2MError
from rt_engine.muscles import ARTICLE_MUSCLES
from rt_engine.settings import Settings, load_settings, parse_settings
from tests.conftest import ROOT
from tests.fuzz.counts import COUNTS, for_each_seed, in_words
from tests.fuzz.mutations import spoil_bytes, spoil_tree

EXAMPLE = b"""
[streams.emg]
source_id = "abc"
channels = { "EMG 1" = "FDI" }
[streams.markers]
name = "Markers"
[trigger]
source = "marker"
marker_labels = ["TMS", "1"]
[mep]
window_ms = [15, 45.5]
muscle_window_ms = { FDI = [18, 50] }
status = { NO_MEP = "mark" }
[timing]
ring_s = 12
[publish]
address = "tcp://[::1]:5556"
control_address = "tcp://localhost:*"
"""
FILES = [EXAMPLE, *(path.read_bytes() for path in sorted((ROOT / "configs").glob("*.toml")))]
TREES: list[dict[str, Any]] = [tomllib.loads(content.decode()) for content in FILES]


def use(settings: Settings) -> None:
    """Do with good settings what a session does with them before it looks for streams."""
    settings.criteria(ARTICLE_MUSCLES)
    settings.sweep(ARTICLE_MUSCLES)
    settings.policy()
    refuse_public(settings.publish.address, False, "publish.address")


@pytest.mark.parametrize("n", COUNTS)
def test_a_mutated_settings_file_is_understood_or_refused(n: int, tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    refused = 0

    def check(random: Random) -> None:
        nonlocal refused
        path.write_bytes(spoil_bytes(random.choice(FILES), random))
        try:
            use(load_settings(path))
        except M2MError as error:
            refused += in_words(error)

    for_each_seed(n, check)
    assert refused > n // 10


@pytest.mark.parametrize("n", COUNTS)
def test_mutated_settings_from_a_recording_are_understood_or_refused(n: int) -> None:
    def check(random: Random) -> None:
        tree = spoil_tree(random.choice(TREES), random)
        with contextlib.suppress(M2MError):
            use(parse_settings(tree))

    for_each_seed(n, check)
