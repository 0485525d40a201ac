"""From tables to a data set, with the real table of eight muscles."""

import numpy as np
import pytest

from rt_engine.errors import DataError
from rt_engine.field.stimulation_file import read_stimulation_set, write_stimulation_set
from rt_engine.field.subject_file import Subject
from rt_engine.mep import MepStatus
from trainer.importers.assemble import ImportRules, import_tables
from trainer.importers.field_table import FieldTable
from trainer.importers.mep_table import MepTable, read_mep_table
from trainer.importers.placed_fields import check_space
from trainer.importers.pose_table import PoseTable


def head(space="scanner, RAS"):
    return Subject(
        name="a head",
        space=space,
        hemisphere="left",
        box_shape=(4, 4, 4),
        affine=np.eye(4),
        voxel=np.argwhere(np.ones((2, 2, 2), bool)).astype(np.int16),
        vertices=np.eye(3, dtype=np.float32),
        triangles=np.array([[0, 1, 2]], np.int32),
        sphere_center_mm=np.zeros(3),
        scalp_radius_mm=80.0,
        notices="none",
    )


def fields(n, didt=None):
    values = np.random.default_rng(0).uniform(10, 100, (n, 8)).astype(np.float32)
    didt = None if didt is None else np.asarray(didt, float)
    return FieldTable(values, tuple(str(k) for k in range(n)), np.full((n, 4, 4), np.nan), "fields", didt)


def test_the_real_table_comes_in_as_far_as_it_goes(tmp_path, shared_data):
    """122 stimulations; it has places of the coil but no axes, so the fields must come from elsewhere."""
    table = read_mep_table(shared_data("multi_muscle") / "multi_muscle_122x8.csv", unit="V", muscles=["amp_*"])
    imported = import_tables(head(), "", None, fields(122), table, ImportRules())
    assert imported.data is not None
    write_stimulation_set(tmp_path / "d.stim.h5", imported.data)
    data = read_stimulation_set(tmp_path / "d.stim.h5")
    assert (data.n_pulses, data.n_muscles) == (122, 8)
    missing = np.isnan(table.mep_uv)
    assert missing.sum() > 400
    np.testing.assert_array_equal(np.isnan(data.mep_uv), missing)
    assert (data.status[missing] == int(MepStatus.SAMPLES_MISSING)).all()
    below = table.mep_uv < 50
    np.testing.assert_array_equal(data.status == int(MepStatus.NO_MEP), below)
    np.testing.assert_allclose(data.mep_uv[~missing], table.mep_uv[~missing], rtol=1e-6)
    with pytest.raises(DataError, match="Neither poses nor fields"):
        import_tables(head(), "", None, None, table, ImportRules())


def table(n=3, power=("50", "60", "")):
    return MepTable(
        ("FDI",), np.linspace(40, 900, n)[:, None], tuple(f"line {k}" for k in range(n)), "meps", {"% MSO": power[:n]}
    )


def test_fields_are_scaled_for_all_pulses_or_for_none():
    rules = ImportRules(intensity_column="% MSO", max_didt_a_per_us=100)
    given = fields(2, didt=[1e6, 2e6])
    data = import_tables(head(), "", None, given, table(2), rules).data
    assert data is not None
    np.testing.assert_allclose(data.field_v_per_m, given.field_v_per_m * [[50], [30]], rtol=1e-6)
    with pytest.raises(DataError, match="known for 2 of 3 rows only"):
        import_tables(head(), "", None, fields(3, didt=[1e6] * 3), table(3), rules)
    unknown = import_tables(head(), "", None, fields(3), table(3), rules)
    assert unknown.data is not None
    np.testing.assert_array_equal(unknown.data.field_v_per_m, fields(3).field_v_per_m)
    assert "taken as they are" in unknown.notes[0]
    np.testing.assert_array_equal(unknown.data.intensity_percent_mso, np.array([50, 60, np.nan], np.float32))


def pose_table(space, axes="RAS", origin_known=True):
    pose = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 85], [0, 0, 0, 1]])[None]
    return PoseTable(("a",), pose, ("",), np.full(1, np.nan), space, "poses", axes, origin_known)


def test_spaces_that_cannot_be_the_same_are_refused():
    check_space(pose_table("NIfTI:Scanner, RAS"), head(), assume_same=False)
    check_space(pose_table("SimNIBS, RAS"), head(), assume_same=False)
    check_space(pose_table("NIfTI:MNI-152, RAS"), head("MNI152, RAS"), assume_same=False)
    check_space(pose_table("NIfTI:Scanner, RAS"), head("MNI152, RAS"), assume_same=True)
    for poses, subject in (
        (pose_table("NIfTI:Scanner, RAS"), head("MNI152, RAS")),
        (pose_table("NIfTI:MNI-152, RAS"), head()),
        (pose_table("Brainsight", "LPS", False), head()),
        (pose_table("World", ""), head()),
    ):
        with pytest.raises(DataError, match="is in"):
            check_space(poses, subject, assume_same=False)
    with pytest.raises(DataError, match="give --transform"):
        check_space(pose_table("World", ""), head(), assume_same=True)


def test_fields_and_poses_of_different_counts_are_refused():
    with pytest.raises(DataError, match="3 fields, poses 1 poses"):
        import_tables(head(), "", pose_table("x"), fields(3), table(3), ImportRules())
