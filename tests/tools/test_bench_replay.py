"""`m2m bench replay`: the figures that other programs read."""

import json

import pytest
from typer.testing import CliRunner

from tools.cli import app

KEYS = {
    "times_real_time", "times_real_time_cpu", "seconds", "pulses", "served", "block", "breaks", "identical",
    "compared_s",
}  # fmt: skip


@pytest.mark.parametrize("more", [[], ["--set", "trigger.source=marker", "--jitter-ms", "0.5"]])
def test_all_pulses_are_served_and_all_block_sizes_give_the_same(more: list[str]) -> None:
    result = CliRunner().invoke(app, ["bench", "replay", "--hours", "0.01", "--compared", "12", "--json", *more])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert set(figures) == KEYS
    assert figures["seconds"] == 36.0
    assert figures["pulses"] == figures["served"] == 7
    assert figures["identical"] is True
    assert figures["breaks"] == 0
    assert figures["times_real_time"] > 0.0
