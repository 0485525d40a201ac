"""The forward model M2M-Net: both forms alike, and it learns MEPs from fields as any network here is trained."""

import numpy as np
import pytest
import tensorflow as tf

from rt_engine.errors import DataError
from trainer.architectures.encoders import Encoder
from trainer.architectures.forward import ForwardNetwork, build_forward_network
from trainer.architectures.settings import ArchitectureSettings
from trainer.network_fitting import FittingSettings, fit_network

BOX = (16, 16, 16)
N_MUSCLES = 3


@pytest.fixture(scope="module")
def voxel():
    inside = np.zeros(BOX, bool)
    inside[5:9, 4:12, 7:10] = inside[0, 0, 3] = True
    return np.argwhere(inside)


@pytest.fixture(scope="module")
def responses(voxel):
    """Make fields with a peak somewhere, and muscles that respond where they are at home."""
    rng = np.random.default_rng(2)
    peak = voxel[rng.integers(len(voxel), size=142)] + rng.normal(size=(142, 3))
    x = np.exp(-((voxel[None] - peak[:, None]) ** 2).sum(-1) / 18.0)
    homes = voxel[[10, 45, 80]]
    y = np.stack([x[:, np.flatnonzero((voxel == home).all(1))[0]] ** 2 for home in homes], axis=1)
    return x.astype(np.float32), y.astype(np.float32)


@pytest.fixture(scope="module")
def trained(voxel, responses):
    x, y = responses
    network = build_forward_network(N_MUSCLES, voxel, BOX, ArchitectureSettings(l1=1e-6), seed=1)
    fit_network(network, x[:112], y[:112], FittingSettings(epochs=14), x_validation=x[112:], y_validation=y[112:])
    return network


def test_it_foretells_held_out_meps_better_than_a_constant(trained, responses):
    x, y = responses
    estimated = trained.predict(x[112:])
    assert estimated.shape == (30, N_MUSCLES)
    assert estimated.dtype == np.float32
    assert (estimated >= 0).all()
    squared = ((estimated - y[112:]) ** 2).sum()
    assert squared < 0.6 * ((y[:112].mean(axis=0) - y[112:]) ** 2).sum()


def test_dense_and_masked_forms_foretell_the_same(trained, responses):
    x, _ = responses
    masked = trained.predict(x[:5])
    trained.form = "dense"
    try:
        assert trained.form == trained.encoder.form == "dense"
        assert trained.predict(x[:5]) == pytest.approx(masked, abs=1e-5)
    finally:
        trained.form = "masked"


def test_gradients_of_dense_and_masked_forms_agree(voxel, assert_same_gradients):
    box = (8, 12, 20)  # 2, 3 and 5 cells of the latent grid: odd sides are pooled too
    inside = voxel[(voxel < box).all(axis=1)]
    network = build_forward_network(2, inside, box, dtype="float64", seed=4)
    for layer in network.encoder.convolutions:
        layer.bias.assign(layer.bias + 0.2)
    x = tf.random.stateless_uniform((3, len(inside)), (1, 2), dtype=tf.float64)
    y = tf.random.stateless_uniform((3, 2), (3, 4), dtype=tf.float64)
    gradients = []
    for form in ("masked", "dense"):
        network.form = form
        with tf.GradientTape() as tape:
            loss = network.losses(network.stages[0], x, y)["squared_error"]
        gradients.append(tape.gradient(loss, [variable.value for variable in network.trainable()]))
    assert_same_gradients(*gradients, 1e-9)


def test_the_loss_is_the_squared_error_and_the_penalty(voxel):
    network = build_forward_network(N_MUSCLES, voxel, BOX, ArchitectureSettings(l1=0.5))
    x = tf.zeros((2, len(voxel)))
    y = tf.constant([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    losses = network.losses(network.stages[0], x, y, tf.zeros((2, network.latent)), training=False)
    weights = network.weights()
    penalty = 0.5 * sum(np.abs(value).sum() for name, value in weights.items() if name.endswith("kernel"))
    assert float(losses["squared_error"]) == pytest.approx((1 + 4) / 2)  # nothing comes out of fresh weights at zero
    assert float(losses["l1"]) == pytest.approx(penalty, rel=1e-5)
    assert float(losses["loss"]) == pytest.approx(2.5 + penalty, rel=1e-5)
    assert set(losses) == {"loss", "squared_error", "kl", "l1"}


def test_a_trained_encoder_is_used_as_it_is(voxel, responses):
    x, y = responses
    encoder = Encoder(voxel, BOX, seeds=(7, 8, 9))
    before = [variable.numpy().copy() for variable in encoder.variables]
    network = build_forward_network(N_MUSCLES, voxel, BOX, encoder=encoder)
    head = network.weights()
    assert len(network.trainable()) == 2 * 3 + 2 * 3
    fit_network(network, x[:16], y[:16], FittingSettings(epochs=1))
    for variable, value in zip(encoder.variables, before, strict=True):
        assert np.array_equal(variable, value)
    assert not np.array_equal(network.weights()["mep_head/0/kernel"], head["mep_head/0/kernel"])


def test_an_encoder_of_another_mask_is_refused(voxel):
    with pytest.raises(DataError, match="another mask"):
        build_forward_network(N_MUSCLES, voxel, BOX, encoder=Encoder(voxel[:-1], BOX))


def test_weights_go_from_one_network_to_another(trained, voxel, responses):
    x, _ = responses
    other = build_forward_network(N_MUSCLES, voxel, BOX, seed=2)
    assert other.predict(x[:3]) != pytest.approx(trained.predict(x[:3]), abs=1e-3)
    other.set_weights(trained.weights())
    assert np.array_equal(other.predict(x[:3]), trained.predict(x[:3]))


def test_the_same_seed_gives_the_same_network_in_both_forms(voxel):
    def weights(**options):
        return build_forward_network(N_MUSCLES, voxel, BOX, **options).weights()

    one, other, another = weights(seed=5), weights(seed=5, form="dense"), weights(seed=6)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not np.array_equal(one["encoder/0/kernel"], another["encoder/0/kernel"])


def test_what_does_not_fit_is_refused(trained, voxel):
    with pytest.raises(DataError, match="takes fields"):
        trained.predict(np.zeros((1, 5)))
    with pytest.raises(DataError, match="at least 1 muscle"):
        build_forward_network(0, voxel, BOX)
    with pytest.raises(DataError, match="missing or unknown"):
        trained.set_weights({})
    wrong = trained.weights() | {"mep_head/1/bias": np.zeros(3)}
    with pytest.raises(DataError, match="has shape"):
        trained.set_weights(wrong)


def test_no_fields_give_no_meps(trained, voxel):
    assert isinstance(trained, ForwardNetwork)
    assert trained.predict(np.zeros((0, len(voxel)))).shape == (0, N_MUSCLES)
