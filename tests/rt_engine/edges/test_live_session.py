"""A live session over real LSL streams: what a laboratory would see, in good and bad hours."""

import numpy as np
import pylsl
import pytest

from rt_engine.edges.lsl_inlets import seen_streams
from rt_engine.errors import StreamError
from rt_engine.health import State
from rt_engine.mep import MepStatus
from rt_engine.muscles import ARTICLE_MUSCLES


def pulses_one_by_one(amplifier, running, n, until):
    for done in range(n):
        amplifier.pulse()
        running.wait_for_trials(done + 1)
    return running.wait_for_trials(n)


def test_each_pulse_gets_the_amplitudes_of_the_very_samples_sent(amplifier, live, until):
    source = amplifier()
    running = live(source).start()
    trials = pulses_one_by_one(source, running, 3, until)
    for sample, (header, arrays) in zip(source.pulse_samples, trials, strict=True):
        assert header.valid
        assert header.trigger_source == "ttl"
        assert header.t_pulse_raw == pytest.approx(source.time_of(sample), abs=1e-6)
        # LSL's estimate of a clock offset, here 0, is worse on a loaded machine, and says so.
        assert header.t_pulse == pytest.approx(source.time_of(sample), abs=1e-3 + header.t_uncertainty)
        np.testing.assert_allclose(arrays["mep_uv"], source.true_amplitude_uv(sample), rtol=1e-6)
    maps = running.of("map")
    assert [header.pulse for header, _ in maps] == [0, 1, 2]
    assert running.of("session")[0][0].muscles == list(ARTICLE_MUSCLES)
    assert maps[0][1]["field"].shape == (running.of("geometry")[0][0].n_voxels,)
    assert running.states(State.RUNNING)
    assert running.stop().pulses_served == 3


def test_markers_serve_pulses_as_the_trigger_channel_does(amplifier, live, until):
    source = amplifier()
    running = live(source, trigger={"source": "marker"}).start()
    early = source.pulse(in_samples=60)
    source.markers.push_sample(["TMS"], source.time_of(early))  # before its samples
    running.wait_for_trials(1)
    late = source.pulse()
    source.wait_until_sent(late + 200)
    source.markers.push_sample(["TMS"], source.time_of(late))  # after its samples
    source.markers.push_sample(["TMS"], source.time_of(late) + 0.002)  # 2 ms after another
    trials = running.wait_for_trials(3)
    assert all(header.valid and header.trigger_source == "marker" for header, _ in trials)
    np.testing.assert_allclose(trials[0][1]["mep_uv"], source.true_amplitude_uv(early), rtol=1e-6)
    np.testing.assert_allclose(trials[1][1]["mep_uv"], source.true_amplitude_uv(late), rtol=1e-6)
    np.testing.assert_allclose(trials[2][1]["mep_uv"], source.true_amplitude_uv(late + 4), rtol=1e-6)


def test_channels_may_come_in_any_order(amplifier, live, until):
    source = amplifier(ARTICLE_MUSCLES[::-1])
    running = live(source).start()
    (_, arrays), *_ = pulses_one_by_one(source, running, 1, until)
    np.testing.assert_allclose(arrays["mep_uv"], source.true_amplitude_uv(source.pulse_samples[0])[::-1], rtol=1e-6)


@pytest.mark.parametrize(("unit", "uv_per_unit"), [("mV", 1e3), ("V", 1e6), ("volts", 1e6)])
def test_amplitudes_are_microvolts_whatever_the_stream_s_unit(amplifier, live, until, unit, uv_per_unit):
    source = amplifier(unit=unit, uv_per_unit=uv_per_unit)
    running = live(source).start()
    (_, arrays), *_ = pulses_one_by_one(source, running, 1, until)
    np.testing.assert_allclose(arrays["mep_uv"], source.true_amplitude_uv(source.pulse_samples[0]), rtol=1e-6)


def test_a_unit_that_cannot_be_true_is_refused_before_the_start(amplifier, live):
    source = amplifier(unit="microvolts", uv_per_unit=1e6)  # volts that call themselves microvolts
    with pytest.raises(StreamError, match=r"SD of .* uV.*unit"):
        live(source).start()


def test_a_missing_muscle_is_named_before_the_start(amplifier, live, until):
    source = amplifier(ARTICLE_MUSCLES[:-1])
    running = live(source)
    with pytest.raises(StreamError, match="no channel for BRD"):
        running.start()
    (failed, *_) = until(lambda: running.states(State.FAILED), "the message that says so")
    assert failed.reason.startswith("the EMG stream has no channel for BRD")


def test_a_nan_sample_costs_one_muscle_of_one_trial(amplifier, live, until):
    source = amplifier()
    running = live(source).start()
    source.pulse(in_samples=200, poison=(60, ARTICLE_MUSCLES.index("ADM")))
    running.wait_for_trials(1)
    source.pulse()
    (first, first_arrays), (second, _) = running.wait_for_trials(2)
    status = dict(zip(ARTICLE_MUSCLES, first.status, strict=True))
    assert status.pop("ADM") == MepStatus.SAMPLES_MISSING.name
    assert all(MepStatus.SAMPLES_MISSING.name not in text for text in status.values())
    assert np.isnan(first_arrays["mep_uv"][ARTICLE_MUSCLES.index("ADM")])
    assert first.valid
    assert first.confidence == "low"
    assert "samples_missing:ADM" in first.confidence_reasons
    assert np.isfinite(running.of("map")[0][1]["field"]).all()
    assert MepStatus.SAMPLES_MISSING.name not in "".join(second.status)


def test_while_a_pulse_waits_for_its_samples_the_engine_rehearses(amplifier, live, until, monkeypatch):
    source = amplifier()
    running = live(source).start()
    engine = running.session._parts.engine
    rehearsed = []
    true_rehearse = engine.rehearse
    monkeypatch.setattr(engine, "rehearse", lambda: rehearsed.append(engine.assembler.n_pending) or true_rehearse())
    n_before = running.of("health")[-1][0].n_samples
    until(lambda: running.of("health")[-1][0].n_samples > n_before + 200, "samples without a pulse")
    assert not rehearsed
    (served, arrays), *_ = pulses_one_by_one(source, running, 1, until)
    assert set(rehearsed) == {1}
    assert served.valid
    np.testing.assert_allclose(arrays["mep_uv"], source.true_amplitude_uv(source.pulse_samples[0]), rtol=1e-6)


def test_a_stopped_stream_degrades_the_session_and_expires_its_pulses(amplifier, live, until):
    source = amplifier()
    running = live(source, trigger={"source": "marker"}, timing={"expire_s": 0.3}).start()
    until(lambda: running.of("health")[-1][0].n_samples > 0, "samples")  # else the pause is no gap in what was heard
    source.pause()
    until(lambda: running.states(State.DEGRADED), "DEGRADED")
    assert "no EMG sample" in running.states(State.DEGRADED)[0].reason
    source.markers.push_sample(["TMS"])
    (lost, _), *_ = running.wait_for_trials(1)
    assert not lost.valid
    assert lost.reasons == ["expired"]
    source.go_on()
    # Not RUNNING alone: on a slow machine, samples sent before the pause can come after DEGRADED, and the session then
    # runs for a moment before it is silent.
    until(lambda: (last := running.of("health")[-1][0]).state == State.RUNNING and last.n_gaps, "RUNNING after the gap")
    assert running.of("health")[-1][0].n_gaps == 1
    n_before = running.of("health")[-1][0].n_samples
    until(lambda: running.of("health")[-1][0].n_samples > n_before + 400, "a baseline after the gap")
    sample = source.pulse()
    source.wait_until_sent(sample + 200)  # on a slow machine they could come too late for a pulse that waits for them
    source.markers.push_sample(["TMS"], source.time_of(sample))
    (_, _), (served, arrays) = running.wait_for_trials(2)
    assert served.valid
    np.testing.assert_allclose(arrays["mep_uv"], source.true_amplitude_uv(sample), rtol=1e-6)


def test_a_pose_stream_that_sends_no_poses_is_refused_before_the_start(amplifier, live, unique):
    source = amplifier()
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("poses", "Pose", 7, pylsl.IRREGULAR_RATE, pylsl.cf_float32, unique))
    with pytest.raises(StreamError, match="sends 7 numbers per sample; expected 17"):
        live(source, streams={"pose": {"source_id": unique}}).start()
    del outlet


def test_no_stream_at_all_says_what_was_looked_for_and_what_is_there(amplifier, live):
    source = amplifier()
    source.source_id = "nobody-has-this"
    with pytest.raises(StreamError, match="no emg stream with .*nobody-has-this"):
        live(source, streams={"emg": {"source_id": "nobody-has-this"}, "resolve_timeout_s": 1.0}).start()


def test_two_streams_that_match_are_not_chosen_between(amplifier, live, until):
    first, second = amplifier(), amplifier()
    both = {first.source_id, second.source_id}
    until(lambda: both <= {info.source_id() for info in seen_streams(0.5)}, "both streams to be seen")
    with pytest.raises(StreamError, match=r"\d+ streams match"):
        live(first, streams={"emg": {"type": "EMG"}, "resolve_timeout_s": 20.0}).start()
    assert second.source_id != first.source_id


def test_an_intensity_that_was_set_while_the_session_warmed_up_counts_and_a_marker_does_not(
    amplifier, live, until, unique
):
    source = amplifier()
    info = pylsl.StreamInfo("stimulator", "Stimulator", 1, pylsl.IRREGULAR_RATE, pylsl.cf_float32, unique)
    stimulator = pylsl.StreamOutlet(info)
    running = live(source, streams={"intensity": {"source_id": unique}}, trigger={"source": "marker"})
    running.launch()
    until(
        lambda: stimulator.have_consumers() and source.markers.have_consumers() or running.error, "the session to hear"
    )
    stimulator.push_sample([61.0])
    source.markers.push_sample(["TMS"])
    running.wait_for(State.READY)
    sample = source.pulse(in_samples=600)
    source.wait_until_sent(sample + 200)
    source.markers.push_sample(["TMS"], source.time_of(sample))
    ((header, _),) = running.wait_for_trials(1)
    assert header.intensity_percent_mso == 61.0
    assert running.stop().pulses_served == 1
