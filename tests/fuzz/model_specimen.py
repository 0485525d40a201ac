"""A small model file to spoil, and a digest that fits for what is left of it."""

import json
from pathlib import Path
from random import Random

import onnx

from rt_engine.errors import FileFormatError
from rt_engine.model_file import DIGEST_PREFIX, digest_of
from tests.fuzz.mutations import VALUES, spoil_bytes, spoil_tree, spoil_word
from tests.trainer.conftest import make_stimulations
from trainer.export import export_model
from trainer.fitting import fit_baseline
from trainer.preprocessing import prepare


def write_specimen(path: Path) -> bytes:
    """Write a ridge model of five muscles and 480 voxels, and return its bytes."""
    export_model(path, fit_baseline(prepare(make_stimulations(), floor_uv=5.0), "ridge"), name="of the tests")
    return path.read_bytes()


def signed(content: bytes) -> bytes:
    """Give changed content a digest that fits, as somebody would who wants it opened."""
    at = content.find(DIGEST_PREFIX)
    begin = at + len(DIGEST_PREFIX)
    if at < 0 or len(content) < begin + 64:
        return content
    blank = content[:begin] + b"0" * 64 + content[begin + 64 :]
    try:
        return content[:begin] + digest_of(blank).encode() + content[begin + 64 :]
    except FileFormatError:
        return content


def spoil_metadata(content: bytes, random: Random) -> bytes:
    """Change what the file says of itself, in a file that is otherwise in order."""
    model = onnx.load_model_from_string(content)
    entry = random.choice(model.metadata_props)
    kind = random.randrange(4)
    if kind == 0:
        model.metadata_props.remove(entry)
    elif kind == 1:
        entry.value = spoil_word(entry.value, random).encode(errors="replace").decode()
    elif kind == 2:
        entry.value = json.dumps(random.choice(VALUES))
    else:
        try:
            entry.value = json.dumps(spoil_tree(json.loads(entry.value), random))
        except ValueError:
            entry.value = json.dumps(random.choice(VALUES))
    return model.SerializeToString()


def spoil_model(content: bytes, random: Random) -> bytes:
    """Change a model file's bytes or metadata and sign it anew, so that the deeper parsers get to see it."""
    if random.random() < 0.5:
        return signed(spoil_metadata(content, random))
    return signed(spoil_bytes(content, random, keep_length=random.random() < 0.6))
