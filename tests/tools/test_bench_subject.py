"""`m2m bench subject`: the figures that other programs read, and that the defaults meet what is asked of them."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from drivers.simulated.settings import settings_from
from rt_engine.field.subject_file import read_subject, write_subject
from tests.conftest import Ended
from tests.drivers.conftest import small_subject, with_basis
from tools.bench.subject import AIMS, measure_subject

KEYS = {
    "mask_fraction", "fdi_log10_sd_threshold", "fdi_log10_sd_saturation", "fdi_uv_120", "zero_fraction",
    "kernel_ridge_nrmse", "mean_map_nrmse",
}  # fmt: skip
"""What the requirement names; a key that goes away breaks its readers."""


def test_figures_come_as_json_and_as_a_table(m2m: Callable[..., Ended], tmp_path: Path) -> None:
    path = tmp_path / "small.subject.h5"
    write_subject(path, with_basis(small_subject()))
    ended = m2m("bench", "subject", "--subject", path, "--pulses", "80", "--folds", "3", "--no-emg", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert found.keys() >= KEYS
    assert found["mask_fraction"] == pytest.approx(small_subject().n_voxels / 64**3)
    assert found["field"] == "finite-elements"
    assert (found["pulses"], found["folds"]) == (80, 3)
    assert 0.0 < found["kernel_ridge_nrmse"] < found["mean_map_nrmse"]
    for aim in AIMS:
        assert aim.name in ended.err


def test_what_cannot_be_simulated_is_said(m2m: Callable[..., Ended]) -> None:
    ended = m2m("bench", "subject", "--set", "cortex.theta_v_per_m=900", "--pulses", "60")
    assert ended.code == 1
    assert "theta_v_per_m" in ended.err
    assert ended.out == ""


@pytest.mark.long
def test_defaults_meet_what_is_asked_of_them() -> None:
    subject = read_subject(Path(str(files("configs") / "demo" / "default.subject.h5")))
    settings = settings_from({"seed": 1, "protocol": {"pulses": 1200}})
    stages: dict[str, tuple[int, int]] = {}
    figures = measure_subject(
        subject, settings, n_folds=10, with_emg=True, told=lambda stage, *way: stages.update({stage: way})
    )
    outside = [
        f"{aim.name} {getattr(figures, aim.name):.3g}"
        for aim in AIMS
        if not aim.low <= getattr(figures, aim.name) <= aim.high
    ]
    assert outside == []
    assert 1.4 * figures.rmt_percent_mso < 100.0
    assert stages["folds"] == (10, 10)
    assert stages["E-fields"] == (1200, 1200)
