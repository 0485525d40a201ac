"""Jobs that train a network: what two models share changes neither, and an interrupted one goes on."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from trainer.evaluation.jobs import FORWARD, Job, digest, run_job
from trainer.preprocessing import TrainingSet
from trainer.training_settings import training_settings


@pytest.fixture(scope="module")
def tiny(training: TrainingSet) -> TrainingSet:
    """Put the tests' slab into a box whose sides are multiples of 4."""
    return replace(training, box_shape=(12, 12, 8))


def job_of(training: TrainingSet, method: str, epochs: int = 2) -> Job:
    settings = msgspec.to_builtins(training_settings(None, [f"epochs={epochs}", "validation_fraction=0", "latent=4"]))
    return Job("tiny", digest(training), "random", 0, method, np.arange(0, 120), np.arange(120, 160), settings)


@pytest.mark.long
def test_models_that_share_a_first_stage_are_what_they_would_be_alone(tiny, tmp_path):
    told = []
    alone = job_of(tiny, "vae-sampler-decoder")
    first = run_job(alone.first, tiny, told=lambda *epoch: told.append(epoch))
    assert told == [("vae", 1, 2), ("vae", 2, 2)]
    assert first.details == {"epochs": {"vae": 2}}
    expected = run_job(alone, tiny)
    told.clear()
    shared = run_job(alone, tiny, folder=tmp_path / "job", told=lambda *epoch: told.append(epoch), first=first.state)
    assert told == [("mapper", 1, 2), ("mapper", 2, 2)]
    assert np.array_equal(shared.estimate, expected.estimate)
    assert shared.details == expected.details
    assert np.ptp(shared.estimate) > 0


class Killed(Exception):
    pass


def test_a_training_that_was_killed_goes_on_from_its_checkpoint(tiny, tmp_path):
    job, told = job_of(tiny, "direct-variational"), []

    def kill(*epoch: object) -> None:
        told.append(epoch)
        raise Killed

    with pytest.raises(Killed):
        run_job(job, tiny, folder=tmp_path / "job", told=kill)
    result = run_job(job, tiny, folder=tmp_path / "job", told=lambda *epoch: told.append(epoch))
    assert told == [("direct", 1, 2), ("direct", 2, 2)]
    assert result.details["epochs"] == {"direct": 2}
    assert result.estimate.shape == (40, tiny.field.shape[1])
    assert (result.estimate >= 0).all()
    assert np.ptp(result.estimate) > 0


def test_the_forward_model_foretells_amplitudes_from_fields(tiny):
    unseen = tiny.amplitudes_uv.copy()
    unseen[120:] = 1.0  # what is foretold is not looked at
    result = run_job(job_of(tiny, FORWARD), replace(tiny, amplitudes_uv=unseen))
    assert result.estimate.shape == (40, 5)
    assert result.details["epochs"] == {"forward": 2}
    assert (result.estimate >= 0).all()
    assert 5 < np.median(result.estimate) < tiny.amplitudes_uv.max()  # microvolts, and no numbers in [0, 1]
