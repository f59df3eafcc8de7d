"""The table of licences against what the product can touch."""

import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.app.verbs.licences import licences
from unmasked.datasets.scan import sources

ROOT = Path(__file__).parents[1]


def test_every_dataset_that_can_be_requested_is_listed():
    wanted = {module.NAME for module in sources().values() if module.REQUEST}
    assert {row.name for row in licences() if row.kind == "dataset"} == wanted


def test_every_face_detector_that_preprocess_offers_is_listed():
    from unmasked.preprocessing.config import PreprocessConfig

    offered = PreprocessConfig.model_fields["detector"].annotation.__args__
    used = " ".join(row.used_by for row in licences())
    assert set(re.findall(r"detector=(\w+)", used)) >= set(offered)


def test_what_excludes_commercial_use_comes_first_and_the_default_landmarks_are_among_it():
    rows = licences()
    refused = [row.name for row in rows if row.commercial == "no"]
    assert [row.name for row in rows][: len(refused)] == refused
    assert any("68 landmarks" in name for name in refused)
    assert {row.commercial for row in rows if "research" in row.licence and row.kind == "dataset"} == {"no"}


def test_command_prints_and_writes_the_table(tmp_path):
    done = CliRunner().invoke(app, ["licences", "kind=weights", f"out={tmp_path / 'l.csv'}"])
    assert done.exit_code == 0
    assert "iBUG 300-W" in done.stdout
    assert "FaceForensics" not in done.stdout
    table = pd.read_csv(tmp_path / "l.csv")
    assert set(table["kind"]) == {"weights"}
    assert list(table) == ["name", "kind", "used_by", "licence", "commercial", "where"]


def test_other_suffix_is_refused(tmp_path):
    done = CliRunner().invoke(app, ["licences", f"out={tmp_path / 'l.xlsx'}"])
    assert done.exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("phrase", ["iBUG 300-W", "unmasked licences"])
def test_readme_says_so(phrase):
    assert phrase in (ROOT / "README.md").read_text(encoding="utf-8")
