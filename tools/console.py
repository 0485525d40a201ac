"""Where the commands write: words for people on stderr, results for machines on stdout.

So `m2m demo --json | tail -1 | jq` works while a person still reads the progress.
"""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

console = Console(stderr=True, highlight=False)
"""All that is meant for people."""


def emit_json(obj: Mapping[str, Any]) -> None:
    """Write one JSON object as the last line of stdout.

    Parameters
    ----------
    obj
        Numbers, texts, lists, mappings, numpy scalars and arrays, paths. A number that is not finite becomes null,
        because JSON has no word for it.
    """
    sys.stdout.write(json.dumps(_plain(obj), allow_nan=False, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, without importing numpy for those who have none
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value
