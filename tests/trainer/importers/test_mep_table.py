"""Tables of MEPs: units are stated, columns are found, and what is no table of MEPs is refused."""

import h5py
import numpy as np
import pytest

from rt_engine.errors import DataError, FileFormatError
from trainer.importers.mep_table import read_mep_table


def write(tmp_path, text, name="m.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Index,FDI_uV,ADM_uV\n1,100,200\n2,300.5,\n", [[100, 200], [300.5, np.nan]]),
        ("FDI (mV),ADM [mV]\n0.1,0.2\n0.3005,NaN\n", [[100, 200], [300.5, np.nan]]),
        ("FDI_V;ADM_V\n0,0001;0,0002\n3,005e-4;(null)\n", [[100, 200], [300.5, np.nan]]),
        ("FDI µV\tADM μV\r\n100\t200\r\n300.5\tn/a", [[100, 200], [300.5, np.nan]]),
        ("# comment\n\namp_FDI_uV,MEP_ADM_uV\n100,200\n\n300.5,-\n", [[100, 200], [300.5, np.nan]]),
        ('"FDI_uV","ADM_mV"\n"100","0.2"\n"300.5",""\n', [[100, 200], [300.5, np.nan]]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_amplitudes_come_in_uv(tmp_path, text, expected, encoding):
    table = read_mep_table(write(tmp_path, text, encoding=encoding))
    assert table.muscles == ("FDI", "ADM")
    np.testing.assert_allclose(table.mep_uv, expected)


def test_other_columns_are_kept_to_join_by(tmp_path):
    table = read_mep_table(write(tmp_path, "trial,FDI_uV,power\na7,100,45\n"))
    assert table.column == {"trial": ("a7",), "power": ("45",)}
    assert table.row == ("line 2",)


def test_known_muscles_need_a_unit(tmp_path):
    path = write(tmp_path, "x,FDI,ADM\n1,0.5,0.2\n")
    with pytest.raises(DataError, match="the unit of the column 'FDI' is not stated"):
        read_mep_table(path)
    np.testing.assert_allclose(read_mep_table(path, unit="mV").mep_uv, [[500, 200]])


def test_muscles_can_be_named(tmp_path):
    path = write(tmp_path, "a,b,c\n100,2,3\n")
    table = read_mep_table(path, unit="uV", muscles=["a", "c"])
    assert table.muscles == ("a", "c")
    np.testing.assert_allclose(table.mep_uv, [[100, 3]])


def test_the_real_table_of_eight_muscles(shared_data):
    """122 stimulations x 8 muscles in V; what was not found there is NaN and stays missing."""
    path = shared_data("multi_muscle") / "multi_muscle_122x8.csv"
    table = read_mep_table(path, unit="V", muscles=["amp_*"])
    assert table.muscles == ("FDI", "ADM", "APB", "FPB", "EDC", "FDS", "ECR", "FCR")
    assert table.mep_uv.shape == (122, 8)
    assert table.mep_uv[1, 0] == pytest.approx(193.396)
    assert np.isnan(table.mep_uv[0]).all()
    np.testing.assert_array_equal(np.isnan(table.mep_uv[:, 0]), [c == "0" for c in table.column["inc_FDI"]])
    assert 1000 < np.nanmax(table.mep_uv) < 10000
    assert len(table.column["x"]) == 122


BAD = {
    "empty": ("", "0 lines with text"),
    "names only": ("FDI_uV\n", "1 lines with text"),
    "no muscle": ("a,b\n1,2\n", "no column is known to be a muscle"),
    "short line": ("FDI_uV,ADM_uV\n1,2\n3\n", "line 3: 1 columns; expected 2"),
    "long line": ("FDI_uV,ADM_uV\n1,2\n3,4,5\n", "line 3: 3 columns"),
    "decimal commas among commas": ("FDI_uV,ADM_uV\n1,5,2,5\n", "line 2: 4 columns"),
    "word": ("FDI_uV\n100\nhigh\n", "line 3, column 'FDI_uV'.*'high'"),
    "negative": ("FDI_uV\n100\n-3\n", "line 3, column 'FDI_uV': the amplitude is -3"),
    "infinite": ("FDI_uV\n100\ninf\n", "line 3"),
    "twice": ("FDI_uV,FDI_uV\n1,2\n", "line 1: the column 'FDI_uV' stands there twice"),
    "same muscle": ("FDI_uV,FDI_mV\n100,2\n", "two columns are amplitudes of 'FDI'"),
    "V called uV": ("FDI_uV\n0.0018\n0.0002\n", "largest amplitude .* 0.0018 uV"),
    "uV called mV": ("FDI_mV\n1800\n", "largest amplitude"),
    "all missing": ("FDI_uV\nnan\n\n(null)\n", "no amplitude at all"),
    "open quote": ('FDI_uV,a\n"100,2\n', "line 2: not a line of separated values"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_a_table_of_meps_is_refused(tmp_path, case):
    text, message = BAD[case]
    with pytest.raises((DataError, FileFormatError), match=message):
        read_mep_table(write(tmp_path, text))


def test_two_units_are_refused(tmp_path):
    with pytest.raises(DataError, match="states its unit, and --unit another"):
        read_mep_table(write(tmp_path, "FDI_mV\n1\n"), unit="uV")
    with pytest.raises(DataError, match="'furlong'"):
        read_mep_table(write(tmp_path, "FDI\n1\n"), unit="furlong")
    with pytest.raises(DataError, match="no column fits 'XYZ'"):
        read_mep_table(write(tmp_path, "FDI_uV\n100\n"), muscles=["XYZ"])


def test_hdf5_brings_its_muscles_and_columns(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["mep_uv"] = [[100.0, 200], [np.nan, 5]]
        file["muscles"] = ["FDI", "ADM"]
        file["trial"] = [7, 9]
    table = read_mep_table(path)
    assert (table.muscles, table.column["trial"]) == (("FDI", "ADM"), ("7", "9"))
    np.testing.assert_array_equal(table.mep_uv, [[100, 200], [np.nan, 5]])
    with h5py.File(path, "a") as file:
        del file["muscles"]
    with pytest.raises(FileFormatError, match="m names"):
        read_mep_table(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_mep_table(path)


def test_brainsights_own_emg_is_a_table_too(tmp_path):
    axes = "m0n0\tm0n1\tm0n2\tm1n0\tm1n1\tm1n2\tm2n0\tm2n1\tm2n2"
    text = (
        "# Version: 12\n# Coordinate system: World\n# Units: millimetres, microvolts\n"
        f"# Sample Name\tLoc. X\tLoc. Y\tLoc. Z\t{axes}\tEMG Peak-to-peak 1\tEMG Peak-to-peak 2\n"
        "s\t0\t0\t80\t1\t0\t0\t0\t1\t0\t0\t0\t1\t812.5\t40\n"
        "t\t0\t0\t80\t1\t0\t0\t0\t1\t0\t0\t0\t1\t0\t(null)\n"
    )
    table = read_mep_table(write(tmp_path, text, "b.txt"), muscles=["FDI", "ADM"])
    assert table.muscles == ("FDI", "ADM")
    np.testing.assert_array_equal(table.mep_uv, [[812.5, 40], [np.nan, np.nan]])
    assert table.column["name"] == ("s", "t")
    with pytest.raises(DataError, match="has 2 EMG channels"):
        read_mep_table(write(tmp_path, text, "b.txt"), muscles=["FDI"])
