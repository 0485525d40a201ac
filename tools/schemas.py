"""Writes the JSON Schemas of messages' headers, commands and replies to `docs/schemas`, from the types themselves.

Run as `python -m tools.schemas` (or `make schemas`) after a change of the messages; a test compares.
"""

import json
from pathlib import Path

from rt_engine.atomic_file import written_whole
from rt_engine.control_messages import control_schemas
from rt_engine.messages import json_schemas
from tools.console import console

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"


def schema_files() -> dict[str, str]:
    """Return file name -> content: one file per topic, per command, and one of the replies."""
    return {
        f"{topic}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for topic, schema in {**json_schemas(), **control_schemas()}.items()
    }


def write_schemas(folder: Path = FOLDER) -> list[Path]:
    """Write all schemas and remove those of topics that are no more.

    Parameters
    ----------
    folder
        Made if it is not there.

    Returns
    -------
    list of Path
        What was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = schema_files()
    for stale in set(folder.glob("*.json")) - {folder / name for name in wanted}:
        stale.unlink()
    for name, content in wanted.items():
        with written_whole(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return [folder / name for name in wanted]


if __name__ == "__main__":
    for written in write_schemas():
        console.print(f"wrote {written.name}")
