"""The report of an evaluation: one HTML file with the article's tables and figures, which needs nothing beside it.

Says what stands where; how it looks and what it says is in the modules `report_*` beside it. Nothing here needs
TensorFlow.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from rt_engine.atomic_file import written_whole
from trainer.evaluation.figures import MEAN_MAP, WEAK_MEAN, measure, mep_correlations
from trainer.evaluation.report_map_figures import draw_extremes, draw_side_by_side, extreme_rows, strong_row
from trainer.evaluation.report_material import Material, gather, is_baseline, kind_title, title_of
from trainer.evaluation.report_page import bullets, html_figure, number, page, paragraph
from trainer.evaluation.report_plots import draw_against_meps, draw_all_methods, draw_forward
from trainer.evaluation.report_tables import (
    table_active,
    table_forward,
    table_i,
    table_ii,
    table_ii_further,
    table_iii,
)
from trainer.evaluation.report_training import training_section
from trainer.evaluation.report_words import cautions, in_short
from trainer.evaluation.results import Evaluation

_ARTICLE = (
    '<a href="https://doi.org/10.1109/TNSRE.2024.3378102">Akbar et al., IEEE TNSRE 32, 2024, '
    "10.1109/TNSRE.2024.3378102</a>"
)

_NO_MODELS = "None of the article's five networks was evaluated: the tables hold the baselines only."


def write_report(evaluation: Evaluation, path: str | Path) -> None:
    """Write the report of an evaluation; the same evaluation gives the same bytes.

    Parameters
    ----------
    evaluation : Evaluation
        Complete or not: what is missing is said in a sentence where it would stand.
    path : str or Path
        Where to write, normally ``*.html``; a file already there is replaced in one step.

    Raises
    ------
    DataError
        The file cannot be written there.
    """
    text = report_html(evaluation)
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def report_html(evaluation: Evaluation) -> str:
    """Return the report of an evaluation as one HTML document.

    Parameters
    ----------
    evaluation : Evaluation
        As for `write_report`.

    Returns
    -------
    str
    """
    material = gather(evaluation)
    sections = [
        ("short", "In short", bullets(in_short(material))),
        ("data", "The data", _data(material)),
        ("judged", "How it was judged", _judged(material)),
        ("methods", "All methods", _methods(material)),
        ("maps", "One stimulation, all methods", _side_by_side(material)),
        ("extremes", "Best, average, worst", _extremes(material)),
        ("meps", "What the error depends on", _meps(material)),
        ("intensity", "By intensity", _intensity(material)),
        ("forward", "Back from the map to the muscles", _forward(material)),
        ("care", "Read with care", bullets(cautions(material), kind="care") or paragraph("Nothing was tested.")),
        ("settings", "Training and settings", training_section(material.evaluation.settings)),
    ]
    head = (
        '<p class="dim">Held-out estimates of the field on Brodmann area 4 (BA4) from motor evoked potentials (MEPs), '
        f"by the protocol of {_ARTICLE}. Figures and tables have the article's numbers; those with letters are "
        "additions.</p>"
    )
    return page(f"Evaluation of {evaluation.name}", sections, head)


def _data(material: Material) -> str:
    training, selection = material.evaluation.training, material.evaluation.selection
    size = np.linalg.norm(training.affine[:3, :3], axis=0)
    items = [
        f"Data set: {material.evaluation.name}; {len(training)} stimulations kept of {_applied(material)} applied.",
        f"Muscles ({len(training.muscles)}): {', '.join(training.muscles)}.",
        f"BA4: {training.field.shape[1]} voxels of {' × '.join(f'{s:.3g}' for s in size)} mm in a box of "
        f"{' × '.join(str(side) for side in training.box_shape)} voxels; coordinates in scanner space (RAS: x to the "
        "right, y to the front, z up).",
        f"Field: magnitude of the E-field, scaled to the data set's largest, {training.field_scale_v_per_m:.4g} V/m "
        "= 1.",
        "MEPs: peak to peak, scaled for each muscle to its largest.",
    ]
    if training.subject_sha256:
        items.append(f"Subject file: SHA-256 {training.subject_sha256[:16]}….")
    notes = dict.fromkeys((*selection.notes, *training.notes, *material.evaluation.notes))
    text = bullets(items) + table_i(material)
    if notes:
        text += paragraph("Left out, filled in or not as asked for:") + bullets(notes)
    return text


def _applied(material: Material) -> int:
    counts = material.evaluation.selection.counts
    return sum(of for _, of in counts.values()) if counts else len(material.evaluation.selection.kept)


def _judged(material: Material) -> str:
    text = paragraph(
        "Every stimulation was estimated by models that had not been fitted to it: the stimulations are cut into "
        "folds, and each fold is estimated by models fitted to the others. Scales, components and hyperparameters "
        "are found anew in each fold, unless the settings below say otherwise."
    )
    text += bullets(
        [
            "Random folds are drawn at random, each with its share of every intensity (article, II.F).",
            "Spatial blocks are groups of neighbouring coil placements that are left out together. They are harder, "
            "and nearer to what happens when the coil goes where it has not been.",
            "NRMSE (eq. 12): root of the squared error by the squared norm of the truth, over the voxels of BA4. No "
            "unit; 0 is perfect, 1 is as bad as a map of zeros.",
            "R² (eq. 13): 1 − squared error / squared deviation of the truth from its own mean. 1 is perfect; it may "
            "be negative.",
            "CoG error (eq. 14, 15): distance between the centres of gravity of truth and estimate, in mm.",
            "Skill: 1 − MSE / MSE of the mean map, over all stimulations: what the muscles' answers add to knowing "
            "nothing of them. 0 is the mean map, 1 is perfect.",
        ]
    )
    if "blocks" not in material.kinds and material.main:
        text += paragraph(
            "There are no spatial blocks here: the coil's placements are not known, or too few of them differ, or "
            "these folds were not run.",
            kind="care",
        )
    return text


def _methods(material: Material) -> str:
    if not material.main:
        return paragraph("No fold was run, so there is nothing to compare.")
    text = "" if _has_networks(material) else paragraph(_NO_MODELS, kind="care")
    if any(len(np.unique(material.evaluation.fold[k][material.evaluation.tested(k)])) < 2 for k in material.kinds):
        text += paragraph("Where only one fold was run there is no error bar over folds.", kind="care")
    text += table_ii(material)
    caption = (
        "<b>Figure A.</b> NRMSE of every held-out stimulation, by method. Box: the middle half of the stimulations; "
        "black line: median; diamond: mean; whiskers: 5th to 95th percentile. Plain boxes: random folds; hatched "
        "boxes: spatial blocks. Grey: baselines; blue: the article's models. The dashed line is the median of the "
        f"mean map ({escape(kind_title(material.main))}): a method whose box lies around it has learned nothing from "
        "the muscles."
    )
    text += html_figure(draw_all_methods(material), "Box plots of NRMSE of all methods", caption)
    return text + table_ii_further(material)


def _side_by_side(material: Material) -> str:
    row = strong_row(material)
    if row is None or not material.methods(material.main):
        return paragraph("There is no tested stimulation with known amplitudes to show.")
    level = material.percent_rmt[row]
    at = f" at {level:g} % RMT" if np.isfinite(level) else ""
    caption = (
        f"<b>Figure 3.</b> One stimulation (number {row + 1} of the kept ones{at}) that most muscles answered "
        "strongly: the one with the largest median of the normalised MEPs, which stand as bars beside the ground "
        "truth. A strong example shows differences between methods most clearly; its errors tend to be below "
        f"the averages of Table II. Every map is held out ({escape(kind_title(material.main))}) and drawn in the "
        "same colours, as maximum-intensity projections onto the coronal, sagittal and axial plane. White ring: "
        "centre of gravity (CoG) of the truth; orange cross: that of the estimate. Look at whether the peak has the "
        "truth's height and place, or is flattened towards the mean map."
    )
    figure = draw_side_by_side(material, row)
    return html_figure(figure, "Truth and estimates of one stimulation by all methods", caption)


def _extremes(material: Material) -> str:
    rows = extreme_rows(material, material.chosen) if material.chosen else {}
    if not rows:
        return paragraph("There is no finite NRMSE, hence neither a best nor a worst stimulation.")
    caption = (
        f"<b>Figure 4.</b> {escape(title_of(material.chosen))}: the held-out stimulations with the smallest NRMSE "
        "(left), the NRMSE nearest to the mean of all (middle) and the largest (right). Rows: MEPs on a logarithmic "
        "axis (blue: at least 50 µV, the dotted line; grey: less), ground truth, estimate, absolute error. Truth and "
        "estimate of one column share their colours, which end at the larger peak of the two and so differ between "
        "columns; the errors of all columns share theirs. White ring: CoG of the truth; orange cross: of the "
        "estimate. Each pixel is the largest value along the line of sight."
    )
    figure = draw_extremes(material, material.chosen, rows)
    return html_figure(figure, "Best, average and worst estimate of the chosen model", caption)


def _meps(material: Material) -> str:
    if not material.chosen:
        return paragraph("Nothing was tested.")
    method, kind = material.chosen, material.main
    ranks = mep_correlations(material.evaluation, kind, measure(material.evaluation, kind, method))
    line = " The orange lines are the mean map's median on the same stimulations." if method != MEAN_MAP else ""
    caption = (
        f"<b>Figure 5.</b> NRMSE of {escape(title_of(method))} for all held-out stimulations "
        f"({escape(kind_title(kind))}). (a) Against the mean, (b) against the variance of the normalised MEPs over "
        "the muscles; colour and mark: stimulation intensity; black line: running median. The dotted line marks a "
        f"mean of {WEAK_MEAN:g}, below which the article warns of the maps. Spearman's rank correlation is "
        f"{number(ranks['nrmse_vs_mep_mean'], 2)} with the mean and {number(ranks['nrmse_vs_mep_variance'], 2)} with "
        "the variance; negative means that stronger answers give better maps. (c) By the number of active muscles; "
        "box: middle half, black line: median, diamond: mean, whiskers: 5th to 95th percentile, single dots where "
        f"there are fewer than five; colour: mean normalised MEP of the active muscles.{line} Points beyond the axis "
        "are drawn on its upper edge."
    )
    figure = draw_against_meps(material, method)
    return html_figure(figure, "NRMSE against the strength of the MEPs", caption) + table_active(material)


def _intensity(material: Material) -> str:
    table = table_iii(material) if material.chosen else ""
    if not table:
        return paragraph("The intensity of the stimulations is not known in percent of RMT; Table III is left out.")
    levels = material.levels(material.main, material.chosen, "intensity")
    if len(levels) == 1:
        table = paragraph("All stimulations have one intensity; there is nothing to compare it with.") + table
    return table


def _forward(material: Material) -> str:
    if not material.forward:
        return paragraph("No forward model (E-field to MEPs) was evaluated.")
    text = paragraph(
        "M2M-Net goes the other way, from the E-field to the MEPs, so that a map can be turned back into the "
        "responses that it would make. Beside it stands a constant: each muscle's mean in the training folds."
    )
    caption = (
        "<b>Figure B.</b> Root mean squared error of each muscle's normalised MEP on held-out stimulations, random "
        "folds. Where the blue bar is no lower than the grey one, the model foretells nothing about that muscle that "
        "its mean would not."
    )
    return text + table_forward(material) + html_figure(draw_forward(material), "Forward error by muscle", caption)


def _has_networks(material: Material) -> bool:
    return any(not is_baseline(name) for kind in material.kinds for name in material.methods(kind))
