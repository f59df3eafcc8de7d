"""Result tables: whole in Markdown, compilable in form in LaTeX, and with what the numbers rest on."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_fakes import table_of, write_run

from unmasked.analysis.reports.run.folder import read_run as read_report_run
from unmasked.analysis.reports.run.page import model_card
from unmasked.datasets.tables import write_frame
from unmasked.evaluation import wording
from unmasked.evaluation.compare import compare, read_run
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.published import load_published, published_table
from unmasked.evaluation.shipped import shipped_names
from unmasked.evaluation.tables import (
    Table,
    as_latex,
    as_markdown,
    compare_tables,
    escape_latex,
    escape_markdown,
    protocol_tables,
    result_tables,
    robustness_table,
)
from unmasked.evaluation.thresholds import Threshold
from unmasked.evaluation.wording import value_text

ROW = {
    "protocol": "cross_dataset",
    "title": "Trained on one dataset, tested on each",
    "detector": "UCF_1",
    "train": "A&B",
    "test": "C 100%",
    "level": "video",
    "auc": 0.8,
    "auc_ci": [0.7, 0.9],
    "gap": 0.1,
    "gap_ci": [0.05, 0.15],
    "gap_is": "AUC there minus AUC here",
    "is_reference": False,
    "real_videos": 10,
    "fake_videos": 20,
    "threshold": None,
    "fpr": float("nan"),
    "fpr_ci": [float("nan")] * 2,
    "tpr": float("nan"),
    "tpr_ci": [float("nan")] * 2,
    "selection_rule": "source validation",
}
DRIFT = {
    "dataset": "A",
    "perturbation": "jpeg",
    "severity": 3,
    "where": "crop",
    "setting": "quality 50",
    "videos": 40,
    **{
        key: value
        for name, value in (("auc", 0.8), ("fpr", 0.2), ("tpr", 0.7))
        for key, value in (
            (name, value),
            (f"{name}_ci", [value - 0.1, value + 0.1]),
            (f"{name}_change", -0.05),
            (f"{name}_change_ci", [-0.1, 0.0]),
        )
    },
}


def simulated(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = np.arange(60) % 2
    rows = pd.DataFrame({"video": [f"v_{n}" for n in range(60)], "label": label})
    rows["score"] = np.clip(0.3 * label + rng.uniform(0, 0.7, 60), 0, 1)
    return pd.concat([rows.assign(dataset=name) for name in ("A_1", "50% & more")], ignore_index=True)


@pytest.fixture(scope="module")
def results():
    point = Threshold(0.5, "fpr:0.05", fitted_on="A_1, val split", fpr=0.05, tpr=0.6)
    rows = [ROW, {**ROW, "detector": "X", "is_reference": True, "selection_rule": "last step"}]
    found = evaluate(simulated(), threshold=point, thresholds={"eer": point}, n_boot=50, source="A_1")
    return {**found, "protocols": rows, "robustness": [DRIFT]}


@pytest.fixture(scope="module")
def every_table(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name in "ab":
        write_frame(simulated(ord(name)), folder / f"{name}_run.csv")
    compared = compare(read_run(folder / "a_run.csv"), read_run(folder / "b_run.csv"), n_boot=50)
    published = [published_table(one) for one in load_published(shipped_names("published"))]
    return [*result_tables(results), *compare_tables(compared), *published]


def check_form(latex: str) -> None:
    """What a compiler would stop at: environments, braces, rows of a tabular, signs that mean something."""
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", latex):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    bare = re.sub(r"(?<!\\)%[^\n]*\n", "", latex).replace(r"\{", "").replace(r"\}", "")
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == bare.count(r"\$") % 2
    assert not re.search(r"(?<!\\)[#_^~]", re.sub(r"\\(label|resizebox)\{[^}]*\}", "", bare).replace("~", ""))
    for columns, body in re.findall(r"\\begin\{tabular\}\{([lr]*)\}(.*?)\\end\{tabular\}", latex, re.S):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert lines
        assert all(len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1 for line in lines)
        assert [line for line in body.splitlines() if re.fullmatch(r"\\\w+rule", line)] == [
            r"\toprule",
            r"\midrule",
            r"\bottomrule",
        ]


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="Debian's texlive-latex-recommended is not installed"
)
def test_latex_makes_a_page_of_every_table(every_table, tmp_path):
    (tmp_path / "metrics.tex").write_text(as_latex(every_table), encoding="utf-8")
    preamble = r"\documentclass{article}\usepackage{booktabs}\usepackage{graphicx}\begin{document}"
    (tmp_path / "paper.tex").write_text(preamble + r"\input{metrics.tex}\end{document}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stdout[-2000:]
    assert "Overfull" not in made.stdout
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


def test_every_table_is_latex_that_compiles_in_form(every_table):
    latex = as_latex(every_table)
    check_form(latex)
    assert latex.count(r"\begin{table}") == len(every_table)
    labels = re.findall(r"\\label\{([^}]*)\}", latex)
    assert len(set(labels)) == len(labels)
    assert all(re.fullmatch(r"tab:[a-z0-9-]+", label) for label in labels)


def test_every_table_is_markdown_with_cells_for_each_head(every_table):
    for table in every_table:
        lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
        assert len(lines) == len(table.rows) + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.head) + 1}
    assert as_markdown(every_table).count("\n## ") == len(every_table) - 1


@given(st.text(max_size=60))
def test_any_text_may_stand_in_a_cell(text):
    latex = Table("Title", ["a", "b"], [[text, "1"], ["x", "2"]], [text]).latex()
    assert re.search(r"(?<!\\)[&%#_]", escape_latex(text)) is None
    lines = latex.split("\n")  # and at no other sign that Python takes for the end of a line
    assert lines.index(r"\bottomrule") - lines.index(r"\midrule") == 3
    assert latex.count("\n") == (15 if escape_latex(text) else 14)  # a note of nothing has no line
    assert r"\caption{Title.}" in latex


def test_special_signs_are_escaped():
    assert escape_latex("50% & a_b #1 {x} $5 ~ ^ \\ → ≤ −") == (
        r"50\% \& a\_b \#1 \{x\} \$5 \textasciitilde{} \textasciicircum{} \textbackslash{} "
        r"$\rightarrow$ $\leq$ $-$"
    )


def test_a_row_that_begins_with_a_bracket_is_no_option_of_the_line_above():
    latex = Table("T", ["a", "b"], [["x", "1"], ["[y]", "2"], ["*z", "3"]]).latex()
    assert "\n{}[y] & 2" in latex
    assert "\n{}*z & 3" in latex


def test_a_bar_in_a_cell_does_not_end_it():
    assert "| a\\|b | 1 |" in Table("T", ["x", "y"], [["a|b", "1"]]).markdown()


def test_the_matrix_says_what_its_numbers_rest_on(results):
    table = result_tables(results)[0]
    assert table.rows[0][:3] == ["A_1", "A_1", "30 + 30"]
    assert table.rows[0][4] == "reference"
    assert "Checkpoint selection: not stated" in table.notes[-1]
    assert "(at most 5 % of reals called fake, on A_1, val split)" in table.notes[-1]
    assert table.notes[1].startswith("A_1: ")


def test_thresholds_stand_with_what_they_promised_and_what_they_do_here(results):
    table = next(table for table in result_tables(results) if table.title == "Thresholds used elsewhere")
    row = dict(zip(table.head, table.rows[-1], strict=True))
    assert (row["applied to"], row["FPR where fitted"], row["TPR where fitted"]) == (
        "50% & more",
        "0.050",
        "0.600",
    )
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, \d\.\d{3}\]", row["FPR here"])


def test_every_protocol_table_names_the_selection_rule(results):
    square, listed = protocol_tables(results["protocols"])
    assert square.head == ["detector", "trained on", "C 100%", "selection"]
    assert square.rows[1] == ["X", "A&B", "0.800 [0.700, 0.900] *", "(2)"]
    assert "(1) source validation; (2) last step" in square.notes[0]
    assert listed.rows[0][-2:] == ["+0.100 [+0.050, +0.150]", "(1)"]
    assert listed.rows[1][-2:] == ["reference", "(2)"]
    (one,) = protocol_tables([ROW])
    assert one.head[-1] == "gap"
    assert "Checkpoint selection: source validation." in one.notes


def test_rates_are_shown_where_a_threshold_is_stored():
    stored = {"value": 0.4, "rule": "eer", "fitted_on": "A, val split"}
    with_one = {**ROW, "threshold": stored, "fpr": 0.1, "fpr_ci": [0, 0.2], "tpr": 0.7, "tpr_ci": [0.6, 0.8]}
    (table,) = protocol_tables([with_one, ROW])
    assert table.rows[0][-2:] == ["0.100 [0.000, 0.200]", "0.700 [0.600, 0.800]"]
    assert table.rows[1][-2:] == ["no threshold", "no threshold"]
    assert "0.400 (errors of both kinds equal, on A, val split)" in table.notes[-1]


def test_the_matrix_is_not_shown_twice(results):
    again = [{**ROW, "test": row["test"]} for row in results["matrix"]]
    titles = [table.title for table in result_tables({**results, "protocols": again})]
    assert titles.count("Trained on one dataset, tested on each") == 1


def test_robustness_shows_changes_with_their_sign():
    table = robustness_table([DRIFT])
    row = dict(zip(table.head, table.rows[0], strict=True))
    assert row["severity"] == "3: quality 50"
    assert row["change of FPR"] == "−0.050 [−0.100, 0.000]"


@pytest.mark.parametrize(
    ("value", "interval", "shown"),
    [
        (0.5, [0.4, 0.6], "0.500 [0.400, 0.600]"),
        (0.5, [None, None], "0.500"),
        (0.5, [float("nan")] * 2, "0.500"),
        (0.5, [], "0.500"),
        (None, [0.4, 0.6], "not enough data"),
        (float("nan"), [0.4, 0.6], "not enough data"),
    ],
)
def test_what_is_undefined_is_not_enough_data_and_never_a_number(value, interval, shown):
    assert value_text(value, interval, places=3) == shown


def test_names_cannot_write_markdown(tmp_path):
    # A dataset called so put a picture of somebody's server and HTML into metrics.md and the model card.
    name = "![x](http://a.b/c) <img src=x> | *d*\n# head"
    table = Table("T " + name, ["data"], [[name]], [name])
    text = table.markdown()
    assert len([line for line in text.splitlines() if line]) == 5  # title, head, rule, row, note
    for line in text.splitlines():
        assert not re.search(r"(?<!\\)(<img|!\[|\*d|\]\()", line)
    assert escape_markdown("0.51 [0.40, 0.62] at fpr:0.10, skin_tone_group") == (
        "0.51 [0.40, 0.62] at fpr:0.10, skin_tone_group"
    )


def test_the_model_card_escapes_every_name(tmp_path):
    hostile = "![x](http://a.b/c)<script>"
    table = table_of().assign(detector=hostile)
    card = model_card(read_report_run(write_run(tmp_path, table, audited=False)))
    assert card.startswith("# \\![x\\](http://a.b/c)\\<script>\n")
    assert "| --- |" in card


def _in_100(text):
    return float(text.replace("−", "-").replace("\N{NO-BREAK SPACE}%", ""))


@given(
    st.floats(0, 1),
    st.floats(2e-4, 1),
    st.floats(2e-4, 1),
    st.sampled_from(["gap", "change", "share", "value"]),
)
def test_no_interval_is_shown_as_one_number_or_without_its_value(value, below, above, kind):
    low, high = max(value - below, 0), min(value + above, 1)
    shown = getattr(wording, f"{kind}_text")(value, [low, high])
    first, second = shown.split(" [")[1].removesuffix("]").split(", ")
    assert first != second
    assert _in_100(first) <= _in_100(shown.split(" [")[0]) <= _in_100(second)
