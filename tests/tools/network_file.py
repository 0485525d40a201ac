"""A model file of a network that says the same of every pulse, made without training and without TensorFlow."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from rt_engine.field.subject_file import Subject
from rt_engine.field.voxel_grid import voxel_centers_mm
from trainer.architectures.needed_cells import needed_cells
from trainer.export import bundle_bytes, bundle_metadata
from trainer.folded_weights import random_weights
from trainer.network_data import MepScaling, NetworkPreprocessing
from trainer.network_graph import build_network_graph
from trainer.network_spread import NetworkSpread
from trainer.preprocessing import TrainingSet


def write_network_that_knows_nothing(path: Path, subject: Subject, muscles: tuple[str, ...]) -> None:
    """Write a network with random weights whose map is 1 all over a subject's mask, for its last bias says so."""
    m, v = len(muscles), subject.n_voxels
    rng = np.random.default_rng(0)
    scaling = MepScaling(NetworkPreprocessing(), np.full(m, 3000.0), np.full(m, 0.1), np.eye(m))
    spread = NetworkSpread(
        feature_mean=np.zeros(2 * m + 3),
        feature_sd=np.ones(2 * m + 3),
        weights=np.zeros(2 * m + 3),
        offset=0.0,
        low=-1.0,
        high=1.0,
        voxel_variance=np.full(v, 0.01),
        components=np.linalg.qr(rng.normal(size=(v, 4)))[0].T,
        score_factor=np.eye(4),
        slope=rng.normal(size=(4, m)),
        held_out=False,
        n_rows=0,
        coverage={},
    )
    cells = needed_cells(subject.voxel, subject.box_shape)
    voxel_mm = voxel_centers_mm(subject.voxel, subject.affine)
    weights = random_weights(m, cells)
    weights = replace(weights, decoder=replace(weights.decoder, biases=(*weights.decoder.biases[:2], np.array([5.0]))))
    graph = build_network_graph(weights, cells, scaling, spread, voxel_mm)
    training = TrainingSet(
        muscles=muscles,
        amplitudes_uv=np.zeros((0, m)),
        field=np.zeros((0, v)),
        field_scale_v_per_m=100.0,
        intensity_percent_rmt=np.zeros(0),
        coil_mm=np.zeros((0, 3)),
        voxel=subject.voxel,
        affine=subject.affine,
        box_shape=subject.box_shape,
    )
    properties = bundle_metadata(
        training,
        kind="direct-variational",
        name="of the tests",
        field_scale_v_per_m=100.0,
        floor_uv=50.0,
        scale_uv=scaling.scale_uv,
        validation={},
        data_sha256="",
        created="",
    )
    path.write_bytes(bundle_bytes(graph, properties))
