"""What the networks see: which stimulations (II.C, Table I), scaled how, and clear words where nothing can be seen."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt_engine.errors import DataError
from rt_engine.field.stimulation_file import StimulationSet
from trainer.network_data import (
    NetworkPreprocessing,
    fit_scaling,
    prepare_for_networks,
    select_stimulations,
    split_validation,
)
from trainer.preprocessing import TrainingSet

ARTICLE = NetworkPreprocessing(fitted_on="all", small_meps="zero", mep_scale="linear")


@pytest.fixture
def with_outliers(stimulations: StimulationSet) -> StimulationSet:
    """Return the tests' data with 4 stimulations of hardly any field and 10 that no muscle answers."""
    field, mep = stimulations.field_v_per_m.copy(), stimulations.mep_uv.copy()
    field[:4] *= 1e-6
    mep[4:14] = 20.0
    return replace(stimulations, field_v_per_m=field, mep_uv=mep)


def test_table_one_counts_what_was_chosen_and_what_was_applied(with_outliers: StimulationSet) -> None:
    training = prepare_for_networks(with_outliers, ARTICLE)
    selection = select_stimulations(training, ARTICLE)
    level = np.round(with_outliers.intensity_percent_rmt)
    answered = (with_outliers.mep_uv[14:] >= 50).any(axis=1)
    assert list(selection.counts) == [110.0, 120.0, 130.0, 140.0]
    for intensity, (chosen, applied) in selection.counts.items():
        assert applied == (level == intensity).sum()
        assert chosen == (answered & (level[14:] == intensity)).sum()
    assert sum(applied for _, applied in selection.counts.values()) == with_outliers.n_pulses == 160
    assert len(training) == 156
    assert len(selection.apply(training)) == selection.kept.sum() == answered.sum() <= 146
    assert "4 stimulations with less than 10 mV/m in BA4 left out" in selection.notes
    assert any("without a response in any muscle" in note for note in selection.notes)


def test_zeros_and_weak_fields_are_kept_where_settings_say_so(with_outliers: StimulationSet) -> None:
    keeping = NetworkPreprocessing(keep_zeros=True, min_field_v_per_m=0.0)
    training = prepare_for_networks(with_outliers, keeping)
    assert select_stimulations(training, keeping).kept.all()
    assert len(training) == 160


def test_intensities_that_nobody_wrote_down_are_counted_apart(training: TrainingSet) -> None:
    intensity = training.intensity_percent_rmt.copy()
    intensity[:7] = np.nan
    counts = select_stimulations(
        replace(training, intensity_percent_rmt=intensity), NetworkPreprocessing(keep_zeros=True)
    ).counts
    assert counts[math.nan] == (7, 7)
    assert list(counts)[:4] == [110.0, 120.0, 130.0, 140.0]
    counts = select_stimulations(
        replace(training, intensity_percent_rmt=np.linspace(104, 146, len(training))), NetworkPreprocessing()
    ).counts
    assert list(counts) == [100.0, 110.0, 120.0, 130.0, 140.0, 150.0]


def test_the_articles_scale_is_zero_below_the_floor_and_one_at_the_largest(training: TrainingSet) -> None:
    y = training.amplitudes_uv
    scaling = fit_scaling(y, ARTICLE)
    z = scaling.transform(y)
    assert z.max(axis=0) == pytest.approx(1.0)
    assert (z[y < 50] == 0).all()
    assert z[y >= 50] == pytest.approx((y / y.max(axis=0))[y >= 50])
    kept = fit_scaling(y, NetworkPreprocessing(small_meps="keep", mep_scale="linear")).transform(y)
    assert kept == pytest.approx(y / y.max(axis=0))


@pytest.mark.parametrize(("small_meps", "floor"), [("zero", 50.0), ("keep", 5.0)])
def test_the_logarithm_goes_from_the_floor_to_the_largest(training: TrainingSet, small_meps: str, floor: float) -> None:
    settings = NetworkPreprocessing(mep_scale="log", small_meps=small_meps)  # type: ignore[arg-type]
    largest = training.amplitudes_uv.max(axis=0)
    scaling = fit_scaling(training.amplitudes_uv, settings)
    at = scaling.transform(np.stack([np.zeros(5), np.full(5, floor), np.sqrt(floor * largest), largest]))
    assert at == pytest.approx(np.repeat([[0.0], [0.0], [0.5], [1.0]], 5, axis=1), abs=1e-6)


@given(
    hnp.arrays(np.float64, (30, 4), elements=st.floats(0.0, 8000.0)),
    st.sampled_from(["linear", "log"]),
    st.sampled_from(["zero", "keep"]),
)
def test_scaled_amplitudes_lie_between_zero_and_one_and_keep_their_order(
    amplitudes: np.ndarray, mep_scale: str, small_meps: str
) -> None:
    amplitudes[0] = 100.0  # every muscle responds
    settings = NetworkPreprocessing(mep_scale=mep_scale, small_meps=small_meps)  # type: ignore[arg-type]
    z = fit_scaling(amplitudes, settings).transform(amplitudes)
    assert (z >= 0).all()
    assert (z <= 1 + 1e-6).all()
    for k in range(4):
        assert (np.diff(z[np.argsort(amplitudes[:, k]), k]) >= 0).all()


def test_missing_amplitudes_are_filled_in_from_the_other_muscles(training: TrainingSet) -> None:
    y = training.amplitudes_uv
    scaling = fit_scaling(y, NetworkPreprocessing(mep_scale="log"))
    complete = scaling.transform(y)
    gaps = y.copy()
    gaps[:, 2] = np.nan
    filled = scaling.transform(gaps)
    assert np.isfinite(filled).all()
    assert np.array_equal(np.delete(filled, 2, axis=1), np.delete(complete, 2, axis=1))
    off = np.abs(filled[:, 2] - complete[:, 2]).mean()
    assert off < np.abs(complete[:, 2].mean() - complete[:, 2]).mean()
    assert scaling.transform(np.full((1, 5), np.nan))[0] == pytest.approx(complete.mean(axis=0))
    assert scaling.transform(np.empty((0, 5))).shape == (0, 5)


def test_scales_come_from_the_rows_given_and_held_out_rows_may_exceed_them(training: TrainingSet) -> None:
    y = training.amplitudes_uv
    weaker = y[y[:, 0] < 0.7 * y[:, 0].max()]
    scaling = fit_scaling(weaker, NetworkPreprocessing())
    assert scaling.scale_uv == pytest.approx(weaker.max(axis=0))
    assert scaling.transform(y)[:, 0].max() > 1.0


def test_a_muscle_that_never_responds_is_named(training: TrainingSet) -> None:
    silent = training.amplitudes_uv.copy()
    silent[:, 3] = 30.0
    silent[:, 1] = np.nan
    with pytest.raises(DataError, match=r"ADM, FCR never responded: no amplitude above 50 uV in 160 stimulations"):
        fit_scaling(silent, NetworkPreprocessing(), muscles=training.muscles)
    with pytest.raises(DataError, match="muscle 2, muscle 4"):
        fit_scaling(silent, NetworkPreprocessing())
    with pytest.raises(DataError, match="ADM, FCR"):
        select_stimulations(replace(training, amplitudes_uv=silent), NetworkPreprocessing())


def test_an_empty_fold_is_refused(training: TrainingSet) -> None:
    with pytest.raises(DataError, match="fold is empty"):
        fit_scaling(training.amplitudes_uv[:0], NetworkPreprocessing())


def test_amplitudes_of_another_number_of_muscles_are_refused(training: TrainingSet) -> None:
    with pytest.raises(DataError, match=r"\(3, 4\); expected \(stimulations, 5 muscles\)"):
        fit_scaling(training.amplitudes_uv, NetworkPreprocessing()).transform(np.ones((3, 4)))


def test_data_without_any_response_and_data_with_too_few_are_refused(training: TrainingSet) -> None:
    volts = replace(training, amplitudes_uv=training.amplitudes_uv * 1e-6)
    with pytest.raises(DataError, match="none of 160 stimulations made any muscle respond.*Check the unit"):
        select_stimulations(volts, NetworkPreprocessing())
    few = training.amplitudes_uv.copy()
    few[40:] = 10.0
    with pytest.raises(DataError, match=r"of 160 stimulations have a response.*at least 50.*keep_zeros"):
        select_stimulations(replace(training, amplitudes_uv=few), NetworkPreprocessing())


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1 / 3])
def test_the_validation_part_has_its_share_of_every_intensity(training: TrainingSet, fraction: float) -> None:
    fit, apart = split_validation(training, fraction, seed=1)
    assert np.array_equal(np.sort(np.concatenate([fit, apart])), np.arange(160))
    assert len(apart) == round(160 * fraction)
    for level in (110, 120, 130, 140):
        of_level = training.intensity_percent_rmt == level
        assert of_level[apart].sum() == pytest.approx(of_level.sum() * fraction, abs=1.0)
    assert np.array_equal(apart, split_validation(training, fraction, seed=1)[1])
    assert not np.array_equal(apart, split_validation(training, fraction, seed=2)[1])


def test_no_validation_part_trains_on_all_and_one_that_leaves_nothing_is_refused(training: TrainingSet) -> None:
    fit, apart = split_validation(training, 0.0)
    assert (len(fit), len(apart)) == (160, 0)
    for fraction in (0.001, 0.999):
        with pytest.raises(DataError, match=r"fitting\.validation_fraction"):
            split_validation(training, fraction)


@pytest.mark.parametrize(
    "choice", [{"small_meps": "zero"}, {"mep_scale": "linear"}, {"small_meps": "keep", "mep_scale": "log"}]
)
def test_what_becomes_of_small_meps_does_not_decide_which_stimulations_had_a_response(
    with_outliers: StimulationSet, choice: dict[str, str]
) -> None:
    training = prepare_for_networks(with_outliers, ARTICLE)
    expected = select_stimulations(training, ARTICLE)
    found = select_stimulations(training, NetworkPreprocessing(**choice))
    np.testing.assert_array_equal(found.kept, expected.kept)
    assert not found.kept.all()
