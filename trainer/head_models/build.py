"""Puts a subject with a head together: anatomy, scalp, and the E-field's basis; keeps the expensive parts in a cache.

Everything in the cache is named by a hash of what it was made from: the packages' data, the settings, and the code that
makes it. So a call with the same inputs finds it, and a changed input never finds something stale.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import rt_engine.field
import trainer
from rt_engine.atomic_file import written_whole
from rt_engine.errors import DataError, M2MError
from rt_engine.field.coil import Coil
from rt_engine.field.subject_file import Subject, file_sha256, read_subject, write_subject
from trainer.efield import solve_many
from trainer.efield.build_basis import build_basis
from trainer.efield.coverage import N_CANDIDATES, Coverage, covered_poses
from trainer.efield.head import GREY_MATTER, TISSUE_NAME, VoxelHead
from trainer.efield.solver import FieldSolver
from trainer.efield.voxel_fem import VoxelFem
from trainer.head_models.scalp import scalp_patch

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with the number of placements that are solved and that of all."""
Stage = Callable[[str], None]
"""Told in words what begins."""

NEAR_MM = 8.0
"""Cortex within this distance of the line from the sphere's centre through the hand knob lies under its scalp point."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a subject and its head are made.

    Attributes
    ----------
    name : str
        What is made, for the cache's files.
    source : str
        SHA-256 or words that name the data it is made from.
    subject : callable
        Makes the subject without scalp and basis.
    head : callable
        Makes the head, given the voxels' edge in mm.
    target_mm : callable
        Gives the hand knob, (3,) mm: the middle of scalp and basis.
    notices : str
        All notices of a subject with this head.
    """

    name: str
    source: str
    subject: Callable[[], Subject]
    head: Callable[[int], VoxelHead]
    target_mm: Callable[[], Floats]
    notices: str


@dataclass(frozen=True, eq=False)
class Built:
    """What was built.

    Attributes
    ----------
    sha256 : str
        Of the subject file.
    summary : dict
        Figures of head and subject.
    cached : bool
        Whether it was all there already.
    """

    sha256: str
    summary: dict[str, Any]
    cached: bool


def default_recipe() -> Recipe:
    """Return the recipe of the default subject.

    Raises
    ------
    DataError
        A package that carries its data is not installed.
    """
    from trainer import anatomy
    from trainer.anatomy_notices import DEFAULT_SUBJECT_WITH_HEAD_NOTICES
    from trainer.head_models.default_head import default_head, default_head_sources

    sources = [*anatomy.hcp_sources(), *default_head_sources()]
    return Recipe(
        name="default",
        source=hashlib.sha256("".join(file_sha256(path) for path in sources).encode()).hexdigest(),
        subject=anatomy.default_subject,
        head=default_head,
        target_mm=lambda: np.array(anatomy.HAND_KNOB_MM),
        notices=DEFAULT_SUBJECT_WITH_HEAD_NOTICES,
    )


def pycortex_recipe(archive: Path) -> Recipe:
    """Return the recipe of pycortex's S1.

    Parameters
    ----------
    archive : Path
        Source archive of pycortex, or the folder db/S1 of an installed one.

    Raises
    ------
    DataError, FileFormatError
        No such file, or not what it should be.
    """
    from trainer.anatomy_notices import INDIVIDUAL_NOTICES
    from trainer.head_models import individual_head
    from trainer.head_models.pycortex_store import Individual, read_individual, read_members

    members = read_members(archive)
    known: list[Individual] = []

    def individual() -> Individual:
        if not known:
            known.append(read_individual(members, str(archive)))
        return known[0]

    return Recipe(
        name="pycortex-S1",
        source=hashlib.sha256(
            "".join(hashlib.sha256(members[name]).hexdigest() for name in sorted(members)).encode()
        ).hexdigest(),
        subject=lambda: individual_head.individual_subject(individual()),
        head=lambda resolution_mm: individual_head.individual_head(individual(), resolution_mm),
        target_mm=lambda: individual_head.hand_mm(individual()),
        notices=INDIVIDUAL_NOTICES,
    )


class Cache:
    """A folder that keeps heads, solved placements and whole subjects.

    Parameters
    ----------
    folder : Path
        Made if need be.

    Raises
    ------
    DataError
        The folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"Cannot make the cache folder {folder}: {error}. Give another one with --cache."
            ) from error
        if not os.access(folder, os.W_OK):
            raise DataError(f"The cache folder {folder} may not be written to. Give another one with --cache.")

    def head(self, recipe: Recipe, resolution_mm: int) -> VoxelHead:
        """Return the recipe's head, made only if it is not kept yet."""
        key = _digest(recipe.source, str(resolution_mm), _code_digest(heads_only=True))
        path = self.folder / f"{recipe.name}-{resolution_mm}mm-{key[:16]}.head.npz"
        try:
            with path.open("rb") as file, np.load(file) as kept:
                text = {name: str(kept[name]) for name in ("space", "name", "notices")}
                return VoxelHead(kept["label"], kept["affine"], text["space"], text["name"], text["notices"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, DataError) as error:
            log.warning("The kept head %s is damaged (%s); it is made again.", path, error)
        head = recipe.head(resolution_mm)
        with written_whole(path) as temporary, temporary.open("wb") as new:
            np.savez_compressed(
                new, label=head.label, affine=head.affine, space=head.space, name=head.name, notices=head.notices
            )
        return head

    def subject(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """Return the file and the figures of a subject that is kept, or None."""
        path, summary = self._subject_files(key)
        if not path.is_file() or not summary.is_file():
            return None
        try:
            read_subject(path)
            found: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
            return path, found
        except (M2MError, ValueError) as error:
            log.warning("The kept subject %s is damaged (%s); it is made again.", path, error)
            return None

    def keep_subject(self, key: str, subject: Subject, summary: dict[str, Any]) -> Path:
        """Keep a subject and its figures; return its file."""
        path, summary_path = self._subject_files(key)
        write_subject(path, subject)
        with written_whole(summary_path) as temporary:
            temporary.write_text(json.dumps(summary), encoding="utf-8")
        return path

    def solved(self, solver: FieldSolver, coil: Coil, points_mm: Floats) -> Path:
        """Return the file that keeps solved placements; a basis of another rank begins with the same ones."""
        return self.folder / f"{solve_many.key(solver, coil, points_mm)[:32]}.fields"

    def _subject_files(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key[:32]}.subject.h5", self.folder / f"{key[:32]}.json"


def build_subject(
    recipe: Recipe,
    out: Path,
    cache: Cache,
    *,
    resolution_mm: int = 2,
    coil: Coil | None = None,
    rank: int = 150,
    jobs: int = 1,
    progress: Progress | None = None,
    stage: Stage = lambda words: None,
) -> Built:
    """Build a subject with its head's scalp and, given a coil, its E-field's basis.

    Parameters
    ----------
    recipe : Recipe
        Whose.
    out : Path
        Subject file to write.
    cache : Cache
        Where the head, the solved placements and the subject are kept.
    resolution_mm : int
        Edge of the head's voxels, 1 or 2 mm.
    coil : Coil, optional
        The basis' coil; without one there is no basis.
    rank : int
        Placements to solve.
    jobs : int
        Processes that solve at the same time.
    progress, stage : callable, optional
        Told of what is done.

    Returns
    -------
    Built
        The same bytes for the same inputs, also after an interruption.

    Raises
    ------
    DataError
        What the recipe, the solver or the file system refuses; `out` is then as it was.
    """
    key = _digest(
        recipe.name,
        recipe.source,
        str(resolution_mm),
        _code_digest(),
        *(() if coil is None else (_of(coil), str(rank))),
    )
    kept = cache.subject(key)
    if kept is None:
        path, summary = _make(recipe, cache, key, resolution_mm, coil, rank, jobs, progress, stage)
    else:
        path, summary = kept
    with written_whole(out) as temporary:
        shutil.copyfile(path, temporary)
    return Built(file_sha256(out), summary, cached=kept is not None)


def _make(
    recipe: Recipe,
    cache: Cache,
    key: str,
    resolution_mm: int,
    coil: Coil | None,
    rank: int,
    jobs: int,
    progress: Progress | None,
    stage: Stage,
) -> tuple[Path, dict[str, Any]]:
    stage("anatomy")
    subject = replace(recipe.subject(), notices=recipe.notices)
    target_mm = recipe.target_mm()
    stage("head")
    head = cache.head(recipe, resolution_mm)
    subject = replace(subject, scalp=scalp_patch(head, subject.sphere_center_mm, target_mm))
    summary = figures(head, subject, target_mm)
    if coil is not None:
        stage("equations")
        solver: FieldSolver = VoxelFem(head)
        coverage = Coverage()
        candidates = covered_poses(subject, max(N_CANDIDATES, 4 * rank), target_mm=target_mm, coverage=coverage)
        solved = cache.solved(solver, coil, subject.voxel_mm)
        stage("placements")
        basis = build_basis(
            solver,
            coil,
            candidates,
            subject.voxel_mm,
            rank,
            checkpoint=solved,
            progress=progress,
            jobs=jobs,
            coverage=coverage.description,
        )
        subject = replace(subject, basis=basis)
        summary |= {
            "basis_rank": basis.rank,
            "basis_components": basis.n_components,
            "residual_limit": basis.residual_limit,
            "coil": basis.coil.name,
        }
    return cache.keep_subject(key, subject, summary), summary


def figures(head: VoxelHead, subject: Subject, target_mm: Floats) -> dict[str, Any]:
    """Measure a head and its subject.

    Parameters
    ----------
    head : VoxelHead
        The head.
    subject : Subject
        With scalp.
    target_mm : numpy.ndarray
        (3,), mm; the hand knob.

    Returns
    -------
    dict
        Volumes by tissue in ml, share of BA4's voxels in grey matter and in the brain, distances about the hand knob.
    """
    index = np.round(np.linalg.inv(head.affine)[:3] @ np.vstack([subject.voxel_mm.T, np.ones(subject.n_voxels)]))
    tissue = head.label[tuple(index.astype(int))]
    assert subject.scalp is not None
    up = target_mm - subject.sphere_center_mm
    up = up / np.linalg.norm(up)
    cortex = subject.vertices.astype(np.float64) - subject.sphere_center_mm
    height_mm = cortex @ up
    beside_mm = np.linalg.norm(cortex - np.outer(height_mm, up), axis=1)
    scalp_mm = float(np.linalg.norm(subject.scalp.vertices[0] - subject.sphere_center_mm))
    volume_ml = head.resolution_mm**3 / 1000.0
    return {
        "head": head.name,
        "head_sha256": head.content_hash(),
        "conductor_voxels": int((head.label > 0).sum()),
        "tissue_ml": {
            name: round(float((head.label == tag).sum() * volume_ml), 1)
            for tag, name in TISSUE_NAME.items()
            if tag and (head.label == tag).any()
        },
        "voxels": subject.n_voxels,
        "mask_fraction": subject.n_voxels / float(np.prod(subject.box_shape)),
        "ba4_in_grey_matter": float((tissue == GREY_MATTER).mean()),
        "ba4_outside_brain": float(((tissue == 0) | (tissue > 3)).mean()),
        "scalp_to_cortex_mm": round(scalp_mm - float(height_mm[beside_mm < NEAR_MM].max()), 1),
        "scalp_above_sphere_mm": round(scalp_mm - subject.scalp_radius_mm, 1),
    }


def _of(coil: Coil) -> str:
    return _digest(coil.name, str(coil.max_didt_a_per_us), coil.position_mm.tobytes(), coil.moment_am2_per_a.tobytes())


def _code_digest(*, heads_only: bool = False) -> str:
    """Digest the code that makes heads, or also fields and files: an update makes them anew."""
    room = Path(str(trainer.__file__)).parent
    files = [*room.glob("anatomy*.py"), *(room / "head_models").glob("*.py")]
    if not heads_only:
        files += [*(room / "efield").glob("*.py"), *Path(str(rt_engine.field.__file__)).parent.glob("*.py")]
    return _digest(*(part for path in sorted(files) for part in (path.name, path.read_bytes())))


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()
