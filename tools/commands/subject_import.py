"""`m2m subject import`: a subject file from a laboratory's own SimNIBS head and FreeSurfer surfaces."""

import os
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import Progress

from rt_engine.errors import DataError, SettingsError
from rt_engine.field.subject_file import write_subject
from tools.chosen_coil import chosen_coil
from tools.commands.options import JsonOption
from tools.console import console, emit_json
from trainer.efield.coverage import N_CANDIDATES

NO_NOTICE = "No licence was stated. The subject derives from a person's MRI: share it only as that person agreed."


def import_subject(
    mesh: Annotated[Path, typer.Option("--mesh", help="Head mesh of SimNIBS (.msh).")],
    white: Annotated[Path, typer.Option("--white", help="White surface: lh.white, or GIFTI.")],
    pial: Annotated[Path, typer.Option("--pial", help="Pial surface: lh.pial, or GIFTI.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Subject file to write (*.subject.h5).")],
    label: Annotated[
        list[Path] | None,
        typer.Option("--label", help="Label of the area: lh.BA4a_exvivo.label, or .label.gii. Repeatable; all count."),
    ] = None,
    annot: Annotated[
        Path | None, typer.Option("--annot", help="Annotation with the area: lh.aparc.annot, or .label.gii.")
    ] = None,
    area: Annotated[
        list[str] | None, typer.Option("--area", help="Name of the area in the annotation. Repeatable; all count.")
    ] = None,
    hemisphere: Annotated[
        str | None, typer.Option("--hemisphere", help="left or right, where the files' names do not say it.")
    ] = None,
    hand_knob: Annotated[
        str | None,
        typer.Option(
            "--hand-knob",
            help="x,y,z: the hand knob, where coils aim, mm in the mesh's space. Default: the middle of the area.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the subject. Default: the mesh's.")] = None,
    t1: Annotated[
        Path | None,
        typer.Option("--t1", help="MRI that FreeSurfer used (mri/orig.mgz), where surfaces do not say where it lies."),
    ] = None,
    box: Annotated[int, typer.Option("--box", help="Edge of the box, voxels of 1 mm.")] = 64,
    allow_cut: Annotated[bool, typer.Option("--allow-cut", help="Cut off what does not fit into the box.")] = False,
    basis: Annotated[
        bool, typer.Option("--basis/--no-basis", help="Solve for the E-field's basis. Takes minutes to an hour.")
    ] = True,
    rank: Annotated[int, typer.Option("--rank", min=1, max=1000, help="Placements to solve for the basis.")] = 150,
    coil: Annotated[
        Path | None, typer.Option("--coil", help="Coil of the basis (.ccd, .tcd). Default: a 70 mm figure of eight.")
    ] = None,
    max_didt: Annotated[
        float | None,
        typer.Option("--max-didt-a-per-us", min=0.1, help="Largest dI/dt of the coil, where its file does not say it."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that solve at the same time.")] = 1,
    notice: Annotated[
        str | None,
        typer.Option("--notice", help="Licence notices of the data, to be kept with the subject: a text, or a file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a subject file from a SimNIBS head mesh and FreeSurfer surfaces with BA4, or any other area.

    Mesh and surfaces must be of the same person and in the same space. What is solved for the basis is kept beside the
    file until it is whole: after an interruption the same command goes on where it was.
    """
    from trainer.importers.freesurfer import read_cortex
    from trainer.importers.freesurfer_labels import read_area
    from trainer.importers.lab_subject import lab_subject
    from trainer.importers.simnibs_mesh import read_head

    if not out.absolute().parent.is_dir() or not os.access(out.absolute().parent, os.W_OK):
        # Said now, and not when everything is solved.
        raise SettingsError(f"--out {out}: {out.absolute().parent} is no folder that can be written to; make it first")
    side = _side(hemisphere)
    knob_mm = None if hand_knob is None else _place(hand_knob)
    notices = _notices(notice, [mesh, white, pial, *(label or []), *([annot] if annot else [])])
    chosen = chosen_coil(coil, max_didt)
    with console.status("surfaces and labels"):
        cortex = read_cortex(white, pial, hemisphere=side, t1=t1)
        in_area = read_area(cortex, label or [], annot, area or [])
    with console.status("head mesh"):
        head = read_head(mesh, notices=notices)
    with console.status("box, scalp and sphere"):
        made = lab_subject(
            head,
            cortex,
            in_area,
            name=name or head.name,
            notices=notices,
            box=box,
            allow_cut=allow_cut,
            hand_knob_mm=knob_mm,
        )
    subject = made.subject
    fraction = subject.n_voxels / float(np.prod(subject.box_shape))
    console.print(
        f"{subject.name}: {subject.n_voxels} voxels of the {subject.hemisphere} hemisphere, {100 * fraction:.2f} % of "
        f"the box; {made.n_astray} of them outside of the mesh's white and grey matter",
        soft_wrap=True,
    )
    if made.n_cut:
        console.print(f"{made.n_cut} voxels did not fit into the box and were cut off")
    if basis:
        from dataclasses import replace

        from trainer.efield.build_basis import build_basis
        from trainer.efield.coverage import covered_poses
        from trainer.efield.tetra_fem import TetraFem

        candidates = covered_poses(subject, max(N_CANDIDATES, 4 * rank), target_mm=made.target_mm)
        with console.status("equations"):
            solver = TetraFem(head)
        solving = out.with_name(out.name + ".solving")
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("placements solved", total=rank)
            reduced = build_basis(
                solver,
                chosen,
                candidates,
                made.points_mm,
                rank,
                checkpoint=solving,
                progress=lambda done, _: progress.update(task, completed=done),
                jobs=jobs,
            )
        subject = replace(subject, basis=reduced)
        sha256 = write_subject(out, subject)
        solving.unlink(missing_ok=True)
    else:
        sha256 = write_subject(out, subject)
    console.print(f"subject: {out} ({out.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
    console.print(notices, soft_wrap=True, markup=False)
    if as_json:
        emit_json(
            {
                "path": out,
                "sha256": sha256,
                "name": subject.name,
                "space": subject.space,
                "hemisphere": subject.hemisphere,
                "voxels": subject.n_voxels,
                "mask_fraction": fraction,
                "origin_mm": subject.affine[:3, 3],
                "voxels_outside_grey_and_white": made.n_astray,
                "voxels_cut": made.n_cut,
                "target_mm": made.target_mm,
                "scalp_radius_mm": subject.scalp_radius_mm,
                "basis_rank": subject.basis.rank if subject.basis is not None else None,
                "residual_limit": subject.basis.residual_limit if subject.basis is not None else None,
                "coil": subject.basis.coil.name if subject.basis is not None else None,
                "notices": notices,
            }
        )


def _side(text: str | None) -> Literal["left", "right"] | None:
    if text is None:
        return None
    sides = {"left": "left", "right": "right", "lh": "left", "rh": "right", "l": "left", "r": "right"}
    if text.lower() not in sides:
        raise SettingsError(f"--hemisphere {text!r}: expected left or right")
    return cast("Literal['left', 'right']", sides[text.lower()])


def _place(text: str) -> npt.NDArray[np.float64]:
    try:
        place = np.array([float(part) for part in text.split(",")])
    except ValueError:
        place = np.zeros(0)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise SettingsError(f"--hand-knob {text!r}: expected three numbers in mm, as -38,-20,58")
    return place


def _notices(notice: str | None, files: list[Path]) -> str:
    """Put together what stands in the subject file about its origin: the user's words, and the files by name."""
    text = NO_NOTICE
    if notice is not None:
        path = Path(notice)
        try:
            text = path.read_text(encoding="utf-8") if len(notice) < 4096 and path.is_file() else notice
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"--notice {notice}: cannot be read as text ({error})") from error
        if not text.strip():
            raise DataError(f"--notice {notice}: there is no text in it; leave the option out, or say what applies")
    made_from = ", ".join(file.name for file in files)
    return f"{text.strip()}\n\nMade with m2m-live from: {made_from}.\n"
