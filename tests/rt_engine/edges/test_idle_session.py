"""Between pulses a session takes samples in larger pieces than they come in; while one waits, at once."""

from collections.abc import Callable
from typing import Any

import pytest

from rt_engine.session_streams import SessionStreams


def test_samples_are_taken_ten_milliseconds_at_a_time_until_a_pulse_waits(
    monkeypatch: pytest.MonkeyPatch, amplifier: Callable[..., Any], live: Callable[..., Any]
) -> None:
    pulled: list[tuple[int, int]] = []
    pull = SessionStreams.pull

    def note(self: SessionStreams, timeout_s: float, at_least: int = 1) -> Any:
        samples, stamps = pull(self, timeout_s, at_least)
        pulled.append((at_least, len(stamps)))
        return samples, stamps

    monkeypatch.setattr(SessionStreams, "pull", note)
    source = amplifier(block=2)
    running = live(source).start()
    for _ in range(3):
        source.wait_until_sent(source.pulse() + 200)
    trials = running.wait_for_trials(3)
    running.stop()
    assert [header.valid for header, _ in trials] == [True] * 3
    idle = [n for at_least, n in pulled if at_least == 20]
    assert {at_least for at_least, _ in pulled} == {1, 20}, "2 kHz, and while a pulse waits every block as it comes"
    assert sum(n >= 20 for n in idle) > 0.5 * len(idle), "but for those whose time was over"
