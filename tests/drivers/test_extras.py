"""What is off by default does what it says, from the settings to the data set."""

from collections.abc import Callable

import numpy as np
import pytest

from drivers.simulated.dataset import offline_set
from drivers.simulated.session import SimulatedSession
from drivers.simulated.settings import CortexSettings, EmgSettings
from rt_engine.mep import MepStatus
from rt_engine.muscles import ARTICLE_MUSCLES

Simulate = Callable[..., SimulatedSession]


@pytest.fixture(scope="module")
def plain(simulate: Simulate) -> SimulatedSession:
    return simulate(pulses=60, seed=4)


@pytest.mark.parametrize("drift", [-0.3, 0.3])
def test_drift_changes_the_meps_more_and_more(simulate: Simulate, plain: SimulatedSession, drift: float) -> None:
    drifting = simulate(pulses=60, seed=4, cortex=CortexSettings(drift_ln=drift))
    change = np.sign(drift) * np.log(drifting.mep_noise_free_uv / plain.mep_noise_free_uv)
    assert (change[0] == 0.0).all()
    assert (change[1:] > 0.0).all()
    assert np.median(change[-15:]) > 1.5 * np.median(change[:15]) > 0.0
    # The threshold was found before the session: the drift is not known to whoever stimulates.
    assert drifting.calibration.rmt_percent_mso == plain.calibration.rmt_percent_mso
    assert np.array_equal(drifting.field_v_per_m, plain.field_v_per_m)


def test_crosstalk_lifts_the_quiet_neighbour_of_a_loud_muscle(simulate: Simulate, plain: SimulatedSession) -> None:
    mixed = simulate(pulses=60, seed=4, cortex=CortexSettings(crosstalk=0.2))
    # The short abductor of the thumb has one neighbour only.
    loud, quiet = ARTICLE_MUSCLES.index("AdPB"), ARTICLE_MUSCLES.index("AbPB")
    before, after = plain.mep_noise_free_uv, mixed.mep_noise_free_uv
    outshone = before[:, loud] > 10.0 * before[:, quiet]
    assert outshone.sum() >= 5
    share = after[outshone, quiet] / before[outshone, loud]
    np.testing.assert_allclose(share, 0.2, atol=0.11)
    assert (after[outshone, quiet] > before[outshone, quiet]).all()


def test_preactivated_muscles_answer_more(simulate: Simulate, plain: SimulatedSession) -> None:
    active = simulate(pulses=60, seed=4, cortex=CortexSettings(preactivated_share=0.3))
    where = active.preactivated
    assert 0.2 < where.mean() < 0.4
    # ln g + 0.15: as a stimulus that is 16 % stronger.
    assert (active.mep_noise_free_uv[where] > plain.mep_noise_free_uv[where]).all()
    assert np.array_equal(active.mep_noise_free_uv[~where], plain.mep_noise_free_uv[~where])
    status = offline_set(active, with_emg=True).status
    assert np.array_equal((status & MepStatus.PREACTIVATED) > 0, where)


def test_missing_muscles_leave_the_others_as_they_were(simulate: Simulate, plain: SimulatedSession) -> None:
    few = simulate(pulses=60, seed=4, muscles=("ECR", "FDI"))
    both = [ARTICLE_MUSCLES.index("ECR"), ARTICLE_MUSCLES.index("FDI")]
    assert offline_set(few).muscles == ("ECR", "FDI")
    assert np.array_equal(few.mep_noise_free_uv, plain.mep_noise_free_uv[:, both])
    measured = offline_set(plain, with_emg=True).mep_uv
    assert np.array_equal(offline_set(few, with_emg=True).mep_uv, measured[:, both])
    off = simulate(pulses=60, seed=4, emg=EmgSettings(flat_muscles=("FDI",)))
    assert (off.mep_noise_free_uv[:, both[1]] == 0.0).all()
    assert np.array_equal(off.mep_noise_free_uv[:, both[0]], plain.mep_noise_free_uv[:, both[0]])


def test_navigation_error_spoils_the_field_and_not_the_meps(simulate: Simulate, plain: SimulatedSession) -> None:
    change = []
    for error_mm in (1.0, 4.0):
        erring = simulate(pulses=60, seed=4, protocol={"navigation_error_mm": error_mm})
        assert np.array_equal(erring.mep_noise_free_uv, plain.mep_noise_free_uv)
        told = offline_set(erring).field_v_per_m
        change.append(np.linalg.norm(told - plain.field_v_per_m) / np.linalg.norm(plain.field_v_per_m))
    assert 0.0 < 2.0 * change[0] < change[1]
