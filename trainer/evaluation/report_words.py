"""What the report says in sentences: the findings in short, the order of the five models, where to be careful."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from trainer.architectures.settings import MODELS, TITLES
from trainer.evaluation.figures import MEAN_MAP, WEAK_MEAN
from trainer.evaluation.report_material import Material, is_baseline, kind_title, title_of
from trainer.evaluation.report_page import number, with_error
from trainer.evaluation.report_training import loss_scale, stopped_by_limit

ARTICLE_ORDER = tuple(reversed(MODELS))
"""Best first, by NRMSE, in all three people of the article's Table II."""

MANY_ACTIVE = 8
"""Active muscles from which on the article's error stays about the same (III.C)."""


def in_short(material: Material) -> list[tuple[str, str]]:
    """Return the findings: what each is about, and one sentence or two."""
    kind, chosen = material.main, material.chosen
    if not kind or not chosen:
        return [("Nothing was tested", "There is no estimate of any stimulation to report on.")]
    evaluation = material.evaluation
    n, tested = len(evaluation.training), len(evaluation.tested(kind))
    of_all = f"All {n}" if n == tested else f"{tested} of {n}"
    found = [
        (
            "Tested",
            f"{of_all} kept stimulations were estimated by models that had not been fitted to them "
            f"({kind_title(kind)}).",
        ),
        ("Yardstick", _mean_map(material)),
        ("Chosen model", _chosen(material)),
        ("Against the best baseline", _against_baseline(material)),
        ("Where the coil has not been", _blocks(material)),
        ("Order of the article's models", order_of_models(material)),
    ]
    return [(about, sentence) for about, sentence in found if sentence]


def order_of_models(material: Material) -> str:
    """Return how the article's models are ordered here, and how far that agrees with the article."""
    kind = material.main
    values = {
        name: float(row["nrmse_mean"])
        for name in material.methods(kind)
        if name in MODELS and (row := material.of(kind, name)) and np.isfinite(row["nrmse_mean"])
    }
    if len(values) < 2:
        return ""
    order = sorted(values, key=lambda name: values[name])
    expected = [name for name in ARTICLE_ORDER if name in values]
    pairs = list(combinations(expected, 2))
    kept = sum(values[better] < values[worse] for better, worse in pairs)
    listed = ", ".join(f"{title_of(name)} {number(values[name])}" for name in order)
    if order == expected:
        verdict = "This is the article's order."
    else:
        verdict = (
            f"The article's order, in all three people, is {', '.join(TITLES[name] for name in expected)}: {kept} of "
            f"{len(pairs)} pairs stand as there."
        )
    scale = loss_scale(material.evaluation.settings)
    scaled = f" (losses scaled as in the {scale})" if scale else ""
    return f"By mean NRMSE{scaled}, best first: {listed}. {verdict}"


def cautions(material: Material) -> list[tuple[str, str]]:
    """Return where the figures must be read with care: what it is about, and this data set's numbers."""
    if not material.main or not material.chosen:
        return []
    found = [("One active muscle", _one_muscle(material)), ("Weak responses", _weak(material))]
    if "random" in material.kinds:
        missing = "" if "blocks" in material.kinds else " They are missing here, see above."
        found.append(
            (
                "Random folds flatter every method",
                "Neighbouring coil placements stand in training and in test, so that a held-out stimulation has near "
                "twins among those learned from. The spatial blocks leave whole neighbourhoods out and are closer to "
                f"a new place on the same head.{missing}",
            )
        )
    if material.mean_map_is_there:
        found.append(
            (
                "A small NRMSE proves little",
                "That of a map that looks at no muscle is far below 1 already, because all fields of one coil over "
                "one motor cortex resemble each other. Look at the skill, and at the mean map's own row.",
            )
        )
    cut, trained = stopped_by_limit(material.evaluation.settings)
    if cut:
        found.append(
            (
                "Trained for less than the article asks",
                f"{cut} of {trained} trained stages of the networks ended at the most epochs allowed, before the "
                "loss stopped improving. Their figures may become better with more epochs, and the order of the "
                "models another.",
            )
        )
    found += [
        (
            "The truth is computed",
            "The E-field that counts as truth comes from the coil's placement on a head model. An error of that "
            "computation is in no number here, and a small NRMSE does not say that the muscles' neurons lie where "
            "the map is high.",
        ),
        (
            "One person",
            "A model is fitted to one person. Nothing here says how it does on another, or on another day with other "
            "electrodes.",
        ),
    ]
    return [(about, sentence) for about, sentence in found if sentence]


def _mean_map(material: Material) -> str:
    row = material.of(material.main, MEAN_MAP)
    if row is None:
        return "The mean map was not evaluated, so there is no skill: what an NRMSE is worth cannot be told here."
    return (
        "A map that ignores the muscles, the mean of the training fields, already reaches an NRMSE of "
        f"{number(row['nrmse_mean'])}, R² {number(row['r2_mean'])} and a CoG error of "
        f"{number(row['cog_mm_mean'], 1)} mm. What a model adds to that is its skill."
    )


def _chosen(material: Material) -> str:
    row = material.of(material.main, material.chosen)
    if row is None:
        return ""
    best = material.best(material.methods(material.main))
    text = (
        f"{title_of(material.chosen)}: NRMSE {with_error(row['nrmse_mean'], row['nrmse_sem196_folds'])} (median "
        f"{number(row['nrmse_median'])}), R² {number(row['r2_mean'])} (median {number(row['r2_median'])}), CoG error "
        f"{number(row['cog_mm_mean'], 1)} mm, skill {number(row['skill'])}."
    )
    if best == material.chosen:
        return text + " No method has a smaller mean NRMSE."
    other = material.of(material.main, best)
    return text + (f" The smallest mean NRMSE has {title_of(best)}: {number(other['nrmse_mean'])}." if other else "")


def _against_baseline(material: Material) -> str:
    kind, chosen = material.main, material.chosen
    baselines = tuple(m for m in material.methods(kind) if is_baseline(m) and m not in (MEAN_MAP, chosen))
    best = material.best(baselines)
    if not best or is_baseline(chosen):
        return ""
    difference, spread = material.paired_difference(kind, chosen, best)
    text = (
        f"Fold by fold, its NRMSE minus that of the best baseline, {title_of(best)}, is "
        f"{with_error(difference, spread, 4)} (mean ± 1.96 SEM over the folds): "
    )
    if not np.isfinite(spread):
        return text + "one fold gives no error bar to judge that by."
    if abs(difference) <= spread:
        return text + "no difference that the folds' scatter would not explain."
    return text + ("the network is better." if difference < 0 else "the baseline is better.")


def _blocks(material: Material) -> str:
    method = material.chosen
    random, blocks = material.of("random", method), material.of("blocks", method)
    if random is None or blocks is None:
        return ""
    return (
        "With whole neighbourhoods of placements left out (spatial blocks) its NRMSE is "
        f"{number(blocks['nrmse_mean'])} instead of {number(random['nrmse_mean'])}, its skill "
        f"{number(blocks['skill'])} instead of {number(random['skill'])}."
    )


def _one_muscle(material: Material) -> str:
    kind, method = material.main, material.chosen
    error = material.nrmse[kind, method]
    active = material.active[material.evaluation.tested(kind)]
    one, many = error[active == 1], error[active >= MANY_ACTIVE]
    if not len(one):
        return "One active muscle says little about where the field is; no tested stimulation has exactly one."
    text = (
        f"{len(one)} of {len(error)} tested stimulations ({100 * len(one) / len(error):.0f} %) have an "
        f"MEP in a single muscle. {title_of(method)} is off by a median NRMSE of {number(float(np.median(one)))} "
        "there"
    )
    text += f", and by {number(float(np.median(many)))} with {MANY_ACTIVE} or more." if len(many) else "."
    return text + " The article warns against trusting such maps (III.C)."


def _weak(material: Material) -> str:
    kind, method = material.main, material.chosen
    weak = material.of(kind, method, "mep_mean", f"<{WEAK_MEAN:g}")
    strong = material.of(kind, method, "mep_mean", f">={WEAK_MEAN:g}")
    if weak is None:
        return (
            f"No tested stimulation has a mean normalised MEP below {WEAK_MEAN:g}, where the article warns of its maps."
        )
    text = (
        f"{weak['stimulations']} tested stimulations have a mean normalised MEP below {WEAK_MEAN:g}. "
        f"Their mean NRMSE is {number(weak['nrmse_mean'])}"
    )
    text += f", that of the others {number(strong['nrmse_mean'])}." if strong else "."
    return text + " The article warns against trusting these maps too."
