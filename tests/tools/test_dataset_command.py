"""`m2m dataset import`: what comes through is right, what does not is said, and nothing is half done."""

import csv
import importlib.util
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from rt_engine.field.sphere import SphereField
from rt_engine.field.stimulation_file import read_stimulation_set
from rt_engine.field.subject_file import file_sha256
from rt_engine.mep import MepStatus

_spec = importlib.util.spec_from_file_location("small_head", Path(__file__).with_name("small_head.py"))
assert _spec is not None
assert _spec.loader is not None
small_head = importlib.util.module_from_spec(_spec)
sys.modules["small_head"] = small_head
_spec.loader.exec_module(small_head)

PLACES = [(20, -15, 0), (30, -5, 20), (40, 5, 40), (50, 0, -20)]
FLIP = np.diag([-1.0, 1, -1, 1])


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    return small_head.write_head(tmp_path_factory.mktemp("head"))


def poses():
    return np.array([small_head.place(*each) for each in PLACES])


def brainsight(path, rows, *, system="NIfTI:Scanner", power="60"):
    """Write samples with their own EMG: rows of (pose or None, uV of two channels)."""
    names = ["Sample Name", "Index", "Loc. X", "Loc. Y", "Loc. Z"]
    names += [f"m{a}n{c}" for a in range(3) for c in range(3)]
    names += ["Stim. Power A", "Date", "Time", "EMG Channels", "EMG Peak-to-peak 1", "EMG Peak-to-peak 2"]
    lines = [
        "# Version: 12",
        f"# Coordinate system: {system}",
        "# Created by: Brainsight 2.4.9",
        "# " + "\t".join(names),
    ]
    for number, (pose, amplitudes) in enumerate(rows, start=1):
        theirs = None if pose is None else pose @ FLIP
        place = ["(null)"] * 12 if theirs is None else [f"{x:.4f}" for x in (*theirs[:3, 3], *theirs[:3, :3].T.ravel())]
        lines.append(
            "\t".join(
                [f"Sample {number}", str(number), *place, power, "2022-02-21", f"13:49:{number:02}.5", "2", *amplitudes]
            )
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def meps(path, n=4, names=("FDI_uV", "ADM_uV"), first=1):
    rows = [f"{first + k};{100 + k},5;{20 + 30 * k}" for k in range(n)]
    path.write_text(";".join(["trial", *names]) + "\n" + "\n".join(rows) + "\n")
    return path


def report_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_brainsight_with_its_own_emg(m2m, tmp_path, head):
    """The main way: poses, output and amplitudes in one file; fields by the basis; the uncovered pose is refused."""
    uncovered = small_head.place(50 + 45, 0)
    rows = [
        (poses()[0], ("812.5", "40")),
        (None, ("100", "100")),
        (uncovered, ("100", "100")),
        (poses()[1], ("(null)", "900")),
    ]
    path = brainsight(tmp_path / "export.txt", rows)
    out, report = tmp_path / "o.stim.h5", tmp_path / "r.csv"
    ended = m2m(
        "dataset", "import", out, "--subject", head, "--poses", path, "--muscles", "FDI,ADM", "--rmt-percent-mso", "50",
        "--report", report, "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    data = read_stimulation_set(out)
    assert data.muscles == ("FDI", "ADM")
    np.testing.assert_array_equal(data.mep_uv, np.array([[812.5, 40], [np.nan, 900]], np.float32))
    no_mep, missing = int(MepStatus.NO_MEP), int(MepStatus.SAMPLES_MISSING)
    np.testing.assert_array_equal(data.status, [[0, no_mep], [missing, 0]])
    np.testing.assert_allclose(data.pose, poses()[:2], atol=1e-4)
    np.testing.assert_allclose(data.intensity_percent_mso, 60)
    np.testing.assert_allclose(data.intensity_percent_rmt, 120)
    assert np.isnan(data.t_pulse).all()
    subject = small_head.make_head()
    sphere = SphereField(subject.voxel_mm, np.zeros(3))
    coil = subject.basis.coil
    for row in range(2):
        direct = sphere.magnitude(coil, poses()[row], 0.6 * coil.max_didt_a_per_us * 1e6)
        assert np.abs(data.field_v_per_m[row] - direct).max() < 0.02 * direct.max()
    assert data.subject_sha256 == file_sha256(head)
    rows = report_rows(report)
    assert [row["outcome"] for row in rows] == ["imported", "refused", "refused", "imported"]
    assert "(null)" in rows[1]["reason"]
    assert "outside the basis' coverage: residual" in rows[2]["reason"]
    assert float(rows[2]["residual"]) > 0
    assert float(rows[0]["residual"]) < 0.2
    assert (ended.json["imported"], ended.json["refused"], ended.json["missing_amplitudes"]) == (2, 2, 1)
    assert sum(ended.json["reasons"].values()) == 2
    assert "4 rows: 2 imported, 2 refused" in ended.err


def test_localite_with_a_table_by_order(m2m, tmp_path, head, shared_data):
    session = shared_data("neuronavigation") / "localite/Session_20120925103137328/TMSTrigger"
    out = tmp_path / "o.stim.h5"
    ended = m2m(
        "dataset", "import", out, "--subject", head, "--poses", session / "TriggerData20210409170817799.xml", "--meps",
        meps(tmp_path / "m.csv", 8), "--field", "sphere", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    data = read_stimulation_set(out)
    assert data.n_pulses + ended.json["refused"] == 8
    assert (data.intensity_percent_mso == 45).all()
    # dI/dt as Localite measured it, 62 A/us in the first pulse, not 45 % of a coil's maximum.
    subject = small_head.make_head()
    from rt_engine.field.coil import figure_of_eight

    direct = SphereField(subject.voxel_mm, np.zeros(3)).magnitude(figure_of_eight(), data.pose[0], 62e6)
    np.testing.assert_allclose(data.field_v_per_m[0], direct, rtol=1e-5)


def test_matsimnibs_with_a_table_by_a_key(m2m, tmp_path, head):
    np.save(tmp_path / "p.npy", poses())
    out = tmp_path / "o.stim.h5"
    table = meps(tmp_path / "m.csv", 4, first=3)  # trials 3 to 6
    ended = m2m(
        "dataset", "import", out, "--subject", head, "--poses", tmp_path / "p.npy", "--meps", table, "--by",
        "index=trial", "--intensity", "55", "--intensity-unit", "percent-mso", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    data = read_stimulation_set(out)
    np.testing.assert_allclose(data.pose, poses()[2:], atol=1e-9)
    np.testing.assert_allclose(data.mep_uv[:, 0], [100.5, 101.5])
    assert ended.json["refused"] == 4


def test_a_transform_brings_brainsights_space_to_the_subjects(m2m, tmp_path, head):
    motion = np.array([[-1.0, 0, 0, 90], [0, -1, 0, 120], [0, 0, 1, 70], [0, 0, 0, 1]])  # LPS from a corner
    path = brainsight(tmp_path / "b.txt", [(motion @ pose, ("500", "60")) for pose in poses()], system="Brainsight")
    out = tmp_path / "o.stim.h5"
    refused = m2m("dataset", "import", out, "--subject", head, "--poses", path)
    assert refused.code == 1
    assert "Export the poses in NIfTI coordinates" in refused.err
    np.savetxt(tmp_path / "t.txt", np.linalg.inv(motion))
    ended = m2m("dataset", "import", out, "--subject", head, "--poses", path, "--transform", tmp_path / "t.txt")
    assert ended.code == 0, ended.err
    np.testing.assert_allclose(read_stimulation_set(out).pose, poses(), atol=1e-3)


def test_fields_with_poses_and_a_table(m2m, tmp_path, head):
    """Fields of a volume per position, scaled from the simulation's 1 A/us to each pulse's dI/dt."""
    import nibabel

    volumes = []
    for k, strength in enumerate((1.0, 2.0, 3.0, 4.0)):
        volume = np.full((60, 60, 60), strength, np.float32)
        affine = np.eye(4)
        affine[:3, 3] = (-60, -30, 30)
        image = nibabel.Nifti1Image(volume, affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, tmp_path / f"f{k}.nii.gz")
        volumes += ["--fields", tmp_path / f"f{k}.nii.gz"]
    np.save(tmp_path / "p.npy", poses())
    out = tmp_path / "o.stim.h5"
    common = ["dataset", "import", out, "--subject", head, "--meps", meps(tmp_path / "m.csv"), *volumes]
    assert m2m(*common).code == 0
    np.testing.assert_allclose(read_stimulation_set(out).field_v_per_m[:, 0], [1, 2, 3, 4], rtol=1e-5)
    ended = m2m(
        *common, "--poses", tmp_path / "p.npy", "--fields-didt", "1", "--intensity", "50", "--intensity-unit",
        "percent-mso", "--max-didt", "150", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    data = read_stimulation_set(out)
    np.testing.assert_allclose(data.field_v_per_m[:, 0], [75, 150, 225, 300], rtol=1e-5)
    np.testing.assert_allclose(data.pose, poses(), atol=1e-9)
    assert "fields scaled to each pulse's dI/dt" in ended.json["notes"]


def save_arrays(path):
    rng = np.random.default_rng(0)
    field = rng.uniform(10, 90, (5, 3))
    field[3, 1] = np.nan
    np.savez(
        path,
        field_v_per_m=field,
        voxel=np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]]),
        origin=np.array([-66.0, -46, 14]),
        mep_uv=np.array([[100.0, 20], [np.nan, 300], [800, 40], [60, 70], [90, 10]]),
        muscles=np.array(["FDI", "ADM"]),
        intensity=np.array([110.0, 120, 130, 140, 110]),
    )
    return path


def test_plain_arrays(m2m, tmp_path, head):
    out = tmp_path / "o.stim.h5"
    path = save_arrays(tmp_path / "a.npz")
    ended = m2m("dataset", "import", out, "--arrays", path, "--rmt-percent-mso", "40", "--json")
    assert ended.code == 0, ended.err
    data = read_stimulation_set(out)
    np.testing.assert_allclose(data.intensity_percent_rmt, [110, 120, 130, 110])
    np.testing.assert_allclose(data.intensity_percent_mso, [44, 48, 52, 44])
    assert np.isnan(data.pose).all()
    assert ended.json["reasons"] == {"the field holds values that are not finite numbers": 1}
    before = out.read_bytes()
    refused = m2m("dataset", "import", out, "--arrays", path, "--subject", head)
    assert refused.code == 1
    assert "has 3 voxels, the subject 'small head' 27" in refused.err
    assert out.read_bytes() == before


def test_the_authors_matlab_files(m2m, tmp_path):
    from scipy.io import savemat

    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:4, 3, 3] = 1
    folder = tmp_path / "mat"
    folder.mkdir()
    for number in (1, 2, 10):
        savemat(folder / f"E-box_{number}.mat", {"box_matrix_E": mask * number * 0.01})
    savemat(folder / "mask.mat", {"logical_mask": mask})
    savemat(folder / "Y.mat", {"MEPampNormAll": np.array([[0.1, 0.5], [0.2, 0.001], [1, 0.3]])})
    out = tmp_path / "o.stim.h5"
    refused = m2m("dataset", "import", out, "--mat", folder)
    assert refused.code == 1
    for option in ("--muscles", "--unit", "--field-unit", "--origin"):
        assert option in refused.err
    ended = m2m(
        "dataset", "import", out, "--mat", folder, "--muscles", "FDI,ADM", "--unit", "normalised", "--maximum-uv",
        "5000,900", "--field-unit", "1000", "--origin", "-66,-46,14",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    data = read_stimulation_set(out)
    np.testing.assert_allclose(data.field_v_per_m[:, 0], [10, 20, 100], rtol=1e-6)
    np.testing.assert_allclose(data.mep_uv, [[500, 450], [1000, 0.9], [5000, 270]], rtol=1e-6)
    assert data.status[1, 1] == MepStatus.NO_MEP
    np.testing.assert_array_equal(data.affine[:3, 3], (-66, -46, 14))


def bad_calls(tmp_path, head):
    np.save(tmp_path / "p.npy", poses())
    sheared = poses()
    sheared[2, 0, 1] += 0.2
    np.save(tmp_path / "sheared.npy", sheared)
    np.save(tmp_path / "away.npy", poses() @ np.diag([1, -1, -1, 1]))
    table = meps(tmp_path / "m.csv")
    three = meps(tmp_path / "m3.csv", 3)
    other = meps(tmp_path / "other.csv", 4, first=90)
    (tmp_path / "unit.csv").write_text("FDI,ADM\n1,2\n1,2\n1,2\n1,2\n")
    (tmp_path / "cut.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["x"] = [1.0]
    p = ["--poses", tmp_path / "p.npy"]
    mso = ["--intensity", "55", "--intensity-unit", "percent-mso"]
    bare = small_head.write_head(tmp_path, basis=False)
    return {
        "nothing given": ([], "Neither --poses nor --fields"),
        "only MEPs": (["--meps", table], "m.csv alone has no coil axes or fields"),
        "no MEPs": (p, "--meps was not given"),
        "no intensity": ([*p, "--meps", table], "None of 4 rows came through"),
        "intensity without unit": ([*p, "--meps", table, "--intensity", "55"], "--intensity needs --intensity-unit"),
        "other counts": ([*p, "--meps", three, *mso], "cannot be matched by order"),
        "no common key": ([*p, "--meps", other, *mso, "--by", "index=trial"], "None of 8 rows came through"),
        "no such key": ([*p, "--meps", table, *mso, "--by", "nonsense"], "no column 'nonsense'"),
        "no unit": ([*p, "--meps", tmp_path / "unit.csv", *mso], "unit of the column 'FDI' is not stated"),
        "sheared": (["--poses", tmp_path / "sheared.npy", "--meps", table, *mso], "matrix 3: the axes are not"),
        "pointing away": (["--poses", tmp_path / "away.npy", "--meps", table, *mso], "None of 4 rows came through"),
        "no basis": ([*p, "--meps", table, *mso, "--subject", bare], "has no reduced basis"),
        "template": ([*p, "--meps", table, *mso, "--subject", DEMO], "One is a template's space"),
        "wrong column": ([*p, "--meps", table, "--intensity-column", "power"], "Neither table has a column 'power'"),
        "truncated fields": (["--fields", tmp_path / "cut.hdf5", "--meps", table], "cut.hdf5"),
        "fields without fields": (["--fields", tmp_path / "none.h5", "--meps", table], "none.h5"),
        "arrays and poses": ([*p, "--arrays", tmp_path / "none.h5"], "no other input"),
        "unknown field": ([*p, "--field", "magic"], "--field is 'magic'"),
        "unknown table": ([*p, "--table", "magic"], "--table is 'magic'"),
        "no subject": ([*p, "--meps", table, "--subject", tmp_path / "x.h5"], "There is no file"),
    }


DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo" / "default.subject.h5"
CASES = [
    "nothing given", "only MEPs", "no MEPs", "no intensity", "intensity without unit", "other counts", "no common key",
    "no such key", "no unit", "sheared", "pointing away", "no basis", "template", "wrong column", "truncated fields",
    "fields without fields", "arrays and poses", "unknown field", "unknown table", "no subject",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_imported_leaves_the_file_as_it_was(m2m, tmp_path, head, case):
    arguments, message = bad_calls(tmp_path, head)[case]
    out = tmp_path / "o.stim.h5"
    out.write_text("as it was")
    there = sorted(path.name for path in tmp_path.iterdir())
    if "--subject" not in arguments:
        arguments = ["--subject", head, *arguments]
    ended = m2m("dataset", "import", out, *arguments)
    assert ended.code == 1
    assert message in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    assert out.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == there


def test_the_report_is_written_even_if_nothing_matches(m2m, tmp_path, head):
    np.save(tmp_path / "p.npy", poses())
    report = tmp_path / "r.csv"
    ended = m2m(
        "dataset", "import", tmp_path / "o.stim.h5", "--subject", head, "--poses", tmp_path / "p.npy", "--meps",
        meps(tmp_path / "m.csv", 2, first=90), "--by", "index=trial", "--report", report,
    )  # fmt: skip
    assert ended.code == 1
    assert not (tmp_path / "o.stim.h5").exists()
    assert [row["outcome"] for row in report_rows(report)] == ["refused"] * 6
    assert "no MEPs with index=trial '1'" in report_rows(report)[0]["reason"]


def test_a_folder_that_is_not_there_is_said_before_anything_is_read(m2m, tmp_path):
    ended = m2m("dataset", "import", tmp_path / "no" / "o.stim.h5", "--poses", tmp_path / "also-not-there.txt")
    assert ended.code == 1
    assert "there is no folder" in ended.err


def test_help_names_the_ways(m2m):
    ended = m2m("dataset", "import", "--help")
    assert ended.code == 0
    for word in ("--poses", "--fields", "--meps", "--arrays", "--mat", "--by", "Brainsight", "Localite", "--report"):
        assert word in ended.out
