"""What a command costs before and beside its work: CPU seconds of whole commands on small tables.

    python benchmarks/startup.py [--times 5]

Prints the median of so many runs of each, after one that writes Python's bytecode, beside a bare Python and
`import pandas`, without which no table is read.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

VIDEOS = 1000


def main() -> None:
    """Measures every command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scores, bad = tables(folder)
        python, unmasked = [sys.executable], [sys.executable, "-m", "unmasked.app.cli"]
        out = f"out={folder}"
        commands: dict[str, tuple[list[str], float]] = {  # what is run, and what is asked for
            "python -c pass": ([*python, "-c", "pass"], 0),
            "python -c 'import pandas'": ([*python, "-c", "import pandas"], 0),
            "unmasked --help": ([*unmasked, "--help"], 1),
            "evaluate, a table without scores": ([*unmasked, "evaluate", f"predictions={bad}", out], 0.5),
            "evaluate, 1,000 videos": ([*unmasked, "evaluate", f"predictions={scores}", out], 1),
            "fairness, the same": (
                [*unmasked, "fairness", f"predictions={scores}", "by=[gender]", out],
                2,
            ),
            "report, of both": ([*unmasked, "report", f"run={folder}"], 3),
        }
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        print("| command | CPU s, median | asked for |\n|---|---|---|")
        for title, (command, most_s) in commands.items():
            spent_s = [cpu_s(command, environment) for _ in range(times + 1)][1:]
            print(f"| {title} | {median(spent_s):.2f} | {most_s or ''} |", flush=True)


def tables(folder: Path) -> tuple[Path, Path]:
    """A table of scores with a group column, and one without scores."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, VIDEOS)
    scores = {
        "dataset": "Celeb-DF-v2",
        "split": np.where(np.arange(VIDEOS) % 2, "val", "test"),
        "video": [f"clip-{number}" for number in range(VIDEOS)],
        "label": label,
        "score": 1 / (1 + np.exp(-rng.normal(2 * label - 1))),
        "gender": rng.choice(["female", "male"], VIDEOS),
    }
    pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)
    (folder / "bad.csv").write_text("video,label\na,1\nb,0\n")
    return folder / "scores.csv", folder / "bad.csv"


def cpu_s(command: list[str], environment: dict[str, str]) -> float:
    """CPU seconds of a command, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, env=environment, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
