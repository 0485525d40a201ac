"""The networks' graph computes what their dense Keras form computes: mappers, decoder, amplitudes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from rt_engine.onnx_session import open_session
from trainer.architectures.family import InverseNetwork, build_network
from trainer.architectures.needed_cells import needed_cells
from trainer.architectures.settings import ArchitectureSettings, ModelName
from trainer.folded_weights import FoldedWeights, folded_weights, random_weights
from trainer.network_graph import dense_network, masked_network

BOX = (32, 32, 32)
M = 5


def mask_at_the_border(box: tuple[int, int, int], share: float = 0.03) -> NDArray[np.int64]:
    """Return a random mask that touches all faces of a box."""
    chosen = np.random.default_rng(2).random(box) < share
    chosen[0, 0, 0] = chosen[-1, -1, -1] = True
    return np.argwhere(chosen)


def shaken(network: InverseNetwork) -> InverseNetwork:
    """Give biases and batch norms other values than 0 and 1, and a field inside (0, 1)."""
    rng = np.random.default_rng(3)
    weights = network.weights()
    for name, values in weights.items():
        if "kernel" not in name:
            noise = rng.uniform(0.6, 1.4, values.shape) if "variance" in name else rng.normal(0.0, 0.1, values.shape)
            weights[name] = noise.astype(values.dtype) if "variance" in name else (values + noise).astype(values.dtype)
    network.set_weights(weights)
    network.decoder.convolutions[2].bias.assign([0.4])
    return network


def run(model: onnx.ModelProto, meps: NDArray[Any]) -> NDArray[np.float32]:
    session, _, _ = open_session(model.SerializeToString(), provider="cpu")
    (field,) = session.run(["field"], {"meps": meps.astype(np.float32)})
    return field


def with_norms(weights: FoldedWeights) -> FoldedWeights:
    rng = np.random.default_rng(4)
    norms = tuple((rng.uniform(0.5, 2.0, n), rng.normal(0.0, 0.2, n)) for n in (64, 32))
    return replace(weights, decoder=replace(weights.decoder, norms=norms))


def with_single_tap(weights: FoldedWeights) -> FoldedWeights:
    first, second, last = weights.decoder.kernels
    return replace(weights, decoder=replace(weights.decoder, kernels=(first, second, last[1:2, 1:2, 1:2])))


@pytest.mark.parametrize("box", [(16, 16, 16), (8, 12, 20)])
@pytest.mark.parametrize("change", [lambda weights: weights, with_norms, with_single_tap])
def test_the_masked_graph_is_the_dense_one_inside_the_mask(
    box: tuple[int, int, int], change: Callable[[FoldedWeights], FoldedWeights]
) -> None:
    voxel = mask_at_the_border(box)
    single = change is with_single_tap
    cells = needed_cells(voxel, box, final_kernel=1 if single else 3)
    weights = change(random_weights(M, cells, seed=1))
    meps = np.random.default_rng(5).random((3, M))
    dense = run(dense_network(weights, cells), meps)
    assert dense.shape == (3, 1, *box)
    inside = dense[:, 0][(slice(None), *voxel.T)]
    assert np.abs(run(masked_network(weights, cells), meps) - inside).max() <= 1e-5
    assert inside.std() > 1e-3
    assert ((inside > 0) & (inside < 1)).mean() > 0.5


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("direct-variational", ArchitectureSettings(latent=7)),
        ("vae-decoder", ArchitectureSettings(final_kernel=1)),
        ("vae-sampler-decoder", ArchitectureSettings()),
        ("ae-decoder", ArchitectureSettings()),
        ("direct-convolutional", ArchitectureSettings(batch_norm="mapper")),
        ("direct-convolutional", ArchitectureSettings(batch_norm="none", final_kernel=1)),
    ],
)
def test_every_model_s_graph_is_its_dense_keras_form(model: ModelName, settings: ArchitectureSettings) -> None:
    box = (16, 16, 16) if "va" in model else BOX
    voxel = mask_at_the_border(box, 0.01)
    network = shaken(build_network(model, M, voxel, box, settings, form="dense", seed=6))
    meps = np.random.default_rng(7).random((4, M))
    expected = network.predict(meps)
    found = run(masked_network(folded_weights(network), network.decoder.cells), meps)
    assert np.abs(found - expected).max() <= 1e-5
    assert np.ptp(expected, axis=0).max() > 1e-4  # it depends on the MEPs
    assert ((expected > 0) & (expected < 1)).mean() > 0.5


def test_graphs_run_on_the_oldest_onnx_runtime_and_hold_no_chance() -> None:
    cells = needed_cells(mask_at_the_border((16, 16, 16)), (16, 16, 16))
    for model in (masked_network(random_weights(M, cells), cells), dense_network(random_weights(M, cells), cells)):
        assert model.ir_version <= 8
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
        assert not [node.op_type for node in model.graph.node if "Random" in node.op_type]
