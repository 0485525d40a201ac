"""Model files: what is read, what is refused, and what comes out. The specimen is the model that the demo ships."""

import base64
import json
import zlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from rt_engine import onnx_session
from rt_engine.errors import DataError, FileFormatError, ModelError
from rt_engine.model_file import DIGEST_PREFIX, digest_of, open_model, read_model_info
from rt_engine.muscles import ARTICLE_MUSCLES

SHIPPED = Path(str(files("configs") / "demo" / "kernel-ridge.onnx"))
CONTENT = SHIPPED.read_bytes()
M = len(ARTICLE_MUSCLES)
ALL = np.ones(M, bool)


@pytest.fixture(scope="module")
def model():
    return open_model(SHIPPED, provider="cpu")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "model.onnx"


def signed(content: bytes) -> bytes:
    """Give changed content a digest that fits, as another program would."""
    begin = content.index(DIGEST_PREFIX) + len(DIGEST_PREFIX)
    return content[:begin] + digest_of(content).encode() + content[begin + 64 :]


def with_metadata(path: Path, **changes: str | None) -> Path:
    proto = onnx.load_from_string(CONTENT)
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    for key, value in changes.items():
        properties[f"m2m.{key}"] = value
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {key: value for key, value in properties.items() if value is not None})
    path.write_bytes(signed(proto.SerializeToString()))
    return path


def with_graph(path: Path, change) -> Path:
    proto = onnx.load_from_string(CONTENT)
    change(proto.graph)
    path.write_bytes(signed(proto.SerializeToString()))
    return path


def test_the_shipped_model_is_the_articles_15_muscles_on_ba4():
    info = read_model_info(SHIPPED)
    assert info.muscles == ARTICLE_MUSCLES
    assert info.kind == "kernel-ridge"
    assert info.box_shape == (64, 64, 64)
    assert info.voxel.dtype == np.int16
    assert 4_000 < info.n_voxels < 5_500
    assert info.affine.shape == (4, 4)
    # The hand knob of the left hemisphere lies within.
    assert np.linalg.norm(info.voxel_mm - (-37.0, -23.0, 57.0), axis=1).min() < 3.0
    assert info.validation["random"]["kernel-ridge"]["skill"] > 0.3
    assert len(info.subject_sha256) == len(info.data_sha256) == 64


def test_what_is_read_is_what_onnx_itself_reads():
    properties = {entry.key: entry.value for entry in onnx.load_from_string(CONTENT).metadata_props}
    info = read_model_info(SHIPPED)
    assert info.field_scale_v_per_m == float(properties["m2m.field_scale_v_per_m"])
    assert list(info.muscles) == json.loads(properties["m2m.muscles"])
    voxel = np.frombuffer(zlib.decompress(base64.b64decode(properties["m2m.voxel"])), "<i2").reshape(-1, 3)
    assert np.array_equal(info.voxel, voxel)


def test_an_estimate_has_the_documented_shapes_types_and_ranges(model):
    estimate = model.predict(np.full(M, 300.0), ALL)
    v = model.info.n_voxels
    found = {name: (value.shape, value.dtype) for name, value in vars(estimate).items()}
    assert found == {
        "mep_normalised": ((M,), np.float32),
        "field": ((v,), np.float32),
        "spread": ((v,), np.float32),
        "cog_mm": ((3,), np.float64),
        "cog_cov_mm2": ((3, 3), np.float64),
    }
    assert 0.0 <= estimate.field.min() < estimate.field.max() <= 1.0
    assert estimate.spread.min() > 0.0
    box = model.info.voxel_mm.min(axis=0), model.info.voxel_mm.max(axis=0)
    assert (box[0] < estimate.cog_mm).all()
    assert (estimate.cog_mm < box[1]).all()
    assert np.linalg.eigvalsh(estimate.cog_cov_mm2).min() > 0.0
    assert estimate.cog_mm == pytest.approx(np.average(model.info.voxel_mm, axis=0, weights=estimate.field), abs=1e-4)


@given(amplitudes=st.lists(st.floats(0, 1e5, width=32), min_size=M, max_size=M), valid=st.integers(0, 2**M - 1))
@settings(max_examples=50, deadline=None)
def test_whatever_muscles_do_there_is_a_map_and_the_same_one_again(model, amplitudes, valid):
    usable = np.array([bool(valid >> k & 1) for k in range(M)])
    first, again = model.predict(amplitudes, usable), model.predict(amplitudes, usable)
    for name, value in vars(first).items():
        assert np.isfinite(value).all()
        assert np.array_equal(value, getattr(again, name))
    assert not first.mep_normalised[~usable].any()


def test_another_session_gives_the_same_bits(model):
    amplitudes = np.geomspace(6.0, 4000.0, M)
    other = open_model(SHIPPED, provider="cpu")
    assert np.array_equal(model.predict(amplitudes, ALL).field, other.predict(amplitudes, ALL).field)


def test_the_map_follows_the_muscles(model):
    rest = np.full(M, 15.0)
    active = rest.copy()
    active[0] = 3000.0
    assert np.abs(model.predict(active, ALL).field - model.predict(rest, ALL).field).max() > 0.02


def test_the_fewer_muscles_are_valid_the_wider_the_spread(model):
    amplitudes = np.full(M, 300.0)
    few = np.arange(M) < 2
    assert model.predict(amplitudes, few).spread.mean() > 1.2 * model.predict(amplitudes, ALL).spread.mean()


@pytest.mark.parametrize(
    ("amplitudes", "valid", "message"),
    [
        (np.ones(M - 1), np.ones(M - 1, bool), r"takes 15 amplitudes"),
        (np.ones((1, M)), np.ones((1, M), bool), r"takes 15 amplitudes"),
        (np.ones(M), np.ones(M), r"15 booleans"),
        (np.where(np.arange(M) == 3, np.nan, 1.0), ALL, r"EI are not finite"),
        (np.where(np.arange(M) == 0, np.inf, 1.0), ALL, r"FDI are not finite"),
    ],
)
def test_wrong_input_is_refused_with_its_reason(model, amplitudes, valid, message):
    with pytest.raises(DataError, match=message):
        model.predict(amplitudes, valid)


@pytest.mark.parametrize("scale", [np.ones(3), np.zeros(M), np.full(M, np.nan), np.full(M, -1.0)])
def test_a_scale_must_be_positive(model, scale):
    with pytest.raises(DataError, match="15 positive numbers"):
        model.predict(np.ones(M), ALL, scale)


@given(at=st.integers(0, len(CONTENT) - 1), bit=st.integers(0, 7))
@example(at=CONTENT.index(DIGEST_PREFIX), bit=0)
@example(at=CONTENT.index(DIGEST_PREFIX) + len(DIGEST_PREFIX), bit=0)
@example(at=len(CONTENT) - 1, bit=7)
@example(at=0, bit=0)
@settings(max_examples=100, deadline=None)
def test_one_flipped_bit_anywhere_is_noticed(scratch, at, bit):
    damaged = bytearray(CONTENT)
    damaged[at] ^= 1 << bit
    scratch.write_bytes(damaged)
    with pytest.raises(FileFormatError, match=r"digest"):
        read_model_info(scratch)


@given(length=st.integers(0, len(CONTENT) - 1))
@settings(max_examples=50, deadline=None)
def test_a_file_cut_short_is_noticed(scratch, length):
    scratch.write_bytes(CONTENT[:length])
    with pytest.raises(FileFormatError, match=r"digest"):
        open_model(scratch, provider="cpu")


def test_damage_is_found_before_onnx_runtime_sees_the_file(scratch, monkeypatch):
    def never(*_args, **_kwargs):
        raise AssertionError("ONNX Runtime was asked")

    monkeypatch.setattr(onnxruntime, "InferenceSession", never)
    middle = len(CONTENT) // 2
    scratch.write_bytes(CONTENT[:middle] + bytes([CONTENT[middle] ^ 1]) + CONTENT[middle + 1 :])
    with pytest.raises(FileFormatError, match="does not match its digest"):
        open_model(scratch)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"name,uV\nFDI,3\n", b"\x89HDF\r\n\x1a\n" + b"\x00" * 500])
def test_a_file_of_another_kind_is_refused(scratch, content):
    scratch.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"not a model of m2m-live"):
        read_model_info(scratch)


def test_two_digests_are_one_too_many(scratch):
    scratch.write_bytes(CONTENT + DIGEST_PREFIX + b"0" * 64)
    with pytest.raises(FileFormatError, match="2 m2m digests"):
        read_model_info(scratch)


def test_a_digest_around_something_that_is_not_onnx_is_refused(scratch):
    scratch.write_bytes(signed(b"\x0b" + DIGEST_PREFIX + b"0" * 64))
    with pytest.raises(FileFormatError, match="not an ONNX file"):
        read_model_info(scratch)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"none\.onnx: cannot be read"):
        read_model_info(tmp_path / "none.onnx")
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_model_info(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": "2"}, r"version 2; this software reads 1 to 1: update"),
        ({"format_version": "0"}, r"version 0"),
        ({"format_version": "new"}, r"m2m\.format_version is unusable"),
        ({"muscles": None}, r"m2m\.muscles is missing"),
        ({"muscles": json.dumps([*ARTICLE_MUSCLES[:-1], "FDI"])}, r"FDI is named more than once"),
        ({"muscles": '"FDI"'}, r"m2m\.muscles"),
        ({"muscles": "[]"}, r"m2m\.muscles"),
        ({"muscles": json.dumps(ARTICLE_MUSCLES[:-1])}, r"m2m\.scale_uv is unusable: expected finite numbers of shape"),
        ({"scale_uv": json.dumps([0.0] * M)}, r"not positive"),
        ({"box_shape": "[64, 64]"}, r"m2m\.box_shape"),
        ({"box_shape": "[8, 8, 8]"}, r"outside the box"),
        ({"voxel": "no base64!"}, r"m2m\.voxel"),
        ({"voxel": base64.b64encode(b"not zlib").decode()}, r"m2m\.voxel"),
        ({"voxel": base64.b64encode(zlib.compress(b"\x00" * 12)).decode()}, r"lexicographic"),
        ({"affine": "[[1, 0], [0, 1]]"}, r"m2m\.affine"),
        ({"affine": json.dumps(np.zeros((4, 4)).tolist())}, r"affine"),
        ({"field_scale_v_per_m": "0"}, r"m2m\.field_scale_v_per_m"),
        ({"floor_uv": "nan"}, r"m2m\.floor_uv"),
        ({"validation": "[]"}, r"m2m\.validation"),
        ({"validation": "{"}, r"m2m\.validation"),
    ],
)
def test_metadata_that_contradict_the_format_are_named(scratch, changes, message):
    with pytest.raises(FileFormatError, match=message):
        read_model_info(with_metadata(scratch, **changes))


def test_unknown_metadata_are_left_alone(scratch):
    assert read_model_info(with_metadata(scratch, invented_later="x")).muscles == ARTICLE_MUSCLES


def test_metadata_that_stand_twice_are_refused(scratch):
    proto = onnx.load_from_string(CONTENT)
    proto.metadata_props.add(key="m2m.kind", value="ridge")
    scratch.write_bytes(signed(proto.SerializeToString()))
    with pytest.raises(FileFormatError, match="stands in it twice"):
        read_model_info(scratch)


def test_a_model_of_not_a_number_is_refused(scratch):
    def spoil(graph):
        # The largest constant are the field's principal components.
        largest = max(graph.initializer, key=lambda tensor: len(tensor.raw_data))
        largest.CopyFrom(numpy_helper.from_array(np.full(tuple(largest.dims), np.nan), largest.name))

    with pytest.raises(ModelError, match=r"is not finite"):
        open_model(with_graph(scratch, spoil), provider="cpu")


def test_a_model_of_another_number_of_voxels_is_refused(scratch):
    voxel = read_model_info(SHIPPED).voxel[:-1]
    packed = base64.b64encode(zlib.compress(voxel.astype("<i2").tobytes())).decode()
    with pytest.raises(ModelError, match=r"output 'field' has shape"):
        open_model(with_metadata(scratch, voxel=packed), provider="cpu")


def test_a_model_of_another_number_of_muscles_is_refused(scratch):
    fewer = with_metadata(scratch, muscles='["FDI"]', scale_uv="[1000.0]")
    with pytest.raises(ModelError):
        open_model(fewer, provider="cpu")


def test_a_field_beyond_its_scale_is_refused(scratch):
    def unclip(graph):
        for node in graph.node:
            if node.output[0] == "field":
                doubled = onnx.helper.make_node("Add", [node.input[0], node.input[0]], ["doubled"])
                node.input[0] = "doubled"
                graph.node.insert(list(graph.node).index(node), doubled)
                return

    # All muscles at their largest, as in the run that warms the session up: half of the scale is surely passed.
    with pytest.raises(ModelError, match=r"leaves \[0, 1\]"):
        open_model(with_graph(scratch, unclip), provider="cpu")


@pytest.mark.parametrize("name", ["field", "cog_mm"])
def test_a_model_that_lacks_an_output_is_refused(scratch, name):
    def drop(graph):
        kept = [output for output in graph.output if output.name != name]
        del graph.output[:]
        graph.output.extend(kept)

    with pytest.raises(ModelError, match="outputs are"):
        open_model(with_graph(scratch, drop), provider="cpu")


def test_a_model_without_a_default_scale_is_refused(scratch):
    def drop(graph):
        kept = [tensor for tensor in graph.initializer if tensor.name != "scale_uv"]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    with pytest.raises(ModelError, match="inputs are"):
        open_model(with_graph(scratch, drop), provider="cpu")


def test_a_graph_that_onnx_runtime_refuses_is_one_line(scratch, capfd):
    def break_it(graph):
        graph.node[0].op_type = "Invented"

    with pytest.raises(ModelError, match=r"refuses the model") as raised:
        open_model(with_graph(scratch, break_it), provider="cpu")
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_the_cpu_is_silent_about_itself(model):
    assert model.provider == "CPUExecutionProvider"
    assert model.notice is None


@pytest.mark.parametrize("provider", ["auto", "cuda"])
def test_where_cuda_fails_one_line_says_so_and_the_cpu_serves(provider, model, monkeypatch, capfd):
    made = onnxruntime.InferenceSession
    asked = []

    def fails_noisily(content, sess_options, providers, **_more):
        asked.append(providers)
        if "CUDAExecutionProvider" in providers:
            import os

            os.write(2, b"[E:onnxruntime] with error: libcublasLt.so.12: cannot open shared object file\n")
            os.write(1, b"*** EP Error ***\n")
        return made(content, sess_options=sess_options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnx_session.CUDA, onnx_session.CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", fails_noisily)
    fallen_back = open_model(SHIPPED, provider=provider)
    assert asked[0][0] == "CUDAExecutionProvider"
    assert fallen_back.provider == "CPUExecutionProvider"
    assert fallen_back.notice == "CUDA cannot be used here (libcublasLt.so.12 not found); the model runs on the CPU"
    assert capfd.readouterr() == ("", "")
    amplitudes = np.full(M, 200.0)
    assert np.array_equal(fallen_back.predict(amplitudes, ALL).field, model.predict(amplitudes, ALL).field)


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Let sessions claim to be CUDA's; what they compute, they compute on the processor. Returns what was run."""
    runs = []

    class Session:
        def __init__(self, content, sess_options, providers, **_more):
            self._real = made(content, sess_options=sess_options, providers=["CPUExecutionProvider"])
            self._claims = providers

        def get_providers(self):
            return self._claims

        def run_with_iobinding(self, binding):
            runs.append("bound")
            self._real.run_with_iobinding(binding)

        def run(self, names, feed):
            runs.append("cpu" if self._claims[0] == "CPUExecutionProvider" else "plain")
            return self._real.run(names, feed)

        def __getattr__(self, name):
            return getattr(self._real, name)

    made = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnx_session.CUDA, onnx_session.CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setitem(onnx_session.DEVICE, onnx_session.CUDA, "cpu")
    return runs


def test_a_cuda_session_is_believed_only_if_it_says_so_itself(pretended_gpu):
    model = open_model(SHIPPED)
    assert model.provider == "CUDAExecutionProvider"
    assert model.notice is None
    assert pretended_gpu == ["bound", "bound"], "warmed the way it will be run"


def test_bound_memory_gives_the_same_bits_and_no_map_changes_afterwards(pretended_gpu, model):
    bound = open_model(SHIPPED)
    rng = np.random.default_rng(3)
    asked = [(rng.uniform(0.0, 3000.0, M), rng.random(M) > 0.3) for _ in range(5)]
    found = [bound.predict(*each) for each in asked]
    for each, estimate in zip(asked, found, strict=True):
        expected = model.predict(*each)
        for name, array in vars(expected).items():
            np.testing.assert_array_equal(getattr(estimate, name), array)
    assert set(pretended_gpu) == {"bound"}
    scale = np.full(M, 700.0)
    np.testing.assert_array_equal(
        bound.predict(asked[0][0], ALL, scale).field, model.predict(asked[0][0], ALL, scale).field
    )
    assert pretended_gpu[-1] == "plain", "a scale of its own is not laid out"


def test_a_gpu_that_computes_nothing_leaves_one_line_and_the_cpu(pretended_gpu, model, monkeypatch, capfd):
    def full(self, feed):
        import os

        os.write(2, b"[E:onnxruntime] BFCArena: failed\n")
        raise RuntimeError("CUDA failure 2: out of memory ;\n GPU=0")

    monkeypatch.setattr(onnx_session.BoundRun, "__call__", full)
    fallen_back = open_model(SHIPPED)
    assert fallen_back.provider == "CPUExecutionProvider"
    assert fallen_back.notice.startswith("CUDA cannot compute this model here (")
    assert "out of memory" in fallen_back.notice
    assert "\n" not in fallen_back.notice
    assert capfd.readouterr() == ("", "")
    assert np.array_equal(
        fallen_back.predict(np.full(M, 200.0), ALL).field, model.predict(np.full(M, 200.0), ALL).field
    )
    assert set(pretended_gpu) == {"cpu"}


def test_a_build_without_cuda_is_no_news_unless_cuda_was_asked_for(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnx_session.CPU])
    assert open_model(SHIPPED, provider="auto").notice is None
    notice = open_model(SHIPPED, provider="cuda").notice
    assert "built without CUDA" in notice
    assert "\n" not in notice


def test_this_machines_own_cuda_or_its_absence_is_silent(capfd):
    model = open_model(SHIPPED, provider="auto")
    assert (model.provider == "CUDAExecutionProvider") == (model.notice is None) or "CUDA" not in "".join(
        onnxruntime.get_available_providers()
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("choice", [{"provider": "gpu"}, {"threads": 0}])
def test_unknown_ways_to_run_are_refused(choice):
    with pytest.raises(ModelError):
        open_model(SHIPPED, **choice)
