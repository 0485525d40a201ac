"""The compiled decoder against TensorFlow's operations, and what happens where it cannot be compiled."""

import logging
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.architectures.conftest import BOX
from trainer.architectures import native_library as library_module
from trainer.architectures.decoder import Decoder
from trainer.architectures.native_library import COMPILERS, SWITCH, native_library


@pytest.fixture(autouse=True)
def compiled_anew_each_time() -> Iterator[None]:
    native_library.cache_clear()
    yield
    native_library.cache_clear()


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv(SWITCH, raising=False)
    found = os.environ.get("CC") or next((c for c in COMPILERS if shutil.which(c)), None)
    if not found:
        pytest.skip("there is no C compiler here: the decoder runs as TensorFlow's operations")
    return found


def decoder_of(mask: np.ndarray, monkeypatch: pytest.MonkeyPatch, *, native: bool, final_kernel: int = 3) -> Decoder:
    monkeypatch.setenv(SWITCH, "1" if native else "0")
    native_library.cache_clear()
    decoder = Decoder(mask, BOX, final_kernel=final_kernel)
    assert (decoder._native is not None) == native
    rng = np.random.default_rng(3)
    for layer in decoder.convolutions:
        layer.bias.assign(rng.uniform(-0.1, 0.1, layer.bias.shape))
    return decoder


def value_and_gradients(decoder: Decoder, batch: int) -> list[np.ndarray]:
    rng = np.random.default_rng(batch)
    latent = tf.constant(np.maximum(rng.normal(size=(batch, 512)), 0), tf.float32)
    direction = tf.constant(rng.normal(size=(batch, len(decoder.cells.voxel))), tf.float32)
    variables = [v.value for layer in decoder.convolutions for v in (layer.kernel, layer.bias)]

    @tf.function(autograph=False)
    def both() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(latent)
            value = decoder.unbounded(latent)
            loss = tf.reduce_sum(value * direction)
        return [value, *tape.gradient(loss, [latent, *variables])]

    return [tensor.numpy() for tensor in both()]


@pytest.mark.parametrize("final_kernel", [1, 3])
@pytest.mark.parametrize("batch", [1, 3, 8, 19])
def test_maps_and_gradients_are_tensorflow_s(
    sparse_mask: np.ndarray, compiler: str, monkeypatch: pytest.MonkeyPatch, batch: int, final_kernel: int
) -> None:
    found, expected = (
        value_and_gradients(decoder_of(sparse_mask, monkeypatch, native=native, final_kernel=final_kernel), batch)
        for native in (True, False)
    )
    for one, other in zip(found, expected, strict=True):
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)
        assert np.linalg.norm(other) > 0


def test_two_forward_ways_before_their_backward_ways_do_not_mix(
    sparse_mask: np.ndarray, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_of(sparse_mask, monkeypatch, native=True)
    rng = np.random.default_rng(0)
    first, second = (tf.constant(rng.normal(size=(8, 512)), tf.float32) for _ in range(2))
    kernel = decoder.convolutions[1].kernel.value
    alone = []
    for latent in (first, second):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(decoder.unbounded(latent) ** 2)
        alone.append(tape.gradient(loss, kernel).numpy())
    with tf.GradientTape(persistent=True) as tape:
        losses = [tf.reduce_sum(decoder.unbounded(latent) ** 2) for latent in (first, second)]
    for loss, expected in zip(losses, alone, strict=True):
        np.testing.assert_array_equal(tape.gradient(loss, kernel), expected)


def test_threads_do_not_disturb_each_other(
    sparse_mask: np.ndarray, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_of(sparse_mask, monkeypatch, native=True)
    expected = {batch: value_and_gradients(decoder, batch) for batch in (3, 8)}
    found: dict[int, list[list[np.ndarray]]] = {batch: [] for batch in expected}
    threads = [
        threading.Thread(target=lambda b=batch: found[b].append(value_and_gradients(decoder, b)))
        for batch in (*expected, *expected)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for batch, results in found.items():
        assert len(results) == 2
        for result in results:
            for one, other in zip(result, expected[batch], strict=True):
                np.testing.assert_array_equal(one, other)


def test_batch_norm_and_double_precision_stay_tensorflow_s(sparse_mask: np.ndarray, compiler: str) -> None:
    assert Decoder(sparse_mask, BOX, batch_norm=True)._native is None
    assert Decoder(sparse_mask, BOX, dtype="float64")._native is None


def test_without_a_compiler_the_decoder_is_tensorflow_s_and_the_log_says_so(
    sparse_mask: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setenv("PATH", "")
    with caplog.at_level(logging.INFO, logger=library_module.__name__):
        assert Decoder(sparse_mask, BOX)._native is None
    assert "no C compiler" in caplog.text


def test_a_compiler_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = tmp_path / "bad-cc"
    bad.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "cannot" >&2\nexit 1\n')
    bad.chmod(0o700)
    monkeypatch.setenv("CC", str(bad))
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.INFO, logger=library_module.__name__):
        assert native_library() is None
    assert "says: cannot" in caplog.text
    assert list((tmp_path / "cache" / "m2m-live").iterdir()) == []


def test_it_is_compiled_once_and_into_a_folder_of_ones_own(
    tmp_path: Path, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = native_library()
    assert first is not None
    folder = tmp_path / "m2m-live"
    assert first.path.parent == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made_at = first.path.stat().st_mtime_ns
    native_library.cache_clear()
    again = native_library()
    assert again is not None
    assert again.path.stat().st_mtime_ns == made_at
    # What others can write to is not run.
    folder.chmod(0o777)
    native_library.cache_clear()
    elsewhere = native_library()
    assert elsewhere is not None
    assert folder not in elsewhere.path.parents


def test_a_compiler_may_be_named_with_its_options_and_nonsense_is_no_end(
    tmp_path: Path, compiler: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", f"{compiler} -DNDEBUG")
    assert native_library() is not None
    for nonsense in ("no-such-compiler", '"open'):
        monkeypatch.setenv("CC", nonsense)
        native_library.cache_clear()
        with caplog.at_level(logging.INFO, logger=library_module.__name__):
            assert native_library() is None
    assert caplog.text.count("cannot be compiled here") == 2


def test_arrays_that_the_library_cannot_read_are_refused(compiler: str) -> None:
    library = native_library()
    assert library is not None
    parents = np.zeros((1, 2), np.int32)
    with pytest.raises(TypeError, match="contiguous array of float32"):
        library.call("m2m_differences", np.zeros((4, 8)), 2, parents, 1, 8)
    with pytest.raises(TypeError, match="contiguous array of float32"):
        library.call("m2m_differences", np.zeros((8, 4), np.float32).T, 2, parents, 1, 8)
    with pytest.raises(TypeError, match="takes 5 arguments"):
        library.call("m2m_differences", np.zeros((4, 8), np.float32))
