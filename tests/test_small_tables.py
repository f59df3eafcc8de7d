"""No big word comes from few videos: what every command prints and writes about tables too small for it."""

import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from unmasked.app.cli import app

# Real and fake scores of tables in which everything, or nothing, looks certain.
TABLES = {
    "perfect": ([0.1, 0.2, 0.15, 0.12], [0.9, 0.8, 0.85, 0.7]),
    "turned": ([0.8, 0.9, 0.95], [0.1, 0.2, 0.3]),
    "alike": ([0.3, 0.3, 0.3], [0.3, 0.3, 0.3]),
    "single": ([0.2], [0.8]),
    "no fakes": ([0.1, 0.2, 0.15], []),
}
# Words that state something for certain. In pages, also as part of a longer sentence.
VERDICTS = re.compile(
    r"\b(?:reversed detector|(?<!of )100 of 100|(?<![\d.])0 of 100|[ab] is (?:better|higher)|perfect ranking"
    r"|proves?|(?<!no )significant(?:ly)?|best of|(?:worse|better) than chance: )\b"
)
# 95 % intervals of no width, such as [0.93, 0.93].
NO_WIDTH = re.compile(r"\[\s*([−+-]?\d[\d.,]*)\s*,\s*\1\s*\]")


def table(real, fake):
    rows = pd.DataFrame({"label": [0] * len(real) + [1] * len(fake), "score": [*real, *fake]})
    rows.insert(0, "video", [f"clip_{number}" for number in range(len(rows))])
    return rows.assign(gender=np.resize(["female", "male"], len(rows)), identity=rows["video"])


def words(html):
    """The text of a page, without its figures' data and styles."""
    html = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """(table, command) -> what was printed, and the text of every page and Markdown file."""
    folder = tmp_path_factory.mktemp("small")
    found = {}
    for name, (real, fake) in TABLES.items():
        path = folder / f"{name.replace(' ', '_')}.csv"
        table(real, fake).to_csv(path, index=False)
        other = path.with_suffix(".other.csv")
        table([1 - score for score in real], [1 - score for score in fake]).assign(dataset=path.name).to_csv(
            other, index=False
        )
        out = folder / path.stem
        commands = {
            "evaluate": [f"predictions={path}", "n_boot=200", "score_of=fake", f"out={out / 'e'}"],
            "report": [f"predictions={path}", "score_of=fake", f"out={out / 'r'}"],
            "threshold": [f"predictions={path}", "max_fpr=0.1", "score_of=fake", f"out={out / 't'}"],
            "fairness": [
                *(f"predictions={path}", "by=[gender]", "n_boot=200", "n_perm=200", "min_clusters=1"),
                *("min_samples=1", "score_of=fake", f"out={out / 'f'}"),
            ],
            "compare": [f"a={path}", f"b={other}", "score_of=fake", "n_boot=200", f"out={out / 'c'}"],
        }
        for command, arguments in commands.items():
            done = CliRunner().invoke(app, [command, *arguments])
            assert done.exit_code in (0, 2), (name, command, done.output, done.exception)
            text = done.output
            target = out / command[0]
            for page in sorted([*target.rglob("*.html"), *target.rglob("*.md")]) if target.exists() else []:
                text += f"\n{page.name}: {words(page.read_text())}"
            found[name, command] = text
    return found


def around(text, pattern):
    return [text[max(0, hit.start() - 60) : hit.end() + 60] for hit in pattern.finditer(text)]


def test_no_verdict_is_spoken_of_a_handful_of_videos(said):
    spoken = {key: hits for key, text in said.items() if (hits := around(text, VERDICTS))}
    assert not spoken


def test_no_interval_of_a_handful_of_videos_has_no_width(said):
    narrow = {key: hits for key, text in said.items() if (hits := around(text, NO_WIDTH))}
    assert not narrow


def test_every_command_says_something_of_each_table(said):
    assert all(len(text) > 40 for text in said.values())
    assert "chance is not ruled out" in said["perfect", "evaluate"]
    assert "chance is not ruled out" in said["turned", "evaluate"]
