"""Recruitment, variability and calibration of the simulated muscles."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.simulated.calibration import FDI, calibrate, didt_a_per_s, fdi_at_hotspot
from drivers.simulated.cortex import make_motor_cortex
from drivers.simulated.dataset import offline_set
from drivers.simulated.field_source import SphereSource
from drivers.simulated.figures import measure_figures
from drivers.simulated.session import make_session
from drivers.simulated.settings import CortexSettings, ProtocolSettings, SimulatedSubjectSettings
from drivers.simulated.variability import draw_variability, read_without_emg
from rt_engine.errors import SettingsError
from rt_engine.field.placement import coil_pose, move
from rt_engine.field.subject_file import Subject, read_subject
from rt_engine.muscles import ARTICLE_MUSCLES
from tests.drivers.conftest import small_subject

HEAD = small_subject()
SOURCE = SphereSource(HEAD)
CORTEX = make_motor_cortex(HEAD, CortexSettings(), 0)
REST = np.zeros((1, len(ARTICLE_MUSCLES)))


def test_every_muscle_has_weights_that_sum_to_one_around_its_centre() -> None:
    np.testing.assert_allclose(CORTEX.weight.sum(axis=1), 1.0)
    assert (CORTEX.weight >= 0.0).all()
    distance = np.linalg.norm(HEAD.voxel_mm[None] - CORTEX.center_mm[:, None], axis=2)
    spread = np.sqrt((CORTEX.weight * distance**2).sum(axis=1))
    assert (spread < 15.0).all()


def test_the_crown_of_the_gyrus_counts_more_than_its_depth() -> None:
    height_mm = np.linalg.norm(HEAD.voxel_mm - HEAD.sphere_center_mm, axis=1)
    mean_mm = [
        make_motor_cortex(HEAD, CortexSettings(crown_mm=crown), 0).weight @ height_mm for crown in (0.5, 4.0, 1e6)
    ]
    assert (mean_mm[0] > mean_mm[1]).all()
    assert (mean_mm[1] > mean_mm[2]).all()


def test_hand_lies_lateral_of_the_forearm() -> None:
    x = CORTEX.center_mm[:, 0]
    thumb, elbow = ARTICLE_MUSCLES.index("AbPB"), ARTICLE_MUSCLES.index("BRD")
    assert x[thumb] < x[FDI] < x[elbow]
    mirrored = make_motor_cortex(small_subject("right"), CortexSettings(), 0).center_mm[:, 0]
    assert mirrored[thumb] > mirrored[FDI] > mirrored[elbow]


def test_a_person_is_a_seed() -> None:
    again = make_motor_cortex(HEAD, CortexSettings(), 0)
    other = make_motor_cortex(HEAD, CortexSettings(), 1)
    assert np.array_equal(CORTEX.weight, again.weight)
    assert not np.array_equal(CORTEX.weight, other.weight)
    assert not np.array_equal(CORTEX.threshold_v_per_m, other.threshold_v_per_m)
    # The FDI defines the motor threshold, so all persons share its scale.
    assert CORTEX.threshold_v_per_m[FDI] == other.threshold_v_per_m[FDI] == 80.0


@given(low=st.floats(0.0, 200.0), step=st.floats(0.01, 100.0))
def test_recruitment_rises_with_the_field_and_stays_a_share(low: float, step: float) -> None:
    field = np.linspace(0.5, 1.0, HEAD.n_voxels)
    weak, strong = CORTEX.recruited(np.stack([low * field, (low + step) * field]), np.repeat(REST, 2, axis=0))
    assert (weak >= 0.0).all()
    assert (strong <= 1.0 + 1e-12).all()
    assert (strong >= weak).all()


def test_recruitment_of_a_uniform_field_is_the_sigmoid() -> None:
    for muscle, theta in enumerate(CORTEX.threshold_v_per_m):
        width = CortexSettings().beta_share * theta
        for drive, share in ((0.0, 0.5), (2.0, 1 / (1 + np.exp(-2.0)))):
            recruited = CORTEX.recruited(np.full((1, HEAD.n_voxels), theta + drive * width), REST)
            assert recruited[0, muscle] == pytest.approx(share)


def test_excitability_acts_like_a_stronger_field() -> None:
    field = np.full((1, HEAD.n_voxels), 70.0)
    np.testing.assert_allclose(CORTEX.recruited(field, REST + np.log(1.1)), CORTEX.recruited(1.1 * field, REST))


def test_pulses_computed_together_or_alone_are_equal_to_the_bit() -> None:
    field = np.random.default_rng(0).uniform(20, 100, (7, HEAD.n_voxels)).astype(np.float32)
    excitability = np.random.default_rng(1).normal(0, 0.1, (7, len(ARTICLE_MUSCLES)))
    together = CORTEX.recruited(field, excitability)
    alone = np.concatenate([CORTEX.recruited(field[i : i + 1], excitability[i : i + 1]) for i in range(7)])
    assert np.array_equal(together, alone)


def test_unknown_hand_knob_says_what_to_set() -> None:
    head = Subject(**{**vars(HEAD), "space": "scanner, RAS"})
    with pytest.raises(SettingsError, match="hand_knob_mm"):
        make_motor_cortex(head, CortexSettings(), 0)
    make_motor_cortex(head, CortexSettings(hand_knob_mm=(-38.0, -20.0, 57.0)), 0)
    with pytest.raises(SettingsError, match="from BA4"):
        make_motor_cortex(head, CortexSettings(hand_knob_mm=(38.0, -20.0, 57.0)), 0)


def test_variability_has_the_spread_that_is_set_and_one_common_part() -> None:
    drawn = draw_variability(4000, CortexSettings(common_sd_ln=0.2, private_sd_ln=0.1, output_sd_log10=0.3), 7)
    assert drawn.excitability_ln.std() == pytest.approx(np.hypot(0.2, 0.1), rel=0.03)
    shared = np.corrcoef(drawn.excitability_ln[:, 0], drawn.excitability_ln[:, 9])[0, 1]
    assert shared == pytest.approx(0.04 / 0.05, abs=0.03)
    assert drawn.output_log10.std() == pytest.approx(0.3, rel=0.03)
    assert not drawn.preactivated.any()


def test_drift_and_preactivation_change_the_excitability() -> None:
    rest = draw_variability(50, CortexSettings(), 1)
    drifting = draw_variability(50, CortexSettings(drift_ln=-0.2), 1)
    change = drifting.excitability_ln - rest.excitability_ln
    np.testing.assert_allclose(change[:, 0], np.linspace(0, -0.2, 50), atol=1e-12)
    active = draw_variability(50, CortexSettings(preactivated_share=0.3), 1)
    assert 0.2 < active.preactivated.mean() < 0.4
    assert (active.excitability_ln[active.preactivated] > rest.excitability_ln[active.preactivated]).all()


def test_noise_floor_is_seen_without_mep_and_hardly_with_one() -> None:
    nothing = read_without_emg(np.zeros((5000, 2)), 8.0, 1)
    assert nothing.mean() == pytest.approx(8.0, rel=0.03)
    assert nothing.min() > 0.0
    large = read_without_emg(np.full((5000, 2), 3000.0), 8.0, 1)
    assert np.abs(large / 3000.0 - 1.0).max() < 0.01


def test_half_of_the_trials_exceed_50_uv_at_the_threshold() -> None:
    calibration = calibrate(CORTEX, SOURCE, CortexSettings())
    trials = fdi_at_hotspot(SOURCE, CORTEX, calibration, CortexSettings(), 100.0)
    assert (trials > 50.0).mean() == pytest.approx(0.5, abs=0.01)
    above = fdi_at_hotspot(SOURCE, CORTEX, calibration, CortexSettings(), 105.0)
    assert (above > 50.0).mean() > 0.55


def test_nowhere_around_the_hotspot_are_meps_larger() -> None:
    calibration = calibrate(CORTEX, SOURCE, CortexSettings())
    around = [(0.0, 0.0)] + [(8 * np.cos(a), 8 * np.sin(a)) for a in np.arange(0, 2 * np.pi, np.pi / 4)]
    pose = np.stack([coil_pose(HEAD, move(calibration.hotspot, *way, HEAD.scalp_radius_mm)) for way in around])
    didt = np.full(len(pose), didt_a_per_s(SOURCE.coil, 1.2 * calibration.rmt_percent_mso))
    recruited = CORTEX.recruited(
        SOURCE.fields(pose, didt).magnitude_v_per_m, np.zeros((len(pose), len(ARTICLE_MUSCLES)))
    )[:, FDI]
    assert recruited.argmax() == 0


def test_stimulator_that_is_too_weak_is_an_error() -> None:
    deaf = CortexSettings(theta_v_per_m=800.0)
    with pytest.raises(SettingsError, match="theta_v_per_m"):
        calibrate(make_motor_cortex(HEAD, deaf, 0), SOURCE, deaf)
    nearly = SimulatedSubjectSettings(cortex=CortexSettings(theta_v_per_m=230.0), protocol=ProtocolSettings(pulses=4))
    with pytest.raises(SettingsError, match="intensities_percent_rmt"):
        make_session(HEAD, nearly)


@pytest.fixture(scope="module")
def default_subject() -> Subject:
    return read_subject(Path(str(files("configs") / "demo" / "default.subject.h5")))


def test_muscles_of_the_default_subject_behave_as_the_literature_says(default_subject: Subject) -> None:
    settings = SimulatedSubjectSettings(protocol=ProtocolSettings(pulses=1200))
    session = make_session(default_subject, settings)
    figures = measure_figures(session, offline_set(session))
    assert session.source.kind == "finite-elements"
    assert session.percent_mso.max() < 100.0
    assert 0.4 <= figures.fdi_sd_log10_at_rmt <= 0.75
    assert figures.fdi_sd_log10_at_240 <= 0.2
    assert 300.0 <= figures.fdi_median_uv_at_120 <= 1500.0
    assert 0.3 <= figures.share_below_50_uv <= 0.6
    assert figures.components_999 <= 20
