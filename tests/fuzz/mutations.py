"""Ways to spoil a file or a message, a few at a time: as a disk, a program, or somebody with bad intent would."""

import copy
from random import Random
from typing import Any

NUMBERS = (0, -1, 1, 255, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 0.0, -0.0, 1e-320, 1e308, -1e308)
WORDS = (
    *("", " ", "\0", "\n", "a" * 5000, "é", "\ud800", "\u202e", "../.."),
    *("nan", "inf", "-1", "1e999", "true", "null", "tcp://"),
)
VALUES: tuple[Any, ...] = (*NUMBERS, *WORDS, None, True, False, [], {}, [[]], {"": {}}, [0] * 1000, {"a": [None]})
BYTES = (
    *(b"\0", b"\xff" * 8, b"\xc3", b"\x80" * 10, b"{", b"}", b"[" * 200, b"[" * 20_000, b'"', b"\\", b"=", b"\n"),
    *(b"1e999", b"9" * 5000, b"-" * 40),
)


def spoil_bytes(content: bytes, random: Random, *, keep_length: bool = False) -> bytes:
    """Change one to eight places: bits, bytes, stretches removed, doubled, moved, cut off, or foreign ones put in."""
    spoilt = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        at = random.randrange(len(spoilt) + 1)
        length = random.choice((1, 2, 4, 16, 200))
        kind = random.randrange(3 if keep_length else 8)
        if not spoilt or kind == 0:
            if at < len(spoilt):
                spoilt[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            spoilt[at : at + length] = random.randbytes(len(spoilt[at : at + length]))
        elif kind == 2:
            spoilt[at : at + length] = bytes([random.choice((0, 127, 128, 255))]) * len(spoilt[at : at + length])
        elif kind == 3:
            del spoilt[at : at + length]
        elif kind == 4:
            spoilt[at:at] = spoilt[at : at + length]
        elif kind == 5:
            source = random.randrange(len(spoilt))
            spoilt[at : at + length] = spoilt[source : source + length]
        elif kind == 6:
            spoilt[at:at] = random.choice(BYTES)
        elif random.random() < 0.2:
            del spoilt[at:]
    return bytes(spoilt)


def spoil_tree(tree: Any, random: Random) -> Any:
    """Change one to three places of what JSON or TOML was: values, types, keys lost, renamed or added."""
    spoilt = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(spoilt))
        if not places:
            return random.choice(VALUES)
        inside, key = random.choice(places)
        kind = random.randrange(6)
        if kind == 0:
            del inside[key]
        elif kind == 1 and isinstance(inside, dict) and isinstance(key, str):
            inside[spoil_word(key, random)] = inside.pop(key)
        elif kind == 2 and isinstance(inside[key], str):
            inside[key] = spoil_word(inside[key], random)
        elif kind == 3:
            other_inside, other_key = random.choice(places)
            inside[key] = copy.deepcopy(other_inside[other_key]) if other_key in _keys(other_inside) else None
        else:
            inside[key] = copy.deepcopy(random.choice(VALUES))
    return spoilt


def spoil_word(word: str, random: Random) -> str:
    """Change a word by a slip of the pen."""
    at = random.randrange(len(word) + 1)
    return random.choice((word[:at] + word[at + 1 :], word[:at] + random.choice(WORDS) + word[at:], word.upper(), ""))


def _places(tree: Any) -> Any:
    for key in _keys(tree):
        yield tree, key
        yield from _places(tree[key])


def _keys(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return list(tree)
    return list(range(min(len(tree), 50))) if isinstance(tree, list) else []
