"""S1 out of pycortex's archive, or out of a stand-in for it: what is read, and what is refused."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from rt_engine.errors import DataError, FileFormatError
from trainer.head_models import pycortex_store
from trainer.head_models.pycortex_store import MEMBERS, _outline, in_region, read_individual, read_members

nibabel = pytest.importorskip("nibabel")

N = 41
WIDTHS_MM = {"lh": 40.0, "rh": 60.0}
"""Of the two flat maps."""

HEIGHT_MM = 40.0
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape"
     width="1000" height="400"><g inkscape:label="shapes">
  <g inkscape:label="M1H"><path d="m 100,100 100,0 0,50 -100,0 z"/><path d="M 700 0 L 800 0 L 800 100 L 700 100 Z"/></g>
  <g inkscape:label="V1"><path d="M 900,300 C 900,250 980,250 980,300 C 980,350 900,350 900,300 z"/></g>
</g></svg>"""


def gifti(points: np.ndarray, triangles: np.ndarray) -> bytes:
    arrays = [
        nibabel.gifti.GiftiDataArray(points.astype(np.float32), "NIFTI_INTENT_POINTSET"),
        nibabel.gifti.GiftiDataArray(triangles.astype(np.int32), "NIFTI_INTENT_TRIANGLE"),
    ]
    return nibabel.GiftiImage(darrays=arrays).to_bytes()


def flat_map(side: str) -> np.ndarray:
    """Return a grid of vertices about the origin, as pycortex's flat maps are."""
    width = WIDTHS_MM[side]
    x, y = np.meshgrid(np.linspace(-width / 2, width / 2, N), np.linspace(-20.0, 20.0, N), indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.zeros(N * N)], axis=1)


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    corner = (np.arange(N - 1)[:, None] * N + np.arange(N - 1)).ravel()
    triangles = np.concatenate(
        [np.stack([corner, corner + N, corner + 1], 1), np.stack([corner + N, corner + N + 1, corner + 1], 1)]
    )
    image = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    found = {"overlays": SVG.encode()}
    # Stored with x running to the left, as scanners do.
    found["anatomy"] = gzip.compress(
        nibabel.Nifti1Image(image, np.array([[-1, 0, 0, 3], [0, 1, 0, -7], [0, 0, 1, 9], [0, 0, 0, 1.0]])).to_bytes()
    )
    for side in ("lh", "rh"):
        flat = flat_map(side)
        found[f"flat_{side}"] = gifti(flat, triangles)
        found[f"wm_{side}"] = gifti(flat + 1, triangles)
        found[f"pia_{side}"] = gifti(flat + 2, triangles)
    return found


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"pycortex-1.4.0/filestore/db/S1/{MEMBERS[name]}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_archive_and_folder_give_the_same(tmp_path: Path, members: dict[str, bytes]) -> None:
    archive = pack(tmp_path / "pycortex-1.4.0.tar.gz", members)
    folder = tmp_path / "S1"
    for name, content in members.items():
        (folder / MEMBERS[name]).parent.mkdir(parents=True, exist_ok=True)
        (folder / MEMBERS[name]).write_bytes(content)
    assert read_members(archive) == read_members(folder) == members


def test_images_axes_run_to_the_right_forwards_and_upwards(members: dict[str, bytes]) -> None:
    individual = read_individual(members, "S1")
    np.testing.assert_array_equal(individual.t1_affine[:3, :3], np.eye(3))
    np.testing.assert_array_equal(individual.t1_affine[:3, 3], (0, -7, 9))
    assert individual.t1[3, 0, 0] == 0
    assert individual.t1[0, 0, 0] == 3 * 30


def test_regions_are_found_on_the_flat_maps_side_by_side(members: dict[str, bytes]) -> None:
    """1000 wide for 100 mm: x 100 to 200 are 10 to 20 mm from the left map's edge, y runs downwards."""
    individual = read_individual(members, "S1")
    left = flat_map("lh")
    expected = (left[:, 0] > -10) & (left[:, 0] < 0) & (left[:, 1] < 10) & (left[:, 1] > 5)
    found = in_region(individual, "M1H")
    on_border = (np.abs(left[:, 0] + 5) > 4.99) | (np.abs(left[:, 1] - 7.5) > 2.49)
    assert np.array_equal(found & ~on_border, expected & ~on_border)
    right = flat_map("rh")
    expected = (right[:, 0] > 0) & (right[:, 0] < 10) & (right[:, 1] > 10)
    found = in_region(individual, "M1H", "right")
    assert found.sum() == pytest.approx(expected.sum(), rel=0.2)
    assert (right[found, 0] >= 0).all()
    assert (right[found, 1] >= 10).all()


def test_a_region_of_the_other_hemisphere_only_is_refused(members: dict[str, bytes]) -> None:
    individual = read_individual(members, "S1")
    assert in_region(individual, "V1", "right").any()
    with pytest.raises(FileFormatError, match="no region 'V1' on the left"):
        in_region(individual, "V1")
    with pytest.raises(FileFormatError, match="no region 'A4'"):
        in_region(individual, "A4", "right")


def test_outlines_of_lines_and_curves_relative_and_absolute() -> None:
    square = [[1, 2], [4, 2], [4, 5]]
    for text in ("m 1,2 3,0 0,3 z", "M1 2L4,2 4 5Z", "m1 2l3-0l0 3"):
        (found,) = _outline(text)
        np.testing.assert_allclose(found, square)
    # Four curves make a circle to 0.03 %: k = 4 (sqrt 2 - 1) / 3.
    k = 0.5522847498
    text = f"M 1,0 C 1,{k} {k},1 0,1 -{k},1 -1,{k} -1,0 c 0,-{k} {1 - k},-1 1,-1 {k},0 1,{1 - k} 1,1 z"
    (circle,) = _outline(text)
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 1.0, atol=5e-4)
    assert len(_outline("m 0,0 1,0 0,1 z m 5,5 1,0 0,1 z")) == 2


@pytest.mark.parametrize("d", ["m 0,0 a 1,1 0 0 1 2,2", "m 0,0 c 1,1 2,2", "l"])
def test_a_drawing_that_is_not_understood_is_refused(members: dict[str, bytes], d: str) -> None:
    drawn = members | {"overlays": SVG.replace("m 100,100 100,0 0,50 -100,0 z", d).encode()}
    with pytest.raises(FileFormatError, match="cannot be read"):
        in_region(read_individual(drawn, "S1"), "M1H")


def test_what_is_missing_or_damaged_is_refused_and_says_how_to_get_it(
    tmp_path: Path, members: dict[str, bytes]
) -> None:
    with pytest.raises(DataError, match="pip download"):
        read_members(tmp_path / "nothing.tar.gz")
    (tmp_path / "text.tar.gz").write_text("no archive")
    with pytest.raises(FileFormatError, match="cannot be read as an archive.*pip download"):
        read_members(tmp_path / "text.tar.gz")
    whole = pack(tmp_path / "whole.tar.gz", members).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="pip download"):
        read_members(tmp_path / "cut.tar.gz")
    lacking = {name: content for name, content in members.items() if name != "overlays"}
    with pytest.raises(FileFormatError, match=r"has no filestore/db/S1/overlays\.svg"):
        read_members(pack(tmp_path / "lacking.tar.gz", lacking))
    with pytest.raises(FileFormatError, match=r"has no anatomicals/raw\.nii\.gz"):
        read_members(tmp_path)


@pytest.mark.parametrize("name", ["anatomy", "pia_lh", "flat_rh"])
def test_a_damaged_member_is_refused(members: dict[str, bytes], name: str) -> None:
    with pytest.raises(FileFormatError, match="damaged"):
        read_individual(members | {name: members[name][:100]}, "S1")


def test_surfaces_that_do_not_belong_together_are_refused(members: dict[str, bytes]) -> None:
    other = gifti(np.zeros((5, 3)), np.array([[0, 1, 2]]))
    with pytest.raises(FileFormatError, match="same vertices"):
        read_individual(members | {"wm_lh": other}, "S1")


def test_the_message_names_a_command_that_gets_the_data() -> None:
    assert "pip download --no-deps --no-binary :all: pycortex==1.4.0" in pycortex_store.HOW_TO_GET
