"""A hook of MkDocs: one page of reference per public module, so that no public function can be forgotten.

MkDocs calls `on_config` and `on_files`; the pages exist only in the built site.
"""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("rt_engine", "trainer", "drivers", "tools")


def public_modules() -> list[str]:
    """Return the dotted names of all public modules that say more than that they are a package."""
    modules = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if not any(part.startswith("_") for part in parts):
                modules.append(".".join(parts))
    return modules


def on_config(config: Any) -> Any:
    """Append the reference to the navigation, one section per room."""
    rooms = [
        {
            room: [
                {module.removeprefix(f"{room}."): f"api/{module}.md"}
                for module in public_modules()
                if _in(module, room)
            ]
        }
        for room in ROOMS
    ]
    config.nav = [*config.nav, {"Reference": rooms}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages themselves."""
    from mkdocs.structure.files import File  # only MkDocs itself calls this; the rest is used by a test without it

    for module in public_modules():
        page = f"# `{module}`\n\n::: {module}\n"
        files.append(File.generated(config, f"api/{module}.md", content=page))
    return files


def _in(module: str, room: str) -> bool:
    return module.partition(".")[0] == room
