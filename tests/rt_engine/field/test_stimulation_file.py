"""The stimulation data set: everything comes back, and nothing that contradicts itself is written or read."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.hdf5_file import read_hdf5, write_hdf5
from rt_engine.field.stimulation_file import (
    STIMULATION_KIND,
    STIMULATION_VERSION,
    StimulationSet,
    Truth,
    read_stimulation_set,
    write_stimulation_set,
)

amounts = st.floats(0, 1e6, width=32)


def assert_same(one: object, other: object) -> None:
    for field in dataclasses.fields(one):
        written, read = getattr(one, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(written):
            assert_same(written, read)
        elif isinstance(written, np.ndarray):
            assert read.dtype == written.dtype
            np.testing.assert_array_equal(read, written)
        else:
            assert read == written


@st.composite
def stimulation_sets(draw: st.DrawFn) -> StimulationSet:
    n, m = draw(st.integers(0, 4)), draw(st.integers(1, 4))
    names = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), min_size=1, max_size=6)
    muscles = draw(st.lists(names, min_size=m, max_size=m, unique=True))
    box = draw(st.tuples(*[st.integers(1, 4)] * 3))
    mask = draw(hnp.arrays(bool, box).filter(np.any))

    def rows(dtype, *axes, values=amounts):
        return draw(hnp.arrays(dtype, (n, *axes), elements=values))

    voxel = np.argwhere(mask).astype(np.int16)
    pose = np.tile(np.eye(4), (n, 1, 1))
    pose[:, :3, 3] = rows(np.float64, 3)
    pose[rows(bool, values=st.booleans())] = np.nan
    truth = Truth(
        pulse_sample=rows(np.int64, values=st.integers(-1, 2**60)),
        mep_sent_uv=rows(np.float64, m),
        mep_noise_free_uv=rows(np.float64, m),
        pushed_at=rows(np.float64, values=amounts | st.just(np.nan)),
    )
    return StimulationSet(
        muscles=tuple(muscles),
        mep_uv=rows(np.float32, m),
        status=rows(np.uint16, m, values=st.integers(0, 127)),
        field_v_per_m=rows(np.float32, len(voxel)),
        voxel=voxel,
        affine=np.diag([2.0, 2.0, 2.0, 1.0]),
        box_shape=box,
        pose=pose,
        intensity_percent_rmt=rows(np.float32),
        intensity_percent_mso=rows(np.float32),
        t_pulse=rows(np.float64),
        source=draw(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)),
        subject_sha256=draw(st.sampled_from(["", "0123456789abcdef" * 4])),
        truth=draw(st.sampled_from([None, truth])),
    )


@given(data=stimulation_sets())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_any_set_comes_back_as_it_was(tmp_path, data):
    write_stimulation_set(tmp_path / "d.stim.h5", data)
    back = read_stimulation_set(tmp_path / "d.stim.h5")
    assert_same(data, back)
    assert (back.n_pulses, back.n_muscles, back.n_voxels) == (len(data.mep_uv), len(data.muscles), len(data.voxel))


def test_missing_values_come_back(tmp_path, stimulations):
    write_stimulation_set(tmp_path / "d.stim.h5", stimulations)
    assert_same(stimulations, read_stimulation_set(tmp_path / "d.stim.h5"))


def changed(array: np.ndarray, index: object, value: object) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


WRONG = {
    "no muscle": (lambda d: {"muscles": ()}, "at least one"),
    "muscle twice": (lambda d: {"muscles": ("FDI", "FDI", "ADM")}, "each name once"),
    "muscle without name": (lambda d: {"muscles": ("FDI", "", "ADM")}, "must not be empty"),
    "muscle name over two lines": (lambda d: {"muscles": ("FDI", "A\nB", "ADM")}, "line break"),
    "a muscle too few": (lambda d: {"muscles": ("FDI", "ADM")}, r"\(4, 3\); expected float32 \(4, 2\)"),
    "subject is no hash": (lambda d: {"subject_sha256": "abc"}, "64 hexadecimal"),
    "wide amplitudes": (lambda d: {"mep_uv": d.mep_uv.astype(np.float64)}, "mep_uv is float64"),
    "unexplained NaN": (lambda d: {"mep_uv": changed(d.mep_uv, (0, 0), np.nan)}, "without a status"),
    "infinite amplitude": (lambda d: {"mep_uv": changed(d.mep_uv, (2, 1), np.inf)}, "mep_uv"),
    "negative amplitude": (lambda d: {"mep_uv": changed(d.mep_uv, (0, 0), -1)}, "mep_uv holds -1"),
    "a voxel too few": (lambda d: {"voxel": d.voxel[1:]}, "field_v_per_m"),
    "field not finite": (lambda d: {"field_v_per_m": changed(d.field_v_per_m, (0, 0), np.nan)}, "field_v_per_m"),
    "negative field": (lambda d: {"field_v_per_m": changed(d.field_v_per_m, (0, 0), -1)}, "field_v_per_m holds -1"),
    "unsorted voxels": (lambda d: {"voxel": d.voxel[::-1].copy()}, "lexicographic"),
    "half a pose": (lambda d: {"pose": changed(d.pose, (1, 0, 0), 1.0)}, "no rigid motion"),
    "mirrored pose": (lambda d: {"pose": changed(d.pose, (0, 0, 0), -1.0)}, "no rigid motion"),
    "scaled pose": (lambda d: {"pose": changed(d.pose, (0, 0, 0), 1.01)}, "no rigid motion"),
    "pose of zeros": (lambda d: {"pose": changed(d.pose, 0, 0.0)}, "no rigid motion"),
    "infinite pose": (lambda d: {"pose": changed(d.pose, (0, 0, 3), np.inf)}, "no rigid motion"),
    "negative intensity": (
        lambda d: {"intensity_percent_mso": changed(d.intensity_percent_mso, 0, -5)}, "intensity_percent_mso holds -5",
    ),
    "infinite time": (lambda d: {"t_pulse": changed(d.t_pulse, 0, np.inf)}, "t_pulse"),
    "a time too few": (lambda d: {"t_pulse": d.t_pulse[1:]}, "t_pulse"),
    "truth too short": (
        lambda d: {"truth": dataclasses.replace(d.truth, pulse_sample=d.truth.pulse_sample[1:])}, "pulse_sample",
    ),
    "negative truth": (
        lambda d: {"truth": dataclasses.replace(d.truth, mep_sent_uv=-d.truth.mep_sent_uv)}, "mep_sent_uv holds -",
    ),
    "impossible sample": (
        lambda d: {"truth": dataclasses.replace(d.truth, pulse_sample=np.full(4, -2))}, "pulse_sample holds -2",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_set_that_contradicts_itself_is_not_written(tmp_path, stimulations, change, message):
    with pytest.raises(DataError, match=message):
        write_stimulation_set(tmp_path / "d.stim.h5", dataclasses.replace(stimulations, **change(stimulations)))
    assert not list(tmp_path.iterdir())


FOREIGN = {
    "no amplitudes": (lambda attributes, arrays: arrays.pop("mep_uv"), "lacks 'mep_uv'"),
    "no muscles": (lambda attributes, arrays: attributes.pop("muscles"), "lacks 'muscles'"),
    "half a truth": (lambda attributes, arrays: arrays.pop("truth/pushed_at"), "lacks 'truth/pushed_at'"),
    "one pulse less in one array": (lambda attributes, arrays: arrays.update(pose=arrays["pose"][1:]), "pose is"),
    "amplitudes as numbers in text": (
        lambda attributes, arrays: arrays.update(mep_uv=arrays["mep_uv"].astype("S8")), "mep_uv is",
    ),
    "box of one number": (lambda attributes, arrays: attributes.update(box_shape=np.int64(64)), "usable stimulation"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_file_with_wrong_content_is_refused(tmp_path, stimulations, spoil, message):
    path = tmp_path / "d.stim.h5"
    write_stimulation_set(path, stimulations)
    attributes, arrays = read_hdf5(path, kind=STIMULATION_KIND, version=STIMULATION_VERSION)
    spoil(attributes, arrays)
    write_hdf5(path, kind=STIMULATION_KIND, version=STIMULATION_VERSION, attributes=attributes, arrays=arrays)
    with pytest.raises(FileFormatError, match=message):
        read_stimulation_set(path)


def test_a_newer_set_asks_for_an_update(tmp_path):
    write_hdf5(tmp_path / "f.h5", kind=STIMULATION_KIND, version=STIMULATION_VERSION + 1, attributes={}, arrays={})
    with pytest.raises(FileFormatError, match="Update m2m-live"):
        read_stimulation_set(tmp_path / "f.h5")


def test_a_truncated_set_is_refused(tmp_path, stimulations):
    write_stimulation_set(tmp_path / "d.stim.h5", stimulations)
    raw = (tmp_path / "d.stim.h5").read_bytes()
    (tmp_path / "d.stim.h5").write_bytes(raw[:-1])
    with pytest.raises(FileFormatError, match="truncated"):
        read_stimulation_set(tmp_path / "d.stim.h5")
