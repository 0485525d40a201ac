"""A session full of faults, recorded: nothing of it is lost, and a replay gives the same to the bit."""

from pathlib import Path

import pytest

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


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Hearing:
    folder = tmp_path_factory.mktemp("session")
    recording = folder / "recording.xdf"
    hearing = Hearing(FaultySubject(*FAULTS, pulses=9), recording, trigger={"source": "marker"})
    try:
        return hearing.launch().ready().finish(9)
    finally:
        hearing.close()


@pytest.mark.parametrize("block", [1, 64, 4096])
def test_a_session_full_of_faults_is_replayed_to_the_bit(heard, block: int) -> None:
    summary = heard.running.summary
    digest, trials = replayed(Path(summary.recording), block)
    assert (digest.sha256_meps, digest.sha256_maps) == (summary.sha256_meps, summary.sha256_maps)
    assert [list(trial.reasons) for trial in trials] == [header.reasons for header, _ in heard.trials]
    assert [trial.t for trial in trials] == [header.t_pulse for header, _ in heard.trials]
    tracked = [trial.pose is not None and trial.pose.tracked for trial in trials]
    assert tracked == [header.pose_tracked for header, _ in heard.trials]


def test_its_pulses_are_right_or_say_why_not(heard) -> None:
    for pulse in (0, 2, 3, 5, 7, 8):
        heard.assert_right(pulse)
    assert [heard.of(pulse)[0].pose_tracked for pulse in (5, 7, 8)] == [True, False, True]
    heard.assert_invalid(1, "gap")
    heard.assert_invalid(6, "duplicate")
    assert sum(header.reasons == ["no_time"] for header, _ in heard.trials) == 1
