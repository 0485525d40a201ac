"""Mutated key files: a pair that belongs together, or a reason; and a mutated client's key lets nobody else in."""

from pathlib import Path
from random import Random

import pytest

from rt_engine.edges.curve_keys import client_keys, make_key_pair, server_keys
from rt_engine.errors import SettingsError
from rt_engine.settings import Publish
from tests.fuzz.counts import COUNTS, for_each_seed, in_words
from tests.fuzz.mutations import spoil_bytes


@pytest.mark.parametrize("n", COUNTS)
def test_a_mutated_key_file_is_the_same_key_or_is_refused(n: int, tmp_path: Path) -> None:
    make_key_pair(tmp_path, "engine")
    make_key_pair(tmp_path / "clients", "ann")
    secret, public = tmp_path / "engine.key_secret", tmp_path / "clients" / "ann.key"
    good = {path: path.read_bytes() for path in (secret, public)}
    ann = client_keys(tmp_path / "clients" / "ann.key_secret", tmp_path / "engine.key")
    assert ann is not None
    publish = Publish(curve_secret=str(secret), curve_clients=str(tmp_path / "clients"))
    whole = server_keys(publish)

    def check(random: Random) -> None:
        spoilt = random.choice((secret, public))
        spoilt.write_bytes(spoil_bytes(good[spoilt], random))
        try:
            keys = server_keys(publish)
        except SettingsError as error:
            in_words(error)
            assert whole is not None
            assert spoilt is secret or not whole.knows(ann.public), "a key that cannot be read lets nobody in"
        else:
            assert keys is not None
            assert spoilt is public or keys == whole
        finally:
            spoilt.write_bytes(good[spoilt])

    for_each_seed(n, check)
