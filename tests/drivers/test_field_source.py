"""Where the simulated subject's fields come from, and what happens where they cannot be had."""

from pathlib import Path

import numpy as np
import pytest

from drivers.simulated.dataset import offline_set, write_dataset
from drivers.simulated.field_source import BasisSource, SphereSource, make_field_source
from drivers.simulated.session import make_session
from drivers.simulated.settings import SimulatedSubjectSettings, settings_from
from rt_engine.errors import SettingsError
from rt_engine.field.stimulation_file import read_stimulation_set
from rt_engine.field.subject_file import Subject
from tests.drivers.conftest import with_basis

SHORT = {"pulses": 8, "interval_s": 0.3, "lead_in_s": 0.2, "tail_s": 0.2}


def settings(**groups: object) -> SimulatedSubjectSettings:
    protocol = {**SHORT, **groups.pop("protocol", {})}
    return settings_from({"seed": 3, "protocol": protocol, **groups})


def test_auto_takes_finite_elements_where_the_subject_has_them(subject: Subject, solved: Subject) -> None:
    assert isinstance(make_field_source(solved, "auto"), BasisSource)
    assert isinstance(make_field_source(solved, "finite-elements"), BasisSource)
    assert isinstance(make_field_source(solved, "sphere"), SphereSource)
    assert isinstance(make_field_source(subject, "auto"), SphereSource)
    assert make_field_source(solved, "auto").coil is solved.basis.coil


def test_finite_elements_without_a_basis_are_refused(subject: Subject) -> None:
    with pytest.raises(SettingsError, match="has no E-field basis.*m2m subject build"):
        make_session(subject, settings(field="finite-elements"))


def test_basis_of_the_closed_form_gives_its_fields(subject: Subject, solved: Subject) -> None:
    by_basis, closed = make_session(solved, settings()), make_session(subject, settings())
    assert by_basis.source.kind == by_basis.settings.field == "finite-elements"
    assert closed.source.kind == closed.settings.field == "sphere"
    assert by_basis.calibration.rmt_percent_mso == pytest.approx(closed.calibration.rmt_percent_mso, rel=0.01)
    pose, didt = closed.protocol.pose, np.full(8, 50e6)
    ours = by_basis.source.fields(pose, didt).magnitude_v_per_m
    theirs = closed.source.fields(pose, didt).magnitude_v_per_m
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=0.02 * theirs.max())


@pytest.mark.parametrize("wanted", ["finite-elements", "sphere"])
def test_a_pulse_alone_has_the_same_bits_as_among_others(solved: Subject, wanted: str) -> None:
    source = make_field_source(solved, wanted)
    session = make_session(solved, settings(field=wanted))
    pose, didt = session.protocol.pose, np.linspace(30e6, 60e6, 8)
    together = source.fields(pose, didt).magnitude_v_per_m
    alone = [source.fields(pose[i : i + 1], didt[i : i + 1]).magnitude_v_per_m[0] for i in range(8)]
    assert np.array_equal(together, np.stack(alone))
    backwards = source.fields(pose[::-1], didt[::-1]).magnitude_v_per_m
    assert np.array_equal(backwards[::-1], together)


def test_progress_counts_every_field(solved: Subject) -> None:
    seen: list[tuple[int, int]] = []
    make_session(solved, settings(), lambda done, of: seen.append((done, of)))
    assert seen[-1] == (8, 8)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_data_set_tells_which_field_it_has(solved: Subject, tmp_path: Path) -> None:
    for wanted, told in (("auto", "finite-elements"), ("sphere", "sphere")):
        path = tmp_path / f"{wanted}.stim.h5"
        write_dataset(path, 4, 1, subject=solved, settings=settings(field=wanted))
        assert f'"field":"{told}"' in read_stimulation_set(path).source


def test_same_seed_gives_the_same_session_by_finite_elements(solved: Subject) -> None:
    first, again = make_session(solved, settings()), make_session(solved, settings())
    assert np.array_equal(first.field_v_per_m, again.field_v_per_m)
    assert np.array_equal(first.mep_noise_free_uv, again.mep_noise_free_uv)
    assert np.array_equal(first.emg().frame(2), again.emg().frame(2))


def test_placement_that_the_basis_refuses_is_named_and_nothing_is_written(solved: Subject, tmp_path: Path) -> None:
    wide = settings(protocol={"pulses": 40, "grid_spacing_mm": 25.0})
    with pytest.raises(SettingsError, match=r"pulse \d+, planned [+-]\d+ mm right .* grid_spacing_mm.*'sphere'"):
        make_session(solved, wide)
    with pytest.raises(SettingsError, match=r"and so do \d+ more of 40"):
        write_dataset(tmp_path / "wide.stim.h5", 40, 3, subject=solved, settings=wide)
    assert list(tmp_path.iterdir()) == []
    make_session(solved, settings(field="sphere", protocol={"pulses": 40, "grid_spacing_mm": 25.0}))


def test_navigated_pose_that_the_basis_refuses_is_an_error_too(solved: Subject) -> None:
    session = make_session(solved, settings(protocol={"navigation_error_mm": 40.0}))
    with pytest.raises(SettingsError, match="navigation_error_mm"):
        offline_set(session)


def test_hotspot_search_beyond_the_coverage_is_an_error(subject: Subject) -> None:
    narrow = with_basis(subject, half_mm=5.0, n_skeleton=60)
    with pytest.raises(SettingsError, match=r"the hotspot search, [+-]\d+ mm right"):
        make_session(narrow, settings())
