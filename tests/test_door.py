"""The front door for Python: what it gives is what the commands give, and it imports nothing heavy."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import unmasked
from unmasked.app.door import Evaluation, Examined
from unmasked.datasets.errors import InputError
from unmasked.inspection.examiner import Examiner

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    rng = np.random.default_rng(0)
    count = 120
    label = np.arange(count) % 2
    table = pd.DataFrame(
        {
            "dataset": "A",
            "video": [f"v{number}" for number in range(count)],
            "label": label,
            "score": (0.25 + 0.4 * label + rng.uniform(-0.25, 0.25, count)).round(3),
            "split": np.where(np.arange(count) % 3, "test", "val"),
            "gender": np.where(np.arange(count) % 4 < 2, "female", "male"),
        }
    )
    path = tmp_path_factory.mktemp("door") / "scores.csv"
    table.to_csv(path, index=False)
    return unmasked.read_scores(path)


def test_the_door_imports_nothing_heavy_and_says_its_version():
    code = (
        "import sys, unmasked; assert unmasked.__version__; assert 'evaluate' in dir(unmasked); "
        "assert not {'torch', 'pandas', 'numpy', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_is_the_module_and_says_its_version():
    for option in (["--version"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "unmasked", *option], capture_output=True, text=True, check=True
        )
        assert (unmasked.__version__ if option == ["--version"] else "inspect") in done.stdout


def test_layers_are_there_beside_the_door_and_no_name_hides_one():
    from unmasked.fairness import audit as module

    assert module.audit is not unmasked.audit
    with pytest.raises(AttributeError, match="it has audit, evaluate"):
        _ = unmasked.inspection_of_everything


def test_an_evaluation_is_that_of_the_command_and_shows_itself_as_a_table(scores):
    found = unmasked.evaluate(scores, source="A", n_boot=50)
    assert isinstance(found, Evaluation)
    video = found.results["datasets"]["A"]["video"]
    fake, real = (scores.loc[(scores.label == one) & (scores.split == "test"), "score"] for one in (1, 0))
    by_hand = np.mean(fake.to_numpy()[:, None] > real.to_numpy()[None]) + 0.5 * np.mean(
        fake.to_numpy()[:, None] == real.to_numpy()[None]
    )
    assert video["auc"] == pytest.approx(by_hand)
    assert found.results["settings"]["threshold"]["rule"] == "eer"  # fitted on the val rows
    assert found.table["auc"].tolist() == [video["auc"]]
    assert "<table" in found._repr_html_()
    assert f"{video['auc']:.3f}" in found._repr_html_()


def test_an_audit_gives_sentences_and_shows_them(scores):
    found = unmasked.audit(scores, by="gender", threshold=0.45, n_boot=100, n_perm=100)
    assert list(found.audits) == ["A"]
    assert found.verdicts["A"]
    assert "gender" in found._repr_html_()


def test_a_detector_and_a_case_are_one_line_in_a_script():
    # Finding B17: print() of either was the whole network or a line of ten kilobytes.
    case = SimpleNamespace(
        source=SimpleNamespace(name="a.mp4"), finding=SimpleNamespace(verdict="likely fake")
    )
    assert repr(Examined(case, Path("case"))) == "Examined(a.mp4: likely fake; case)"
    fitted = SimpleNamespace(threshold=SimpleNamespace(value=0.4683))
    card = {"architecture": "UCF", "sha256": "0" * 64}
    made = Examiner(None, card, Path("runs/ucf"), "", Path("runs"), fitted, [], None, {})
    assert repr(made) == "Examiner(UCF, runs/ucf, threshold 0.468, errors measured in runs)"


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        unmasked.inspect(tmp_path / "absent.mp4", tmp_path, out=tmp_path / "case")


def test_the_notebook_of_the_first_steps_runs_and_shows_tables(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="the notebook needs nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="the notebook needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="the notebook needs nbclient and ipykernel")
    book = nbformat.read(ROOT / "docs" / "first_steps.ipynb", as_version=4)
    nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    shown = [output.data for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("elsewhere" in one.get("text/html", "") for one in shown)
    assert any("gender" in one.get("text/html", "") for one in shown)
