"""Data sets made offline."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivers.simulated.dataset import offline_set, write_dataset
from drivers.simulated.session import SimulatedSession
from drivers.simulated.settings import CortexSettings, EmgSettings, SimulatedSubjectSettings
from rt_engine.field.stimulation_file import read_stimulation_set
from rt_engine.field.subject_file import Subject
from rt_engine.mep import MepStatus
from rt_engine.muscles import ARTICLE_MUSCLES


def test_same_seed_writes_the_same_bytes(subject: Subject, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_dataset(tmp_path / "a.stim.h5", 12, 3, lambda done, of: seen.append((done, of)), subject=subject)
    write_dataset(tmp_path / "b.stim.h5", 12, 3, subject=subject)
    write_dataset(tmp_path / "c.stim.h5", 12, 4, subject=subject)
    first, again, other = (next(tmp_path.glob(f"{name}.*")).read_bytes() for name in "abc")
    assert first == again
    assert first != other
    assert seen == [(i, 12) for i in range(1, 13)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.stim.h5", "b.stim.h5", "c.stim.h5"]


@pytest.mark.parametrize("with_emg", [False, True])
def test_file_holds_what_was_made(subject: Subject, tmp_path: Path, with_emg: bool) -> None:
    settings = SimulatedSubjectSettings(muscles=("ADM", "FDI", "ECR"))
    path = tmp_path / "set.stim.h5"
    made = write_dataset(path, 10, 3, subject=subject, subject_sha256="a" * 64, settings=settings, with_emg=with_emg)
    read = read_stimulation_set(path)
    assert read.muscles == ("ADM", "FDI", "ECR")
    assert read.mep_uv.shape == (10, 3)
    assert np.array_equal(read.mep_uv, made.mep_uv)
    assert np.array_equal(read.field_v_per_m, made.field_v_per_m)
    assert read.subject_sha256 == "a" * 64
    assert read.truth is not None
    assert np.isnan(read.truth.pushed_at).all()
    assert np.isnan(read.truth.mep_sent_uv).all() == (not with_emg)
    assert (read.truth.pulse_sample >= 0).all() == with_emg
    assert '"seed":3' in read.source


def test_amplitudes_are_the_true_ones_within_the_noise(simulate: Callable[..., SimulatedSession]) -> None:
    session = simulate(pulses=40, seed=1)
    true = session.mep_noise_free_uv
    large = true > 500.0
    assert large.sum() > 20
    for with_emg, scatter_uv in ((False, 30.0), (True, 60.0)):
        measured = offline_set(session, with_emg=with_emg).mep_uv
        assert np.abs(measured - true)[large].max() < scatter_uv
        assert (measured > 0.0).all()


def test_status_says_what_is_below_the_floor_flat_or_active(simulate: Callable[..., SimulatedSession]) -> None:
    session = simulate(
        pulses=20, seed=1, emg=EmgSettings(flat_muscles=("ADM",)), cortex=CortexSettings(preactivated_share=0.2)
    )
    data = offline_set(session, with_emg=True)
    adm = ARTICLE_MUSCLES.index("ADM")
    assert np.array_equal((data.status & MepStatus.NO_MEP) > 0, data.mep_uv < 50.0)
    assert np.array_equal((data.status & MepStatus.PREACTIVATED) > 0, session.preactivated)
    assert (data.mep_uv[:, adm] == 0.0).all()
    flat = (data.status & MepStatus.FLAT) > 0
    assert flat[:, adm].all()
    assert not np.delete(flat, adm, axis=1).any()


def test_stronger_stimulation_gives_larger_meps(simulate: Callable[..., SimulatedSession]) -> None:
    session = simulate(pulses=200, seed=1)
    mean_uv = [
        session.mep_noise_free_uv[session.protocol.intensity_percent_rmt == percent].mean()
        for percent in (110.0, 120.0, 130.0, 140.0)
    ]
    assert mean_uv == sorted(mean_uv)
    assert mean_uv[-1] > 2.0 * mean_uv[0]


def test_field_is_that_of_the_place_the_navigation_tells(simulate: Callable[..., SimulatedSession]) -> None:
    exact = simulate(seed=2)
    erring = simulate(seed=2, protocol={"navigation_error_mm": 3.0})
    data, truth = offline_set(erring), offline_set(exact)
    assert np.array_equal(data.mep_uv, truth.mep_uv)
    assert np.array_equal(data.pose, erring.protocol.pose_navigated)
    assert not np.array_equal(data.pose, truth.pose)
    change = np.linalg.norm(data.field_v_per_m - truth.field_v_per_m) / np.linalg.norm(truth.field_v_per_m)
    assert 0.005 < change < 0.3
