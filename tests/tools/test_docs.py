"""The documentation builds strictly, and every public function can be found in it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.docs_reference import public_modules


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: it would keep warnings from being counted, and strictness with them.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ".mkdocs.yml", "-d", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_public_function_and_class_has_its_place_in_the_reference(site: Path) -> None:
    absent = []
    for module in public_modules():
        page = site / "api" / f"{module}.html"
        anchors = set(re.findall(r'id="([^"]+)"', page.read_text(encoding="utf-8"))) if page.is_file() else set()
        source = (ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")
        public = re.findall(r"^(?:async )?(?:def|class) ([a-zA-Z]\w*)", source, re.MULTILINE)
        absent += [f"{module}.{name}" for name in public if f"{module}.{name}" not in anchors]
    assert absent == []
    assert len(public_modules()) > 40


def test_the_built_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(
        r'<(?:script|img|iframe)[^>]*src="(https?:[^"]+)"|<link[^>]*rel="stylesheet"[^>]*href="(https?:[^"]+)"'
    )
    wrong = [
        f"{page.name}: {found}" for page in site.rglob("*.html") for found in loaded.findall(page.read_text("utf-8"))
    ]
    assert wrong == []
