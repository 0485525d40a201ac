"""Five minutes through real streams, recorded by LabRecorder: blocks of any size give what the live session gave.

One subject with a drifting, jittering amplifier that loses, repeats and delays packets is heard by two sessions at
once, one by its trigger channel and one by its markers.
"""

from pathlib import Path

import pytest

from tests.rt_engine.edges.conftest import wait_until
from tests.rt_engine.edges.fault_session import FaultySubject, Hearing
from tests.rt_engine.edges.test_record_and_replay import replayed

N_PULSES, INTERVAL_S = 240, 1.25
LOST, REPEATED, LATE = 6, 9, 12
FAULTS = (
    "drift:ppm=80",
    "jitter:ms=0.3",
    f"lost:pulse={LOST}",
    f"duplicated:pulse={REPEATED}",
    f"stamps-late:pulse={LATE},ms=8",
)
BLOCKS = (1, 7, 64, 4096)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_five_recorded_minutes_are_the_same_to_the_bit_in_blocks_of_any_size(tmp_path: Path) -> None:
    subject = FaultySubject(*FAULTS, pulses=N_PULSES, interval_s=INTERVAL_S, block_samples=8, lead_in_s=2.0)
    paths = {source: tmp_path / source / "recording.xdf" for source in ("ttl", "marker")}
    for path in paths.values():
        path.parent.mkdir()
    hearings = {source: Hearing(subject, path, trigger={"source": source}) for source, path in paths.items()}
    try:
        for hearing in hearings.values():
            hearing.launch()
        for hearing in hearings.values():
            wait_until(lambda h=hearing.running: h.states("READY") or h.error, "READY")
        subject.start()
        wait_until(lambda: len(subject.sent) == N_PULSES, "the last pulse", 2.0 * N_PULSES * INTERVAL_S)
        summaries, told = {}, {}
        for source, hearing in hearings.items():
            hearing.running.wait_for_trials(N_PULSES)
            summaries[source] = hearing.running.stop()
            told[source] = [header for header, _ in hearing.running.of("trial")]
    finally:
        for hearing in hearings.values():
            hearing.close()
    for source, summary in summaries.items():
        headers = told[source]
        reasons = {header.pulse: header.reasons for header in headers if header.reasons}
        assert reasons == {LOST: ["gap"], REPEATED: ["duplicate"]}, source
        assert summary.pulses_served == N_PULSES - 2
        for block in BLOCKS:
            digest, trials = replayed(paths[source], block)
            assert (digest.sha256_meps, digest.sha256_maps) == (summary.sha256_meps, summary.sha256_maps), block
            assert [trial.t for trial in trials] == [header.t_pulse for header in headers]
            assert [trial.offsets_ms for trial in trials] == [header.offsets_ms for header in headers]
            assert [list(trial.reasons) for trial in trials] == [header.reasons for header in headers]
