"""The engine's priority: raised where that is allowed, and no reason to stop where it is not."""

import os
import subprocess
import sys

import pytest

from rt_engine.edges import process_priority

ASK = (
    "import os\nfrom rt_engine.edges.process_priority import raise_priority\n"
    "raised = raise_priority()\nprint(raised, os.getpriority(os.PRIO_PROCESS, 0))"
)


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="this system knows no niceness")
def test_a_raised_priority_is_the_one_that_was_asked_for():
    said = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout.split()
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert said in (["True", str(process_priority.NICENESS)], ["False", str(before)])


def test_without_the_right_all_goes_on_as_it_was(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse, raising=False)
    assert process_priority.raise_priority() is False


def test_on_a_system_without_niceness_all_goes_on_as_it_was(monkeypatch):
    monkeypatch.delattr(os, "setpriority", raising=False)
    assert process_priority.raise_priority() is False


@pytest.mark.skipif(not process_priority.THREADS.is_dir(), reason="this system has one niceness per process")
def test_threads_that_are_there_go_first_too():
    ask = (
        "import os, threading\nfrom rt_engine.edges.process_priority import THREADS, raise_priority\n"
        "end = threading.Event()\nthread = threading.Thread(target=end.wait)\nthread.start()\n"
        "raised = raise_priority()\nboth = [int(t.name) for t in THREADS.iterdir()]\n"
        "print(raised, len(both), *{os.getpriority(os.PRIO_PROCESS, t) for t in both})\nend.set()"
    )
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert said in (["True", "2", str(process_priority.NICENESS)], ["False", "2", str(before)])


def test_the_sessions_share_of_the_processors_is_raised_and_put_back(tmp_path, monkeypatch):
    group = tmp_path / "autogroup"
    group.write_text("/autogroup-7 nice 3\n")
    at_end = []
    monkeypatch.setattr(process_priority, "GROUP", group)
    monkeypatch.setattr(process_priority.atexit, "register", lambda *call: at_end.append(call))
    process_priority._raise_group()
    assert group.read_text() == str(process_priority.NICENESS)
    ((put_back, *arguments),) = at_end
    put_back(*arguments)
    assert group.read_text() == "3"
    group.write_text("/autogroup-7 nice -15\n")
    process_priority._raise_group()
    assert (group.read_text(), len(at_end)) == ("/autogroup-7 nice -15\n", 1), "it is high enough"
    monkeypatch.setattr(process_priority, "GROUP", tmp_path / "no such file")
    process_priority._raise_group()
    assert len(at_end) == 1
