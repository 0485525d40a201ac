"""The five models: their blocks, stages and losses, and that both forms of each train alike."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from rt_engine.errors import DataError
from tests.trainer.architectures.conftest import BOX
from trainer.architectures.family import InverseNetwork, Stage, build_network
from trainer.architectures.settings import MODELS, TITLES, ArchitectureSettings

MUSCLES = 5
LATENT = 4
VARIATIONAL = ("vae-decoder", "vae-sampler-decoder", "direct-variational")


def make(model: str, voxel: np.ndarray, *, dtype: str = "float64", form: str = "masked", **choices) -> InverseNetwork:
    settings = ArchitectureSettings(latent=LATENT, **choices)
    return build_network(model, MUSCLES, voxel, BOX, settings, form=form, seed=3, dtype=dtype)


def batch(network: InverseNetwork, n: int = 3) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(0)
    shapes = ((n, network.n_voxels), (n, MUSCLES), (n, LATENT))
    x, y, noise = (rng.random(shapes[0]), rng.random(shapes[1]), rng.normal(size=shapes[2]))
    return tuple(tf.constant(value, network.dtype) for value in (x, y, noise))


def gradients(network: InverseNetwork, stage: Stage) -> tuple[dict[str, float], list[tf.Tensor]]:
    x, y, noise = batch(network)
    with tf.GradientTape() as tape:
        losses = network.losses(stage, x, y, noise)
    return {k: float(v) for k, v in losses.items()}, tape.gradient(losses["loss"], network.trainable(stage))


def stage_names(network: InverseNetwork) -> list[str]:
    return [stage.name for stage in network.stages]


def test_every_model_has_a_title() -> None:
    assert set(TITLES) == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_both_forms_have_the_same_losses_and_gradients_in_every_stage(
    model: str, sparse_mask: np.ndarray, assert_same_gradients: Callable[..., None]
) -> None:
    network = make(model, sparse_mask)
    for stage in network.stages:
        found = {}
        for form in ("masked", "dense"):
            network.form = form
            found[form] = gradients(network, stage)
        assert found["masked"][0] == pytest.approx(found["dense"][0], rel=1e-9)
        moving = [k for k, g in enumerate(found["dense"][1]) if float(tf.norm(g)) > 1e-9]
        assert len(moving) > len(found["dense"][1]) / 2
        assert_same_gradients(*([found[form][1][k] for k in moving] for form in ("masked", "dense")), 1e-8)


def test_the_stages_are_those_of_the_article(sparse_mask: np.ndarray) -> None:
    assert stage_names(make("ae-decoder", sparse_mask)) == ["autoencoder", "mapper"]
    assert stage_names(make("direct-convolutional", sparse_mask)) == ["direct"]
    assert stage_names(make("vae-decoder", sparse_mask)) == ["vae", "mapper"]
    assert stage_names(make("vae-sampler-decoder", sparse_mask)) == ["vae", "mapper"]
    assert stage_names(make("direct-variational", sparse_mask)) == ["direct"]


def test_the_decoder_is_frozen_once_it_was_learned(sparse_mask: np.ndarray) -> None:
    for model in ("ae-decoder", "vae-decoder", "vae-sampler-decoder"):
        network = make(model, sparse_mask)
        trained = {id(variable) for variable in network.trainable(network.stages[1])}
        for name in ("decoder", "encoder", "expansion"):
            if name in network.blocks:
                assert not trained & {id(variable) for variable in network.blocks[name].variables}
        assert trained


def test_a_frozen_decoder_keeps_its_moving_statistics(sparse_mask: np.ndarray) -> None:
    network = make("ae-decoder", sparse_mask)
    before = network.weights()
    network.losses(network.stages[1], *batch(network))
    after = network.weights()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("mapper/") for name in changed)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_sampler_of_d_is_trained_again_unless_it_is_frozen(sparse_mask: np.ndarray, frozen: bool) -> None:
    network = make("vae-sampler-decoder", sparse_mask, freeze_sampler=frozen)
    trained = {id(variable) for variable in network.trainable(network.stages[1])}
    assert all((id(variable) in trained) != frozen for variable in network.blocks["sampling"].variables)


def test_c_and_d_begin_with_the_same_vae(sparse_mask: np.ndarray) -> None:
    c, d = (make(model, sparse_mask).weights() for model in ("vae-decoder", "vae-sampler-decoder"))
    shared = [name for name in c if not name.startswith("mapper/")]
    assert shared
    for name in shared:
        np.testing.assert_array_equal(c[name], d[name])


def test_the_loss_is_squared_norm_plus_divergence_plus_penalty(sparse_mask: np.ndarray) -> None:
    network = make("direct-variational", sparse_mask, kl_weight=2.0, l1=0.01)
    (stage,) = network.stages
    x, y, noise = batch(network)
    losses = {name: float(value) for name, value in network.losses(stage, x, y, noise).items()}
    mean, log_variance = network.latent_of(y.numpy())
    z = mean + np.exp(log_variance / 2) * noise.numpy()
    estimate = network.decoder(network.blocks["expansion"](tf.constant(z))).numpy()
    squared = ((estimate - x.numpy()) ** 2).sum(axis=1).mean()
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(axis=1).mean()
    penalised = [*network.mapper.kernels, *network.decoder.kernels]
    l1 = 0.01 * sum(np.abs(kernel.numpy()).sum() for kernel in penalised)
    assert len(penalised) == 5
    assert losses == pytest.approx({"loss": squared + 2 * kl + l1, "squared_error": squared, "kl": kl, "l1": l1})


@pytest.mark.parametrize("model", MODELS)
def test_the_code_s_loss_scale_divides_by_the_box_where_the_code_takes_a_mean(
    model: str, sparse_mask: np.ndarray
) -> None:
    network = make(model, sparse_mask, loss_scale="code")
    divided = {}
    for stage in network.stages:
        losses = {name: float(value) for name, value in network.losses(stage, *batch(network)).items()}
        squared = losses["loss"] - losses["kl"] - losses["l1"]
        divided[stage.name] = squared == pytest.approx(losses["squared_error"] / np.prod(BOX))
        assert divided[stage.name] or squared == pytest.approx(losses["squared_error"])
    assert (
        divided
        == {
            "ae-decoder": {"autoencoder": True, "mapper": True},
            "direct-convolutional": {"direct": True},
            "vae-decoder": {"vae": False, "mapper": True},
            "vae-sampler-decoder": {"vae": False, "mapper": False},
            "direct-variational": {"direct": False},
        }[model]
    )


@pytest.mark.parametrize("model", MODELS)
def test_predictions_do_not_depend_on_form_or_company(model: str, sparse_mask: np.ndarray) -> None:
    network = make(model, sparse_mask)
    y = np.random.default_rng(1).random((70, MUSCLES))  # more than one batch, the last not full
    found = network.predict(y)
    assert found.shape == (70, network.n_voxels)
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    np.testing.assert_allclose(found[[69, 3]], network.predict(y[[69, 3]]), atol=1e-6)
    network.form = "dense"
    np.testing.assert_allclose(network.predict(y[:2]), found[:2], atol=1e-6)


@pytest.mark.parametrize("model", VARIATIONAL)
def test_meps_to_latent_vector_is_linear(model: str, sparse_mask: np.ndarray) -> None:
    network = make(model, sparse_mask)
    one, other = np.random.default_rng(2).random((2, 1, MUSCLES))
    middle = network.latent_of((one + other) / 2)[0]
    np.testing.assert_allclose(middle, (network.latent_of(one)[0] + network.latent_of(other)[0]) / 2, atol=1e-12)


def test_models_without_a_latent_vector_say_so(sparse_mask: np.ndarray) -> None:
    with pytest.raises(DataError, match="no latent vector"):
        make("direct-convolutional", sparse_mask).latent_of(np.zeros((1, MUSCLES)))


def test_weights_can_be_taken_out_and_put_back(sparse_mask: np.ndarray) -> None:
    network, other = (
        make("direct-variational", sparse_mask),
        build_network(
            "direct-variational",
            MUSCLES,
            sparse_mask,
            BOX,
            ArchitectureSettings(latent=LATENT),
            seed=4,
            dtype="float64",
        ),
    )
    y = np.random.default_rng(1).random((4, MUSCLES))
    assert not np.allclose(network.predict(y), other.predict(y), atol=1e-6)
    other.set_weights(network.weights())
    np.testing.assert_array_equal(network.predict(y), other.predict(y))


def test_weights_of_another_network_are_refused_and_change_nothing(sparse_mask: np.ndarray) -> None:
    network = make("direct-variational", sparse_mask)
    before = network.weights()
    with pytest.raises(DataError, match="not the weights of direct-variational"):
        network.set_weights(make("vae-decoder", sparse_mask).weights())
    wider = build_network("direct-variational", MUSCLES + 1, sparse_mask, BOX, ArchitectureSettings(latent=LATENT))
    with pytest.raises(DataError, match=r"shape \(6, 16\).*\(5, 16\)"):
        network.set_weights(wider.weights())
    for name, value in network.weights().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("model", "muscles", "box", "message"),
    [
        ("m2m", 5, BOX, "unknown model 'm2m'.*direct-variational"),
        ("direct-variational", 0, BOX, "at least 1 muscle"),
        ("direct-convolutional", 5, (36, 32, 32), "multiples of 32"),
        ("direct-variational", 5, (34, 32, 32), "multiples of 4"),
    ],
)
def test_what_cannot_be_built_is_refused(
    sparse_mask: np.ndarray, model: str, muscles: int, box: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        build_network(model, muscles, sparse_mask, box)


def test_meps_of_another_number_of_muscles_are_refused(sparse_mask: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"\(n, 5\); got \(2, 4\)"):
        make("direct-variational", sparse_mask).predict(np.zeros((2, 4)))
