"""Files that others made: whatever their parser does to a child process, here it is an error with a message."""

import os
import signal
import time
from importlib.resources import files
from pathlib import Path

import h5py
import numpy as np
import pytest

from rt_engine.edges import foreign_files
from rt_engine.edges.foreign_files import (
    open_foreign_model,
    read_foreign_stimulation_set,
    read_foreign_subject,
    try_foreign_hdf5,
)
from rt_engine.errors import DataError, FileFormatError, ModelError
from rt_engine.guarded_read import read_in_child
from rt_engine.model_file import DIGEST_PREFIX, digest_of, open_model, read_model_info

DEMO = Path(str(files("configs") / "demo"))
MODEL = DEMO / "kernel-ridge.onnx"
SUBJECT = DEMO / "default.subject.h5"


def crash(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(path: Path) -> None:
    while True:
        time.sleep(1.0)


def run_in_circles(path: Path) -> None:
    while True:
        pass


def flood(path: Path) -> None:
    np.ones(10**12)


def exit_at_once(path: Path) -> None:
    os._exit(7)


def write_a_file(path: Path) -> None:
    path.with_suffix(".written").write_bytes(b"x" * 100_000)


def refuse(path: Path) -> None:
    raise ModelError(f"{path.name} is too: clever")


def complain(path: Path) -> None:
    os.write(2, b"native noise m2m-ref: m2m-refused:\n")
    raise DataError("wrong shape")


def chatter(path: Path) -> bytes:
    os.write(1, b"native noise")
    return b"result"


def niceness(path: Path) -> bytes:
    return str(os.getpriority(os.PRIO_PROCESS, 0)).encode()


def current_folder_first(path: Path) -> bytes:
    import m2m_decoy

    return str(m2m_decoy).encode()


@pytest.mark.parametrize(
    ("reader", "says"),
    [
        (crash, "SIGSEGV"),
        (flood, "more than 4[0-9]{3} MB of memory"),
        (exit_at_once, "damaged"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="no such limits here")
def test_a_crash_a_flood_or_an_end_of_the_child_is_an_error_here(tmp_path, reader, says) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"x")
    with pytest.raises(FileFormatError, match=says) as caught:
        read_in_child(reader, path)
    assert "file.bin" in str(caught.value)


def test_a_child_that_does_not_end_is_ended(tmp_path) -> None:
    with pytest.raises(FileFormatError, match="did not end within 0.5 s"):
        read_in_child(hang, tmp_path / "file.bin", timeout_s=0.5)


@pytest.mark.skipif(os.name != "posix", reason="no such limits here")
def test_a_child_that_runs_in_circles_is_ended(tmp_path) -> None:
    with pytest.raises(FileFormatError, match="did not end within 1 s of processor time"):
        read_in_child(run_in_circles, tmp_path / "file.bin", cpu_s=1)


@pytest.mark.skipif(os.name != "posix", reason="no such limits here")
def test_the_child_may_not_write_files(tmp_path) -> None:
    with pytest.raises(FileFormatError):
        read_in_child(write_a_file, tmp_path / "file.bin")
    written = tmp_path / "file.written"
    assert not written.exists() or written.stat().st_size == 0


@pytest.mark.skipif(os.name != "posix", reason="no such priorities here")
def test_the_child_gives_way_to_a_session(tmp_path) -> None:
    assert int(read_in_child(niceness, tmp_path / "file.bin")) >= 5


def test_what_the_child_refuses_is_refused_with_its_words_and_kind(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"^a\.onnx is too: clever$"):
        read_in_child(refuse, tmp_path / "a.onnx")
    with pytest.raises(DataError, match="^wrong shape$"):
        read_in_child(complain, tmp_path / "a.onnx")


def test_what_a_parser_writes_to_stdout_is_no_part_of_the_result(tmp_path) -> None:
    assert read_in_child(chatter, tmp_path / "a") == b"result"


def test_the_child_takes_no_module_from_the_current_folder(tmp_path, monkeypatch) -> None:
    (tmp_path / "m2m_decoy.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileFormatError, match="m2m_decoy"):
        read_in_child(current_folder_first, tmp_path / "a")


def test_good_files_are_what_they_would_be_without_a_child() -> None:
    model = open_foreign_model(MODEL, provider="cpu")
    direct = open_model(MODEL, provider="cpu")
    amplitudes, valid = np.full(15, 300.0), np.ones(15, bool)
    np.testing.assert_array_equal(
        model.predict(amplitudes, valid).field.copy(), direct.predict(amplitudes, valid).field.copy()
    )
    assert read_foreign_subject(SUBJECT).n_voxels == model.info.n_voxels


def test_another_model_than_asked_for_is_refused_before_any_child(monkeypatch) -> None:
    monkeypatch.setattr(foreign_files, "read_in_child", None)
    with pytest.raises(ModelError, match="expected 0000.*another model"):
        open_foreign_model(MODEL, sha256="0" * 64)
    with pytest.raises(ModelError, match="another model"):
        open_model(MODEL, provider="cpu", sha256="0" * 64)


def test_a_damaged_model_is_refused_before_any_child(tmp_path, monkeypatch) -> None:
    content = bytearray(MODEL.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.onnx").write_bytes(content)
    monkeypatch.setattr(foreign_files, "read_in_child", None)
    with pytest.raises(FileFormatError, match="does not match its digest"):
        open_foreign_model(tmp_path / "a.onnx")


def test_a_model_that_changes_between_child_and_here_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(foreign_files, "read_in_child", lambda reader, path: b"1" * 64)
    with pytest.raises(ModelError, match="was changed while it was read"):
        open_foreign_model(MODEL)


def test_a_model_with_a_fitting_digest_and_a_broken_graph_is_refused(tmp_path) -> None:
    content = MODEL.read_bytes().replace(b"amplitudes_uv", b"amplitudes_xx")
    begin = content.index(DIGEST_PREFIX) + len(DIGEST_PREFIX)
    path = tmp_path / "a.onnx"
    path.write_bytes(content[:begin] + digest_of(content).encode() + content[begin + 64 :])
    assert read_model_info(path).n_voxels > 0, "its digest and metadata are in order"
    with pytest.raises(ModelError, match="inputs are"):
        open_foreign_model(path, provider="cpu")


def test_a_model_that_crashes_the_parser_is_an_error(monkeypatch) -> None:
    """No model is known that does; so the child's part is replaced by one that crashes."""
    monkeypatch.setattr(foreign_files, "_try_model", crash)
    with pytest.raises(FileFormatError, match="SIGSEGV"):
        open_foreign_model(MODEL)


def test_a_file_of_another_kind_is_refused_in_words(tmp_path) -> None:
    for read in (read_foreign_subject, read_foreign_stimulation_set):
        with pytest.raises(FileFormatError, match="does not begin as files of m2m-live do"):
            read(MODEL)
        with pytest.raises(FileFormatError, match="There is no file"):
            read(tmp_path / "absent.h5")


def test_a_foreign_hdf5_file_that_can_be_read_passes(tmp_path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["group/large"] = np.zeros((70_000, 300))
        file["scalar"] = 3.0
        file["text"] = "words"
        file.create_dataset("empty", shape=(0, 3))
        file.create_dataset("nothing", data=h5py.Empty("f8"))
        file.create_dataset("declared", shape=(10**9, 1000), chunks=(1, 1000), dtype="u1", maxshape=(None, 1000))
        del file["declared"]
        file["group"].attrs["unit"] = "mm"
    try_foreign_hdf5(path)
    path.write_bytes(path.read_bytes()[:5000])
    try_foreign_hdf5(path)  # h5py refuses it with an exception, and its reader will say so
