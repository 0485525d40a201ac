"""A session full of faults, recorded: nothing of it is lost, and a replay gives the same to the bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rt_engine.health import State
from tests.rt_engine.edges.conftest import wait_until
from tests.rt_engine.edges.fault_session import FaultySubject, Hearing
from tests.rt_engine.edges.test_record_and_replay import replayed

FAULTS = (
    "drift:ppm=300",
    "jitter:ms=0.3",
    "lost:pulse=1,at_ms=20,samples=30",
    "marker-late:pulse=2,ms=250",
    "marker-double:pulse=3,ms=20",
    "marker-nan:pulse=4",
    "nan:pulse=5,channel=FDI",
    "duplicated:pulse=6,at_ms=20,samples=30",
    "pose-lost:pulse=7,at_ms=-250,for_ms=300",
)


RESTART = ("restart:pulse=2,at_ms=120,for_ms=300",)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Hearing]]:
    """Run a session full of faults and one whose amplifier is started again, at the same time."""
    folders = {name: tmp_path_factory.mktemp("session") for name in ("full", "restarted")}
    full = Hearing(FaultySubject(*FAULTS, pulses=9), folders["full"] / "recording.xdf", trigger={"source": "marker"})
    restarted = Hearing(FaultySubject(*RESTART, pulses=100, interval_s=0.4), folders["restarted"] / "recording.xdf")
    both = {"full": full, "restarted": restarted}
    try:
        for hearing in both.values():
            hearing.launch()
        for hearing in both.values():
            hearing.ready()
        full.finish(9)
        running = restarted.running
        wait_until(lambda: running.states(State.DEGRADED) or running.error, "DEGRADED")
        wait_until(lambda: running.of("health")[-1][0].state == State.RUNNING or running.error, "RUNNING again")
        restarted.stop_after(len(running.of("trial")) + 3)
        yield both
    finally:
        for hearing in both.values():
            hearing.close()


@pytest.mark.parametrize("block", [1, 64, 4096])
@pytest.mark.parametrize("name", ["full", "restarted"])
def test_a_session_full_of_faults_is_replayed_to_the_bit(sessions, name: str, block: int) -> None:
    heard = sessions[name]
    summary = heard.running.summary
    digest, trials = replayed(Path(summary.recording), block)
    assert [list(trial.reasons) for trial in trials] == [header.reasons for header, _ in heard.trials]
    assert (digest.sha256_meps, digest.sha256_maps) == (summary.sha256_meps, summary.sha256_maps)
    assert [trial.t for trial in trials] == [header.t_pulse for header, _ in heard.trials]
    tracked = [trial.pose is not None and trial.pose.tracked for trial in trials]
    assert tracked == [header.pose_tracked for header, _ in heard.trials]


def test_its_pulses_are_right_or_say_why_not(sessions) -> None:
    heard = sessions["full"]
    for pulse in (0, 2, 3, 5, 7, 8):
        heard.assert_right(pulse)
    assert [heard.of(pulse)[0].pose_tracked for pulse in (5, 7, 8)] == [True, False, True]
    heard.assert_invalid(1, "gap")
    heard.assert_invalid(6, "duplicate")
    assert sum(header.reasons == ["no_time"] for header, _ in heard.trials) == 1


@pytest.mark.parametrize("name", ["full", "restarted"])
def test_its_folder_is_whole(sessions, m2m, name: str) -> None:
    heard = sessions[name]
    told = m2m("session", "verify", Path(heard.running.summary.recording).parent, "--json").json
    assert told["problems"] == []
    assert (told["pulses"], told["identical"], told["missing"]) == (len(heard.trials), len(heard.trials), 0)
