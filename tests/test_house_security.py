"""What no file of the project may call: nothing that comes from outside is executed, unpickled or handed to a shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT
from tests.test_house import python_files

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml", "code", "commands"}
"""Modules that make objects or code out of bytes, or that are used for little else."""

NAMES = {"eval", "exec", "compile", "__import__"}
"""Built-in functions that run text."""

CALLS = {
    ("os", "system"),
    ("os", "popen"),
    ("subprocess", "getoutput"),
    ("subprocess", "getstatusoutput"),
    ("asyncio", "create_subprocess_shell"),
    ("importlib", "reload"),
    ("tempfile", "mktemp"),
}

METHODS = {"recv_pyobj", "send_pyobj", "recv_serialized", "send_serialized"}
"""Of ZeroMQ's sockets: they pickle."""

TRUE_ARGUMENTS = {"shell", "allow_pickle"}
"""Arguments that must not be anything but False."""

EXCEPTIONS = {
    # dask.distributed speaks pickle with its workers in any case; SECURITY.md says what that means.
    ("trainer/evaluation/cluster.py", "imports pickle"),
}


def _found(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (f"imports {alias.name}" for alias in node.names if alias.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in MODULES:
                yield f"imports {node.module}"
            yield from (
                f"imports {node.module}.{a.name}"
                for a in node.names
                if (node.module, a.name) in CALLS or a.name in NAMES
            )
        elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
            yield f"uses {node.id}"
        elif isinstance(node, ast.Attribute):
            base = node.value.id if isinstance(node.value, ast.Name) else ""
            if (base, node.attr) in CALLS or node.attr in METHODS or (base == "builtins" and node.attr in NAMES):
                yield f"uses {base}.{node.attr}"
        elif isinstance(node, ast.keyword) and node.arg in TRUE_ARGUMENTS:
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                yield f"passes {node.arg}"


def test_nothing_from_outside_is_executed_unpickled_or_given_to_a_shell() -> None:
    wrong = {
        (path.as_posix(), what) for path in python_files() if path.parts[0] != "tests" for what in set(_found(path))
    }
    assert wrong - EXCEPTIONS == set()
    assert EXCEPTIONS - wrong == set(), "an exception that is needed no more"


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    for line in (
        "import pickle",
        "from pickle import loads",
        "from os import system",
        "import os; os.system('x')",
        "eval('1')",
        "import builtins; builtins.exec('1')",
        "import numpy as np; np.load('x', allow_pickle=True)",
        "import subprocess; subprocess.run('x', shell=True)",
        "socket.recv_pyobj()",
    ):
        path = tmp_path / "a.py"
        path.write_text(line)
        assert list(_found(path)) != [], line
    path.write_text("import re; re.compile('x'); np.load('x', allow_pickle=False); app.exec()")
    assert list(_found(path)) == []
