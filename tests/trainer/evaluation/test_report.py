"""The report of an evaluation: complete, self-contained, the same each time, and a sentence for all that is missing."""

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_engine.errors import DataError
from tests.conftest import ROOT
from trainer.architectures.settings import MODELS
from trainer.evaluation import report_page
from trainer.evaluation.figures import MEAN_MAP, measure, summarise
from trainer.evaluation.report import report_html, write_report
from trainer.evaluation.report_map_figures import extreme_rows, shown_methods, strong_row
from trainer.evaluation.report_material import gather
from trainer.evaluation.report_page import number, with_error
from trainer.evaluation.report_training import training_section
from trainer.evaluation.report_words import cautions, in_short, order_of_models
from trainer.evaluation.results import NOT_TESTED, Evaluation, check_evaluation
from trainer.network_data import Selection
from trainer.preprocessing import TrainingSet

MUSCLES = ("FDI", "ADM", "EDC", "FCR")

BASELINES = (MEAN_MAP, "knn", "ridge", "kernel-ridge")

QUALITY = dict(zip((*BASELINES, *MODELS), (0.0, 0.5, 0.55, 0.8, 0.2, 0.3, 0.4, 0.6, 0.7), strict=True))
"""Method -> part of the way from the mean map to the truth that its made-up estimates go."""


def make_evaluation(
    n: int = 60,
    *,
    methods: tuple[str, ...] = (*BASELINES, *MODELS),
    kinds: tuple[str, ...] = ("random", "blocks"),
    levels: tuple[float, ...] = (110.0, 120.0),
    n_folds: int = 3,
    not_run: int = 0,
    missing: float = 0.0,
    forward: bool = True,
    seed: int = 0,
) -> Evaluation:
    """Make estimates of random fields that are worse the smaller the method's `QUALITY`."""
    rng = np.random.default_rng(seed)
    voxel = np.argwhere(np.ones((6, 5, 3), bool)).astype(np.int16)
    field = rng.random((n, len(voxel)))
    field /= field.max()
    level = rng.choice(levels, n)
    amplitudes = 10 ** rng.uniform(0.5, 3.5, (n, len(MUSCLES)))
    amplitudes[1:, 1:][rng.random((n - 1, len(MUSCLES) - 1)) < missing] = np.nan
    training = TrainingSet(
        muscles=MUSCLES,
        amplitudes_uv=amplitudes,
        field=field,
        field_scale_v_per_m=120.0,
        intensity_percent_rmt=level,
        coil_mm=rng.normal(size=(n, 3)),
        voxel=voxel,
        affine=np.array([[1.0, 0, 0, -40], [0, 1, 0, -20], [0, 0, 1, 50], [0, 0, 0, 1]]),
        box_shape=(8, 8, 8),
        subject_sha256="ab" * 32,
    )
    fold = rng.permutation(np.arange(n) % n_folds)
    fold[fold >= n_folds - not_run] = NOT_TESTED
    tested = (fold != NOT_TESTED)[:, None]
    mean = field.mean(axis=0)
    estimates = {
        name: np.where(tested, mean + QUALITY[name] * (field - mean), np.nan).astype(np.float32) for name in methods
    }
    meps = amplitudes / np.nanmax(amplitudes, axis=0)
    applied = {float(k): (int((level == k).sum()), int((level == k).sum()) + 1) for k in np.unique(level)}
    return Evaluation(
        name="made up",
        training=training,
        selection=Selection(np.ones(n, bool), applied, ("one left out",)),
        fold={kind: fold.copy() for kind in kinds},
        field={kind: dict(estimates) for kind in kinds},
        normalised_meps=meps,
        forward_meps={
            "m2m-net": np.where(tested, 0.5 * np.nan_to_num(meps), np.nan),
            "constant": np.where(tested, np.nanmean(meps, axis=0), np.nan),
        }
        if forward
        else {},
        settings={"seed": seed, "preprocessing": {"floor_uv": 50.0}, "models": list(methods), "nothing": None},
        seconds=dict.fromkeys(methods, 12.0),
    )


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw with few pixels: nobody looks at these pictures."""
    monkeypatch.setattr(report_page, "DPI", 24)


class Page(HTMLParser):
    """What a page refers to, what it says, and whether its tags close."""

    VOID = {"meta", "img", "br"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.refers: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.refers += [value for name, value in attrs if name in ("src", "href", "srcset", "data") and value]
        if "id" in found:
            self.ids.append(found["id"] or "")
        if tag == "img":
            self.images.append(found)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data


@pytest.fixture(scope="module")
def text() -> str:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(report_page, "DPI", 24)
        return report_html(make_evaluation())


@pytest.fixture(scope="module")
def complete(text: str) -> Page:
    return Page(text)


def test_it_needs_nothing_but_itself(complete: Page) -> None:
    outside = [ref for ref in complete.refers if not ref.startswith(("data:image/png;base64,", "#"))]
    assert outside == ["https://doi.org/10.1109/TNSRE.2024.3378102"]
    assert complete.tags.isdisjoint({"script", "link", "iframe", "object"})


def test_its_tags_close_and_its_contents_lead_somewhere(complete: Page) -> None:
    assert complete.open == []
    assert len(set(complete.ids)) == len(complete.ids) > 8
    assert {ref[1:] for ref in complete.refers if ref.startswith("#")} == set(complete.ids)


def test_every_picture_has_words_for_who_cannot_see_it(complete: Page) -> None:
    assert len(complete.images) == 5  # all methods, Figs. 3, 4, 5, the forward model
    assert all(image["alt"] for image in complete.images)


def test_all_tables_and_figures_of_the_article_are_there(complete: Page) -> None:
    for name in (
        "Table I.",
        "Table II.",
        "Table III.",
        "Figure 3.",
        "Figure 4.",
        "Figure 5.",
        "Figure A.",
        "Figure B.",
    ):
        assert name in complete.words


def test_each_method_stands_with_its_figures_in_both_kinds_of_folds(complete: Page) -> None:
    evaluation = make_evaluation()
    for kind in evaluation.field:
        for method in evaluation.field[kind]:
            row = summarise(evaluation, kind, measure(evaluation, kind, method))
            assert with_error(float(row["nrmse_mean"]), float(row["nrmse_sem196_folds"])) in complete.words
            assert number(row["r2_median"]) in complete.words


def test_the_best_of_each_column_is_bold_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.evaluation.report_tables import table_ii

    evaluation = make_evaluation(kinds=("random",))
    lines = table_ii(gather(evaluation)).splitlines()
    (best,) = [line for line in lines if "Kernel ridge" in line]
    assert best.count("<b>") == 7
    assert sum(line.count("<td><b>") for line in lines) == 7


def test_the_same_evaluation_gives_the_same_bytes(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("an older one", encoding="utf-8")
    write_report(make_evaluation(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == text.encode()
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder"):
        write_report(make_evaluation(not_run=3), tmp_path / "nowhere" / "report.html")


def test_names_from_outside_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>&amp;"
    evaluation = replace(
        make_evaluation(methods=(MEAN_MAP,), forward=False),
        name=evil,
        notes=(evil,),
        settings={evil: evil},
        field={"random": {}, "blocks": {}},
    )
    page = Page(report_html(evaluation))
    assert "script" not in page.tags
    assert page.words.count(evil) >= 4


INCOMPLETE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "baselines alone, one intensity, no poses": (
        {"methods": (MEAN_MAP, "ridge"), "kinds": ("random",), "levels": (120.0,), "forward": False},
        ("no spatial blocks here", "None of the article's five networks", "one intensity", "No forward model"),
    ),
    "no random folds, no known intensity, no mean map": (
        {"methods": ("ridge", "vae-decoder"), "kinds": ("blocks",), "levels": (np.nan,)},
        ("The mean map was not evaluated", "is not known in percent of RMT", "No forward model"),
    ),
    "one fold, amplitudes missing, one method": (
        {"methods": ("direct-variational",), "kinds": ("random",), "not_run": 2, "missing": 0.4},
        ("no error bar over folds", "20 of 60 kept stimulations", "No method has a smaller mean NRMSE"),
    ),
    "two stimulations": ({"n": 2, "n_folds": 2, "kinds": ("random",)}, ("All 2 kept stimulations",)),
    "nothing tested": ({"not_run": 3}, ("Nothing was tested", "No fold was run")),
}


@pytest.mark.parametrize("what", INCOMPLETE)
def test_what_is_missing_is_said_in_a_sentence(what: str) -> None:
    how, sentences = INCOMPLETE[what]
    evaluation = make_evaluation(**({"methods": (MEAN_MAP, "direct-variational")} | how))
    check_evaluation(evaluation)
    page = Page(report_html(evaluation))
    assert page.open == []
    for sentence in sentences:
        assert sentence in page.words
    assert "nan" not in page.words.lower().split()


def test_an_estimate_of_zero_everywhere_has_no_centre_and_no_crash() -> None:
    evaluation = make_evaluation(methods=(MEAN_MAP, "direct-variational"), kinds=("random",), forward=False)
    evaluation.field["random"]["direct-variational"][:] = 0.0
    page = Page(report_html(evaluation))
    assert "CoG error – mm" in page.words


def test_the_report_loads_neither_tensorflow_nor_a_plotting_state() -> None:
    code = (
        "import sys, trainer.evaluation.report as r; "
        "sys.exit(bool({'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_fig_4_shows_the_smallest_the_most_average_and_the_largest_error() -> None:
    material = gather(make_evaluation(not_run=1))
    error = dict(
        zip(
            material.evaluation.tested("random").tolist(),
            material.nrmse["random", "direct-variational"].tolist(),
            strict=True,
        )
    )
    rows = extreme_rows(material, "direct-variational")
    mean = np.mean(list(error.values()))
    assert error[rows["Best"]] == min(error.values())
    assert error[rows["Worst"]] == max(error.values())
    assert abs(error[rows["Average"]] - mean) == min(abs(value - mean) for value in error.values())


def test_fig_3_shows_a_tested_stimulation_that_most_muscles_answered() -> None:
    evaluation = make_evaluation(not_run=1)
    row = evaluation.tested("random")[3]
    amplitudes_uv = evaluation.training.amplitudes_uv
    amplitudes_uv[row] = 1.1 * amplitudes_uv.max(axis=0)
    amplitudes_uv[evaluation.fold["random"] == NOT_TESTED] = 2.0 * amplitudes_uv.max(axis=0)
    assert strong_row(gather(evaluation)) == row


def test_fig_3_puts_the_networks_beside_the_mean_map_and_the_best_other_baseline() -> None:
    assert shown_methods(gather(make_evaluation())) == (*MODELS, MEAN_MAP, "kernel-ridge")
    assert shown_methods(gather(make_evaluation(methods=BASELINES))) == BASELINES


def test_the_order_of_the_models_is_compared_with_the_articles() -> None:
    expected = make_evaluation()
    expected.settings["evaluation"] = {"training": {"architecture": {"loss_scale": "code"}}}
    assert "This is the article's order." in order_of_models(gather(expected))
    assert "losses scaled as in the code" in order_of_models(gather(expected))
    swapped = make_evaluation()
    for by_method in swapped.field.values():
        by_method["vae-decoder"], by_method["ae-decoder"] = by_method["ae-decoder"], by_method["vae-decoder"]
    assert "7 of 10 pairs stand as there" in order_of_models(gather(swapped))


def test_the_comparison_with_the_best_baseline_is_paired_over_folds() -> None:
    material = gather(make_evaluation())
    difference, spread = material.paired_difference("random", "direct-variational", "kernel-ridge")
    errors = [material.nrmse["random", name] for name in ("direct-variational", "kernel-ridge")]
    fold = material.evaluation.fold["random"]
    by_fold = np.array([(errors[0] - errors[1])[fold == k].mean() for k in range(3)])
    assert difference == pytest.approx(by_fold.mean())
    assert spread == pytest.approx(1.96 * by_fold.std(ddof=1) / np.sqrt(3))
    assert any("the baseline is better" in sentence for _, sentence in in_short(material))


def test_a_training_that_was_cut_short_is_said() -> None:
    def job(epochs: int, ended: str) -> dict[str, Any]:
        return {"epochs": {"vae": 20, "mapper": epochs}, "ended": {"vae": "plateau", "mapper": ended}, "loss": 1.0}

    details = {
        "vae-decoder": {"random 0": job(40, "epochs"), "random 1": job(30, "plateau")},
        "kernel-ridge": {"random 0": {"alpha": 0.1}},
    }
    tuning = [{"method": "vae-decoder", "latent": 8, "nrmse": 0.25, "chosen": True}]
    evaluation = replace(make_evaluation(), settings={"seed": 3, "details": details, "tuning": tuning})
    page = Page(training_section(evaluation.settings))
    assert "30 to 40" in page.words
    assert "0.25" in page.words
    assert "details" not in page.words
    said = dict(cautions(gather(evaluation)))["Trained for less than the article asks"]
    assert said.startswith("1 of 4 trained stages")


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(2, 40),
    methods=st.lists(st.sampled_from((*BASELINES, *MODELS)), unique=True).map(tuple),
    kinds=st.sampled_from([("random", "blocks"), ("random",), ("blocks",), ()]),
    levels=st.sampled_from([(110.0, 120.0, 130.0, 140.0), (120.0,), (np.nan, 110.0), tuple(np.linspace(80, 170, 40))]),
    n_folds=st.integers(1, 5),
    not_run=st.integers(0, 2),
    missing=st.sampled_from([0.0, 0.6]),
    seed=st.integers(0, 3),
)
def test_whatever_is_there_the_words_hold(
    n: int,
    methods: tuple[str, ...],
    kinds: tuple[str, ...],
    levels: tuple[float, ...],
    n_folds: int,
    not_run: int,
    missing: float,
    seed: int,
) -> None:
    evaluation = make_evaluation(
        n,
        methods=methods,
        kinds=kinds,
        levels=levels,
        n_folds=n_folds,
        not_run=min(not_run, n_folds),
        missing=missing,
        seed=seed,
    )
    material = gather(evaluation)
    said = [sentence for _, sentence in (*in_short(material), *cautions(material))]
    assert said
    assert not any("nan" in sentence.split() or "inf" in sentence.split() for sentence in said)


@given(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), st.integers(0, 4))
def test_a_number_is_written_with_a_true_minus_or_as_a_dash(value: float | None, digits: int) -> None:
    text = number(value, digits)
    assert "-" not in text
    if value is None or not np.isfinite(value):
        assert text == "–"
    else:
        assert float(text.replace("−", "-")) == pytest.approx(round(value, digits), abs=10.0**-digits)
