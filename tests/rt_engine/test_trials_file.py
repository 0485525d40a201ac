"""trials.h5 cut off, flipped, foreign, of the future: whole trials or a clear error, and no other number."""

import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rt_engine.edges.session_store import SessionStore
from rt_engine.engine import PulseResult
from rt_engine.errors import FileFormatError
from rt_engine.hdf5_superblock import Superblock, lookup3
from rt_engine.messages import ModelDescription, SessionHeader
from rt_engine.settings import Settings
from rt_engine.trials_file import Trials, read_in_process, read_trials
from tests.conftest import ROOT

N_TRIALS = 12
CUTS = 200
FLIPS = 200


@dataclass(frozen=True)
class Written:
    """A file of trials, as it was before and after it was closed, and what is in it."""

    closed: bytes
    open: bytes
    rows: list[bytes]


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory,
    emg: Callable[..., Any],
    new_engine: Callable[..., Any],
    play: Callable[..., list[PulseResult]],
) -> Written:
    folder = tmp_path_factory.mktemp("written")
    results = play(new_engine(), emg(7000, [500 * i for i in range(1, N_TRIALS + 1)]))
    model = ModelDescription(name="m", kind="k", sha256="", muscles=[], field_scale_v_per_m=1.0, provider="CPU")
    header = SessionHeader(
        session="s1", started_at="", muscles=["FDI", "ADM", "ECR"], window_ms=[], sweep_ms=[-100.0, 50.0],
        floor_uv=50.0, nominal_rate_hz=2000.0, trigger_source="ttl", model=model,
    )  # fmt: skip
    store = SessionStore(folder)
    store.begin(header, Settings(), 5)
    for result in results:
        store.add(result)
    before = (folder / "trials.h5").read_bytes()
    store.close()
    trials = read_trials(folder / "trials.h5")
    assert len(trials.rows) == N_TRIALS
    return Written((folder / "trials.h5").read_bytes(), before, [row.tobytes() for row in trials.rows])


READ_MANY = """
import json, sys
from pathlib import Path
from rt_engine.errors import FileFormatError
from rt_engine.trials_file import read_in_process
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        head, _, body = read_in_process(path).partition(b"\\n")
        print(json.dumps([path.name, json.loads(head), body.hex()]), flush=True)
    except FileFormatError as error:
        print(json.dumps([path.name, str(error), ""]), flush=True)
"""


def _read_many(folder: Path, contents: list[bytes]) -> Iterator[tuple[dict[str, Any] | str, list[bytes]]]:
    """Read many files in one child process, which `read_trials` would start for each; gives what was told of each."""
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number:05}").write_bytes(content)
    ended = subprocess.run(
        [sys.executable, "-c", READ_MANY, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    lines = ended.stdout.splitlines()
    assert len(lines) == len(contents)
    for _, told, body in map(json.loads, lines):
        raw = bytes.fromhex(body)
        n = told["n_rows"] - len(told["damaged"]) if isinstance(told, dict) else 0
        size = len(raw) // n if n else 1
        yield told, [raw[i : i + size] for i in range(0, len(raw), size)]


@pytest.mark.parametrize("state", ["closed", "open"])
def test_cut_off_at_any_byte_it_gives_whole_trials_or_a_clear_error(
    state: str, written: Written, tmp_path: Path
) -> None:
    whole: bytes = getattr(written, state)
    random_bytes = random.Random(5)
    cuts = sorted(random_bytes.sample(range(len(whole)), CUTS))
    n_found = []
    for told, rows in _read_many(tmp_path / "cut", [whole[:cut] for cut in cuts]):
        assert rows == [row for row in written.rows if row in rows], "nothing but what was written, in its order"
        if isinstance(told, str):
            assert "damaged" in told or "cut off" in told or "no HDF5" in told, told
        n_found.append(len(rows))
    # What was written before the cut is found; only the one that the cut goes through is not.
    for cut, n in zip(cuts, n_found, strict=True):
        before = sum(whole.find(row) + len(row) <= cut for row in written.rows)
        assert n == before or (n == 0 and cut < whole.find(written.rows[0])), f"cut at {cut}"
    assert len(set(n_found)) == N_TRIALS


@pytest.mark.parametrize("state", ["closed", "open"])
def test_a_flipped_bit_costs_at_most_its_trial_or_the_file_and_never_a_number(
    state: str, written: Written, tmp_path: Path
) -> None:
    whole: bytes = getattr(written, state)
    random_bits = random.Random(6)
    first = whole.find(written.rows[0])
    flipped = []
    for number in range(FLIPS):
        content = bytearray(whole)
        # Half of them where HDF5 keeps its own things, which is a small part of the file.
        at = random_bits.randrange(first if number % 2 else len(whole))
        content[at] ^= 1 << random_bits.randrange(8)
        flipped.append(bytes(content))
    refused = lost = 0
    for told, rows in _read_many(tmp_path / "flipped", flipped):
        if isinstance(told, str):
            refused += 1
            continue
        assert rows == [row for row in written.rows if row in rows]
        assert len(rows) + len(told["damaged"]) == told["n_rows"] == N_TRIALS
        lost += len(told["damaged"]) == 1
    assert refused > FLIPS // 20
    assert lost > FLIPS // 3


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "trials.h5"
        path.write_bytes(content)
        return path

    return write


def _flip(whole: bytes, row: bytes) -> bytes:
    """Change one amplitude of a trial."""
    at = whole.find(row) + len(row) // 2
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


def test_a_damaged_trial_is_named_and_only_salvage_gives_the_others(
    written: Written, file: Callable[[bytes], Path]
) -> None:
    path = file(_flip(written.closed, written.rows[4]))
    with pytest.raises(FileFormatError, match=r"1 of its 12 trials are not whole, row 4\. If it is a copy"):
        read_trials(path)
    trials = read_trials(path, salvage=True)
    assert trials.damaged == (4,)
    assert not trials.torn
    assert [row.tobytes() for row in trials.rows] == written.rows[:4] + written.rows[5:]


def test_half_a_trial_at_the_end_is_the_one_in_flight_and_no_damage(
    written: Written, file: Callable[[bytes], Path]
) -> None:
    trials = read_trials(file(_flip(written.open, written.rows[-1])))
    assert (len(trials.rows), trials.n_rows, trials.torn, trials.closed) == (N_TRIALS - 1, N_TRIALS, True, False)


def test_a_cut_off_file_says_from_where(written: Written, file: Callable[[bytes], Path]) -> None:
    path = file(written.closed[: written.closed.find(written.rows[7])])
    with pytest.raises(FileFormatError, match=r"rows 7 to 11 \(the file is cut off there\)"):
        read_trials(path)


def test_words_for_damage_here_and_there(written: Written, tmp_path: Path) -> None:
    layout = replace(_layout(), session="x")
    trials = Trials(tmp_path, layout, np.zeros(0, layout.dtype), 9, (2, 5), True)
    assert "row 2 and others" in trials.damage


def test_rows_that_changed_places_are_not_believed(written: Written, file: Callable[[bytes], Path]) -> None:
    whole = written.closed
    a, b = (whole.find(written.rows[i]) for i in (2, 3))
    n = len(written.rows[0])
    swapped = whole[:a] + whole[b : b + n] + whole[a + n : b] + whole[a : a + n] + whole[b + n :]
    assert read_trials(file(swapped), salvage=True).damaged == (2, 3)


def test_the_session_and_the_muscles_are_part_of_each_digest(written: Written, file: Callable[[bytes], Path]) -> None:
    path = file(written.closed)
    with h5py.File(path, "r+", libver="latest") as opened:
        opened.attrs["muscles"] = np.array([b"ADM", b"FDI", b"ECR"])
    with pytest.raises(FileFormatError, match="12 of its 12 trials are not whole"):
        read_trials(path)


def _layout() -> Any:
    from rt_engine.trials_layout import TrialsLayout

    return TrialsLayout("s1", ("FDI", "ADM", "ECR"), 310, 5)


def _h5(path: Path, **attrs: Any) -> h5py.File:
    file = h5py.File(path, "w", libver="latest")
    for name, value in {"format": np.bytes_("m2m-trials"), "version": 1, "session": np.bytes_("s")}.items():
        file.attrs[name] = attrs.get(name, value)
    file.attrs["muscles"] = np.array([b"FDI", b"ADM", b"ECR"])
    return file


def _later(path: Path) -> None:
    _h5(path, version=2).close()


def _other(path: Path) -> None:
    _h5(path, format=np.bytes_("something")).close()


def _nothing(path: Path) -> None:
    _h5(path).close()


def _table(path: Path) -> None:
    with _h5(path) as file:
        file["trials"] = np.zeros((3, 4))


def _group(path: Path) -> None:
    with _h5(path) as file:
        file.create_group("trials")


def _soft_link(path: Path) -> None:
    with _h5(path) as file:
        file["trials"] = h5py.SoftLink("/elsewhere")


def _outside(path: Path) -> None:
    with _h5(path) as file:
        file["trials"] = h5py.ExternalLink("other.h5", "trials")


def _raw_outside(path: Path) -> None:
    with _h5(path) as file:
        dtype = _layout().dtype
        file.create_dataset("trials", (3,), dtype=dtype, external=[("other.bin", 0, h5py.h5f.UNLIMITED)])


def _other_fields(path: Path) -> None:
    with _h5(path) as file:
        dtype = np.dtype([("sweep_uv", "<f4", (3, 4)), ("field", "<f4", (5,))])
        file.create_dataset("trials", (0,), dtype=dtype, maxshape=(None,), chunks=(1,))


def _too_many(path: Path) -> None:
    with _h5(path) as file:
        file.create_dataset("trials", (1 << 60,), dtype=_layout().dtype, maxshape=(None,), chunks=(1,))


def _without_attributes(path: Path) -> None:
    h5py.File(path, "w", libver="latest").close()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_later, "has version 2 of its layout, newer than this software's 1: update m2m"),
        (_other, "of another kind"),
        (_without_attributes, "of another kind"),
        (_nothing, "no dataset 'trials' of its own"),
        (_soft_link, "no dataset 'trials' of its own"),
        (_outside, "no dataset 'trials' of its own"),
        (_table, "not laid out as trials are"),
        (_group, "damaged"),
        (_raw_outside, "not laid out as trials are"),
        (_other_fields, "rows are not those of version 1"),
        (_too_many, "it says that it has 1152921504606846976 trials"),
    ],
)
def test_other_peoples_hdf5_is_refused_in_words(make: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    path = tmp_path / "trials.h5"
    make(path)
    with pytest.raises(FileFormatError, match=said):
        read_in_process(path)  # whole HDF5 is no danger, and a child for each takes long


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"XDF:", b"\x89HDF\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_hdf5_is_refused_before_hdf5_sees_it(content: bytes, file: Callable[[bytes], Path]) -> None:
    with pytest.raises(FileFormatError, match=r"no HDF5|cut off|superblock of version 0"):
        read_trials(file(content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"cannot read .*trials\.h5: No such file"):
        read_trials(tmp_path / "trials.h5")


def test_the_checksum_is_hdf5s_own(written: Written) -> None:
    # From the author's self-test, https://burtleburtle.net/bob/c/lookup3.c (driver5).
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551
    for content in (written.closed, written.open):
        assert lookup3(content[:44]) == struct.unpack_from("<I", content, 44)[0]


def test_damage_in_the_first_bytes_is_named(written: Written, file: Callable[[bytes], Path]) -> None:
    content = bytearray(written.closed)
    content[30] ^= 1
    with pytest.raises(FileFormatError, match="damaged in its first 48 bytes"):
        Superblock(file(bytes(content)))


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from rt_engine.edges.session_store import SessionStore
from rt_engine.engine import PulseResult
from rt_engine.messages import ModelDescription, SessionHeader
from rt_engine.settings import Settings
from rt_engine.trial import Trial
model = ModelDescription(name="m", kind="k", sha256="", muscles=[], field_scale_v_per_m=1.0, provider="CPU")
header = SessionHeader(session="s", started_at="", muscles=["A"] * 8, window_ms=[], sweep_ms=[-100.0, 50.0],
    floor_uv=1.0, nominal_rate_hz=2000.0, trigger_source="ttl", model=model)
store = SessionStore(Path(sys.argv[1]))
store.begin(header, Settings(), 2000)
n = 0
while True:
    store.add(PulseResult(Trial(n, "ttl", 0.0, 0.0, 0.0, 0.0, 0, np.full((8, 300), n), 2000.0), None, None))
    n += 1
    os.write(1, b".")
"""


def _kill_a_writer(folder: Path, after: int) -> None:
    """Kill a process that does nothing but store, after so many trials: likely in the midst of the next."""
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    acknowledged = 0
    while acknowledged < after:
        acknowledged += len(os.read(writer.stdout.fileno(), after - acknowledged))
    writer.send_signal(signal.SIGKILL)
    acknowledged += len(writer.stdout.read())
    writer.wait()
    writer.stdout.close()
    trials = read_trials(folder / "trials.h5")
    assert len(trials.rows) in (acknowledged, acknowledged + 1), "all that add returned for, and at most one more"
    assert trials.rows["pulse"].tolist() == list(range(len(trials.rows)))
    assert (trials.rows["sweep_uv"][:, :, 0] == np.arange(len(trials.rows))[:, None]).all()
    assert not trials.closed


@pytest.mark.parametrize("after", [1, 40])
def test_a_kill_loses_at_most_the_trial_in_flight(after: int, tmp_path: Path) -> None:
    _kill_a_writer(tmp_path / "s", after)


@pytest.mark.long
def test_a_hundred_kills_in_the_midst_of_writing_lose_at_most_the_trial_in_flight(tmp_path: Path) -> None:
    moments = random.Random(7)
    for number in range(100):
        _kill_a_writer(tmp_path / str(number), moments.randrange(400))


def test_the_documentation_lists_every_field_as_it_is() -> None:
    text = (ROOT / "docs" / "session-folder.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \| (\S+) \|([^|\n]*)\|([^|\n]*)\|", text, re.MULTILINE)
    sizes = {"m": 3, "s": 310, "V": 5}
    expected = [
        (name, dtype if (dtype := np.dtype(kind)).kind == "S" else dtype.name, shape, unit)
        for name, kind, shape, unit in _layout().fields
    ]
    found = [
        (name, np.dtype(dtype) if dtype.startswith("S") else dtype, shape_of(shape.strip(), sizes), unit.strip())
        for name, dtype, shape, unit in documented
    ]
    assert found == expected


def shape_of(text: str, sizes: dict[str, int]) -> tuple[int, ...]:
    """Read a shape such as `(m, 2)`."""
    return tuple(sizes.get(word) or int(word) for word in re.findall(r"\w+", text))
