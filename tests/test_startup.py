"""What each verb imports: a heavy package that no answer needs is time that every user waits."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

HEAVY = {
    "torch",
    "timm",
    "pytorch_lightning",
    "sklearn",
    "fairlearn",
    "scipy.stats",
    "scipy.optimize",
    "matplotlib",
    "cv2",
    "PIL",
    "numpy",
    "pandas",
    "pyarrow",
    "rich",
    "dlib",
    "skops",
}
SCRIPT = """
import sys
from unmasked.app.cli import app
try:
    app(sys.argv[1:], prog_name="unmasked")
except SystemExit as ended:
    print(ended.code, *sys.modules)
"""


def run_and_list_modules(*arguments) -> tuple[str, set[str]]:
    """The exit code of a command, and which of the heavy modules it had imported when it ended."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, *modules = done.stdout.splitlines()[-1].split()
    return code, HEAVY & set(modules)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a table of 200 scores, which `evaluate` and `fairness` have read."""
    folder = tmp_path_factory.mktemp("startup")
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 200)
    table = {
        "dataset": "Celeb-DF-v2",
        "split": np.where(np.arange(200) % 2, "val", "test"),
        "video": [f"clip-{number:c}{number}" for number in range(97, 297)],
        "label": label,
        "score": 1 / (1 + np.exp(-generator.normal(2 * label - 1))),
        "gender": generator.choice(["female", "male"], 200),
    }
    pd.DataFrame(table).to_csv(folder / "scores.csv", index=False)
    return folder


@pytest.mark.parametrize("verb", ["evaluate", "threshold", "fairness"])
def test_a_bad_table_is_refused_before_anything_heavy_is_imported(verb, tmp_path):
    """`evaluate` took 1.6 s of processor time to say that a column is not there; 0.3 s since."""
    (tmp_path / "bad.csv").write_text("video,label\na,1\nb,0\n")
    more = {"fairness": ["by=[gender]"], "threshold": ["max_fpr=0.1"]}.get(verb, [])
    code, heavy = run_and_list_modules(verb, f"predictions={tmp_path / 'bad.csv'}", f"out={tmp_path}", *more)
    assert (code, heavy) == ("2", set())


def test_evaluate_fairness_and_report_import_what_their_numbers_and_figures_need(run):
    """scikit-learn came for two small fits, scipy.stats for a quantile, OpenCV for names of perturbations."""
    numbers = {"numpy", "pandas", "pyarrow", "scipy.optimize"}
    figures = numbers | {"matplotlib", "PIL"}
    for verb, needed, arguments in (
        ("evaluate", numbers, (f"predictions={run / 'scores.csv'}", f"out={run}", "n_boot=100")),
        (
            "fairness",
            figures,
            (f"predictions={run / 'scores.csv'}", f"out={run}", "by=[gender]", "n_boot=100", "n_perm=100"),
        ),
        ("report", figures - {"scipy.optimize"} | {"cv2"}, (f"run={run}",)),
    ):
        code, heavy = run_and_list_modules(verb, *arguments)
        assert code == "0", verb
        assert heavy <= needed, (verb, heavy - needed)
