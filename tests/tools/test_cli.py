"""The command's frame: what is listed, what is imported, and what a failure looks like."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import typer

from rt_engine.errors import StreamError
from tests.conftest import ROOT, Ended
from tools import cli
from tools.console import emit_json

Run = Callable[..., Ended]
HEAVY = ("PySide6", "pyqtgraph", "sklearn", "onnx", "tensorflow", "keras", "nibabel", "matplotlib")


def _modules_after(*arguments: str) -> set[str]:
    """Top-level packages that are loaded once `m2m` with these arguments has ended."""
    code = (
        "import sys\nfrom tools.cli import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def _raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.fixture
def with_command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], str]:
    """Put a command of the test's own in place of one of ours."""

    def replace(function: Callable[..., None]) -> str:
        made = typer.Typer()
        made.command()(function)
        monkeypatch.setattr(cli, "load", lambda name: typer.main.get_command(made))
        return "run"

    return replace


def test_every_subcommand_is_listed_with_its_summary(m2m: Run) -> None:
    shown = m2m("--help")
    assert shown.code == 0
    for name, subcommand in cli.SUBCOMMANDS.items():
        assert name in shown.out
        assert subcommand.summary in shown.out


def test_without_arguments_the_help_is_shown(m2m: Run) -> None:
    assert "fit-baseline" in m2m().out


@pytest.mark.parametrize("name", list(cli.SUBCOMMANDS))
def test_every_subcommand_explains_itself(m2m: Run, name: str) -> None:
    shown = m2m(name, "--help")
    assert shown.code == 0
    assert f"m2m {name}" in shown.out
    assert len(shown.out) > 300


def test_the_list_of_subcommands_imports_no_package_that_is_slow_or_optional() -> None:
    loaded = _modules_after("--help")
    assert not loaded & {*HEAVY, "numpy", "h5py", "onnxruntime", "pylsl", "zmq"}


@pytest.mark.parametrize("name", ["demo", "run", "record", "replay", "inspect", "doctor"])
def test_commands_of_the_plain_installation_import_no_optional_package(name: str) -> None:
    loaded = _modules_after(name, "--help")
    assert "rt_engine" in loaded
    assert not loaded & set(HEAVY)


def test_the_version_is_that_of_the_distribution(m2m: Run) -> None:
    assert m2m("--version").out.strip() == f"m2m-live {metadata.version('m2m-live')}"


def test_a_typing_error_names_the_nearest_command_and_ends_with_2(m2m: Run) -> None:
    ended = m2m("doctr")
    assert ended.code == 2
    assert "doctor" in ended.err
    assert ended.out == ""


def test_a_users_mistake_is_one_message_without_a_traceback(m2m: Run, with_command: Callable[..., str]) -> None:
    ended = m2m(with_command(_raising(StreamError("no stream [bold]here[/] called FDI"))))
    assert ended.code == 1
    assert "Error: no stream [bold]here[/] called FDI" in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_debug_shows_the_traceback(m2m: Run, with_command: Callable[..., str]) -> None:
    ended = m2m("--debug", with_command(_raising(StreamError("gone"))))
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert "Error: gone" in ended.err


def test_ctrl_c_ends_with_130_and_a_word(m2m: Run, with_command: Callable[..., str]) -> None:
    ended = m2m(with_command(_raising(KeyboardInterrupt())))
    assert ended.code == 130
    assert "Ctrl-C" in ended.err


def test_ctrl_c_in_the_real_process_shows_no_traceback() -> None:
    command = [sys.executable, "-m", "tools.cli", "doctor", "--wait", "60"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "Looking for LSL streams" not in (line := process.stderr.readline()):
            assert line, "the doctor ended before it looked for streams"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_missing_extra_is_named(m2m: Run, with_command: Callable[..., str]) -> None:
    ended = m2m(with_command(_raising(ModuleNotFoundError("No module named 'PySide6'", name="PySide6.QtCore"))))
    assert ended.code == 1
    assert "m2m-live[display]" in ended.err


def test_a_missing_module_of_our_own_is_no_users_mistake(with_command: Callable[..., str]) -> None:
    name = with_command(_raising(ModuleNotFoundError("No module named 'rt_engine.lost'", name="rt_engine.lost")))
    with pytest.raises(ModuleNotFoundError, match=r"rt_engine\.lost"):
        cli.main([name])


def test_json_is_the_last_line_of_stdout_and_valid_whatever_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json(
        {
            "nan": float("nan"),
            "inf": np.float32("inf"),
            "array": np.array([1.5, np.nan], np.float32),
            "count": np.int64(3),
            "flag": np.bool_(True),
            "path": Path("a") / "b",
            "deep": {"x": (1, [float("-inf")])},
            "unit": "µV",
        }
    )
    out = capsys.readouterr().out
    assert out.endswith("}\n")
    assert json.loads(out) == {
        "nan": None,
        "inf": None,
        "array": [1.5, None],
        "count": 3,
        "flag": True,
        "path": str(Path("a") / "b"),
        "deep": {"x": [1, [None]]},
        "unit": "µV",
    }


@pytest.mark.parametrize(("name", "threads"), [("run", "1"), ("replay", "1"), ("inspect", None)])
def test_what_runs_in_real_time_has_one_thread_for_matrix_products(
    name: str, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    cli.load(name)
    assert os.environ.get("OPENBLAS_NUM_THREADS") == threads
