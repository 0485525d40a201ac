"""A round head of large voxels and its subject: built, scalp and basis included, in a second."""

import numpy as np
import pytest

from rt_engine.field.subject_file import Subject
from trainer.efield.head import VoxelHead
from trainer.efield.sphere_head import sphere_head
from trainer.head_models import build
from trainer.head_models.build import Recipe

TARGET_MM = np.array([-30.0, 0.0, 60.0])


def round_subject() -> Subject:
    affine = np.eye(4)
    affine[:3, 3] = TARGET_MM - 3
    return Subject(
        name="round",
        space="sphere",
        hemisphere="left",
        box_shape=(8, 8, 8),
        affine=affine,
        voxel=np.argwhere(np.ones((6, 6, 6), bool)).astype(np.int16),
        vertices=np.array([[-30, 0, 64], [-25, 0, 64], [-30, 5, 64]], np.float32),
        triangles=np.array([[0, 1, 2]], np.int32),
        sphere_center_mm=np.zeros(3),
        scalp_radius_mm=92.0,
        notices="of nobody",
    )


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    return make_recipe(monkeypatch)


def make_recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Make a recipe of 16 mm voxels at "2 mm", with few candidates."""
    monkeypatch.setattr(build, "N_CANDIDATES", 64)

    def head(resolution_mm: int) -> VoxelHead:
        tight = sphere_head(8.0 * resolution_mm)
        affine = tight.affine.copy()
        affine[:3, 3] -= tight.resolution_mm
        return VoxelHead(np.pad(tight.label, 1), affine, tight.space, tight.name)

    return Recipe(
        name="round",
        source="a test",
        subject=round_subject,
        head=head,
        target_mm=lambda: TARGET_MM,
        notices="of nobody\nat all",
    )
