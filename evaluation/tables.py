"""Results as tables in Markdown and LaTeX.

The matrix, thresholds, robustness and protocols.
A `Table` holds finished text; it is written as Markdown to be read and as LaTeX (booktabs) to be printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from unmasked.datasets.errors import printable
from unmasked.evaluation.attrition import REASONS, read_attrition
from unmasked.evaluation.metrics import METRICS
from unmasked.evaluation.records import ProtocolRow, Results, Robustness, Sizes
from unmasked.evaluation.wording import (
    brackets_note,
    metric_text,
    rule_name,
    share_text,
    threshold_text,
    value_text,
)

LATEX_HEAD = "% \\input this file; the preamble needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n"
LATEX_SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\N{NO-BREAK SPACE}": "~",
    "\n": " ",
    "\r": " ",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "−": "$-$",
    "…": r"\dots{}",
    "“": "``",
    "”": "''",
    "’": "'",
    "–": "--",
}

# Brackets of an interval and underscores inside a word are text as they are.
_MARKDOWN = re.compile(r"[\\`*<|$~]|\](?=[(\[:])|!(?=\[)|(?<![^\W_])_|_(?![^\W_])|^[#>]")

# Tables to compute with have a digit more than pages.
_cell = partial(value_text, places=3)
_metric = partial(metric_text, places=3)


@dataclass(frozen=True)
class Table:
    """Cells as text; every row is as long as the head."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=list)  # sentences below the table
    label: str = ""  # what LaTeX refers to; the title if not given

    def markdown(self) -> str:
        """A heading, the table and its notes."""
        return f"## {escape_markdown(self.title)}\n\n{self.body()}"

    def body(self) -> str:
        """The table in Markdown and its notes, without a heading."""
        lines = [_pipes(self.head), "|" + " --- |" * len(self.head)]
        lines += [_pipes(row) for row in self.rows]
        for note in self.notes:
            lines += ["", escape_markdown(note)]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """A booktabs table environment, no wider than the line; notes stand below it."""
        caption, notes = escape_latex(f"{self.title.rstrip('.')}."), " ".join(map(escape_latex, self.notes))
        label = re.sub(r"[^a-z0-9]+", "-", (self.label or self.title).lower()).strip("-")
        align = "l" * _words(self) + "r" * (len(self.head) - _words(self))
        body = [_ampersands(row) for row in self.rows]
        lines = [r"\begin{table}[htbp]", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}"]
        lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
        lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule", _ampersands(self.head), r"\midrule", *body]
        lines += [r"\bottomrule", r"\end{tabular}}"]
        if notes:
            lines += [rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize {notes}\end{{minipage}}"]
        lines += [r"\end{table}"]
        return "\n".join(lines) + "\n"


def as_markdown(tables: Iterable[Table]) -> str:
    """Tables below each other."""
    return "\n".join(table.markdown() for table in tables)


def as_latex(tables: Iterable[Table]) -> str:
    """Tables below each other, after a line that says which packages they need."""
    return LATEX_HEAD + "\n" + "\n".join(table.latex() for table in tables)


def escape_latex(text: str) -> str:
    r"""Text in which LaTeX sees no commands.

    >>> escape_latex("FPR at 5 % of a_b & c")
    'FPR at 5 \\% of a\\_b \\& c'
    """
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in printable(" ".join(text.split())))


def escape_markdown(text: str) -> str:
    r"""Text in one line in which Markdown sees no link, picture, HTML, table or emphasis.

    >>> escape_markdown("a_b [0.1, 0.2] | ![x](y) <b> *c*")
    'a_b [0.1, 0.2] \\| \\![x\\](y) \\<b> \\*c\\*'
    """
    return _MARKDOWN.sub(r"\\\g<0>", printable(" ".join(text.split())))


def gap_or_reference(row: ProtocolRow) -> str:
    """A protocol's gap with its interval; a word on the row that it is measured from."""
    return "reference" if row["is_reference"] else _metric(row, "gap", plus=True)


def result_tables(results: Results) -> list[Table]:
    """Every table that the results of an evaluation allow, the matrix first."""
    tables = [matrix_table(results), threshold_table(results)]
    rows = results.get("protocols", [])
    tested = [row["test"] for row in rows if row["protocol"] == "cross_dataset"]
    if sorted(tested) == sorted(row["test"] for row in results["matrix"]):
        rows = [row for row in rows if row["protocol"] != "cross_dataset"]  # it is the matrix
    tables += protocol_tables(rows)
    if results.get("robustness"):
        tables.append(robustness_table(results["robustness"]))
    tables += [metrics_table(results), attrition_table(results)]
    return [table for table in tables if table.rows]


def attrition_table(results: Results) -> Table:
    """The videos without a score, a row a dataset and class.

    No rows where all have one.
    """
    found = read_attrition(results)
    lost = {name: one for name, one in found.items() if one.given > one.scored}
    rows = [
        [
            name,
            word,
            str(part.given),
            str(part.scored),
            share_text(part.share, part.share_ci),
            ", ".join(f"{count} {REASONS.get(status, status)}" for status, count in part.reasons.items())
            or "–",
        ]
        for name, one in lost.items()
        for word, part in one.classes.items()
    ]
    head = ["dataset", "class", "videos given", "scored", "share without a score [95 %]", "why"]
    notes = [f"{name}: {one.sentence()}." for name, one in lost.items()]
    return Table("Videos without a score", head, rows, notes)


def metrics_table(results: Results) -> Table:
    """Every metric of every dataset's videos, a row a metric of `METRICS`."""
    blocks = {row["test"]: results["datasets"][row["test"]]["video"] for row in results["matrix"]}
    rows = [
        [one.title, *(_metric(video, name) for video in blocks.values())]
        for name, one in METRICS.items()
        if all(name in video for video in blocks.values())
    ]
    note = "Of videos; those that need a threshold at the one of the first table."
    return Table("Every metric", ["metric", *blocks], rows, [note], label="metrics")


def has_frames(results: Results) -> bool:
    """True if some video has several scores, those of its frames."""
    return any(block["n"]["frames"] > block["n"]["videos"] for block in results["datasets"].values())


def matrix_table(results: Results) -> Table:
    """The cross-dataset matrix of `evaluate`, with what its numbers rest on below it."""
    settings = results["settings"]
    head = ["trained on", "tested on", "real + fake videos", "video AUC", "gap to source"]
    is_of_frames = has_frames(results)
    head += ["frame AUC"] if is_of_frames else []
    head += ["video AP", "video EER", "accuracy", "FPR", "TPR"]
    rows = []
    for row in results["matrix"]:
        block = results["datasets"][row["test"]]
        video = block["video"]
        cells = [row["train"], row["test"], _videos(block["n"]), _cell(row["auc"], row["ci"])]
        is_source = row["test"] == row["train"]
        cells += ["reference" if is_source else _cell(row["gap_to_source"], row["gap_ci"], plus=True)]
        cells += [_metric(block["frame"], "auc")] if is_of_frames else []
        rows.append([*cells, *(_metric(video, key) for key in ("ap", "eer", "accuracy", "fpr", "tpr"))])
    threshold = settings["threshold"]
    pooled = f"Video score: {settings['aggregation']} of its frames. " if is_of_frames else ""
    note = (
        f"{brackets_note(settings['n_boot'], settings['unit'])}. "
        f"Accuracy, FPR and TPR at score > {threshold_text(threshold)}. "
        f"Checkpoint selection: {settings['selection_rule']}. "
        f"{pooled}Gap: {settings['gap']}."
    )
    said = [
        f"{name}: {block['reading']}." for name, block in results["datasets"].items() if block.get("reading")
    ]
    which = [f"Rows: {words}." for words in settings["rows"]]
    return Table("Trained on one dataset, tested on each", head, rows, [*said, *which, note], label="matrix")


def threshold_table(results: Results) -> Table:
    """What each stored threshold does on each dataset: promised and realised rates."""
    rows = []
    for name in (row["test"] for row in results["matrix"]):
        video = results["datasets"][name]["video"]
        points = {"": video.get("at_threshold"), **video.get("at_thresholds", {})}
        for point in filter(None, points.values()):
            cells = [
                rule_name(point["rule"]),
                point["fitted_on"] or "not stated",
                name,
                f"{point['value']:.4g}",
            ]
            shown = ("fitted_fpr", "fitted_tpr", "fpr", "tpr", "balanced_accuracy")
            rows.append([*cells, *(_metric(point, key) for key in shown)])
    head = ["rule", "fitted on", "applied to", "threshold", "FPR where fitted", "TPR where fitted"]
    head += ["FPR here", "TPR here", "balanced accuracy here"]
    note = (
        "A video is called fake when its score exceeds the threshold, which is applied as it was fitted. "
        f"Checkpoint selection: {results['settings']['selection_rule']}."
    )
    return Table("Thresholds used elsewhere", head, rows, [note], label="thresholds")


def robustness_table(rows: Sequence[Robustness]) -> Table:
    """AUC and the rates at the stored threshold for each perturbation, as paired changes."""
    head = ["dataset", "perturbation", "severity", "applied to", "videos", "AUC", "change of AUC"]
    head += ["FPR", "change of FPR", "TPR", "change of TPR"]
    cells = []
    for row in rows:
        named = [row["dataset"], row["perturbation"], f"{row['severity']}: {row['setting']}"]
        named += [row["where"], str(row["videos"])]
        for key in ("auc", "fpr", "tpr"):
            named += [_metric(row, key), _metric(row, f"{key}_change", plus=True)]
        cells.append(named)
    note = "Changes are paired: perturbed minus untouched, on the same videos, at the same threshold."
    return Table("Robustness", head, cells, [note], label="robustness")


def protocol_tables(rows: Sequence[ProtocolRow]) -> list[Table]:
    """A table for each protocol, with the selection rule of every detector in it.

    The cross-dataset one stands twice where there are several detectors: as a matrix, and row by row.
    """
    tables = []
    for name in dict.fromkeys(row["protocol"] for row in rows):
        asked = [row for row in rows if row["protocol"] == name]
        if name == "cross_dataset" and len({row["detector"] for row in asked}) > 1:
            tables.append(_square_table(asked))
        tables.append(_protocol_table(asked))
    return tables


def _square_table(rows: Sequence[ProtocolRow]) -> Table:
    """AUC with a row a detector and a column a tested dataset."""
    tested = list(dict.fromkeys(row["test"] for row in rows))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        own = " *" if row["is_reference"] else ""
        found = cells.setdefault((row["detector"], row["train"]), {})
        found[row["test"]] = _metric(row, "auc") + own
    level = rows[0]["level"]
    rules, marks = _selection(rows)
    marked = {row["detector"]: mark for row, mark in zip(rows, marks, strict=True)}
    return Table(
        f"{level.capitalize()} AUC, a row a detector and a column a tested dataset",
        ["detector", "trained on", *tested, *(["selection"] if len(rules) > 1 else [])],
        [
            [
                *names,
                *(by_test.get(test, "") for test in tested),
                *([marked[names[0]]] if len(rules) > 1 else []),
            ]
            for names, by_test in cells.items()
        ],
        [f"* tested on the dataset trained on. Checkpoint selection: {'; '.join(rules)}."],
        label="all-pairs",
    )


def _selection(rows: Sequence[ProtocolRow]) -> tuple[list[str], list[str]]:
    """The selection rules, numbered where there are several, and for each row the number of its own."""
    rules = list(dict.fromkeys(row["selection_rule"] for row in rows))
    marks = [f"({rules.index(row['selection_rule']) + 1})" for row in rows]
    return [f"({number}) {rule}" for number, rule in enumerate(rules, 1)] if len(rules) > 1 else rules, marks


def _protocol_table(rows: Sequence[ProtocolRow]) -> Table:
    head = ["detector", "trained on", "tested on", "real + fake videos", f"{rows[0]['level']} AUC", "gap"]
    with_rates = any(row.get("threshold") is not None for row in rows)
    head += ["FPR", "TPR"] if with_rates else []
    # One selection rule is said once, below; several are numbered, and the rows have their numbers.
    rules, marks = _selection(rows)
    head += ["selection"] if len(rules) > 1 else []
    cells = []
    for row, mark in zip(rows, marks, strict=True):
        line = [row["detector"], row["train"], row["test"], _videos(row)]
        line += [_metric(row, "auc"), gap_or_reference(row)]
        if with_rates:
            rates = [_metric(row, key) for key in ("fpr", "tpr")]
            line += rates if row["threshold"] else ["no threshold"] * 2
        cells.append(line + ([mark] if len(rules) > 1 else []))
    notes = [f"Gap: {rows[0]['gap_is']}.", f"Checkpoint selection: {'; '.join(rules)}."]
    if with_rates:
        used = dict.fromkeys(threshold_text(row["threshold"]) for row in rows if row["threshold"])
        notes.append(f"FPR and TPR at each detector's stored threshold: {'; '.join(used)}.")
    return Table(rows[0]["title"], head, cells, notes, label=rows[0]["protocol"])


def compare_tables(results: Mapping[str, Any]) -> list[Table]:
    """The differences of two runs, the videos of one run only, and other differences."""
    settings, names = results["settings"], {side: results[side]["name"] for side in "ab"}
    rows = [
        [name, str(block["n"]["shared_videos"]), METRICS[key].title]
        + [_cell(found[side], found[f"{side}_ci"]) for side in "ab"]
        + [_cell(found["difference"], found["difference_ci"], plus=True), block["readings"][key]]
        for name, block in results["datasets"].items()
        for key, found in block["metrics"].items()
    ]
    notes = [f"{side}: {results[side]['name']}, {_describe_side(results[side])}." for side in "ab"]
    notes.append(
        f"Difference: {settings['difference']}. {brackets_note(settings['n_boot'], settings['unit'])}; "
        f"level: {settings['level']}."
    )
    head = ["dataset", "videos in both", "metric", "a", "b", "a − b", "reading"]
    title = f"{names['a']} and {names['b']} on the same videos"
    data = [
        [name, *(str(found[key]) for key in ("shared", "only_a", "only_b", "other_number_of_crops"))]
        for name, found in results["data"].items()
    ]
    unlike = [[row["section"], row["key"], row["a"], row["b"]] for row in results["differences"]]
    said = [
        f"{results['equal']} further settings are equal.",
        *(f"Unknown: {words}." for words in results["unknown"]),
    ]
    return [
        Table(title, head, rows, notes, label="compare"),
        Table(
            "Videos", ["dataset", "in both", "only in a", "only in b", "in both, other number of crops"], data
        ),
        Table("What else is unlike", ["part", "key", "a", "b"], unlike, said),
    ]


def _describe_side(side: Mapping[str, Any]) -> str:
    threshold = side["threshold"]
    return (
        f"{side['detector']}, trained on {' + '.join(side['trained_on']) or 'not stated'}, selection: "
        f"{side['selection_rule']}, FPR and TPR at score > {threshold_text(threshold)}, "
        f"rows: {'; '.join(side['rows'])}"
    )


def _videos(n: Sizes | ProtocolRow) -> str:
    return f"{n['real_videos']} + {n['fake_videos']}"


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(escape_markdown, cells)) + " |"


def _ampersands(cells: Sequence[str]) -> str:
    line = " & ".join(escape_latex(cell) for cell in cells) + r" \\"
    # After the backslashes that end the line above, a bracket would be a length and a star an option.
    return f"{{}}{line}" if line.startswith(("[", "*")) else line


def _words(table: Table) -> int:
    """How many columns, from the left, hold words and not numbers."""
    for column in range(len(table.head)):
        cells = [row[column] for row in table.rows]
        if cells and all(re.match(r"[-+−]?\d|$|not enough|reference$|no threshold$", cell) for cell in cells):
            return column
    return len(table.head)
