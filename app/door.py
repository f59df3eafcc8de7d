"""The front door for Python: tables in; records out, which a notebook shows as tables.

`unmasked.read_scores`, `evaluate`, `audit`, `load_detector` and `inspect` are these functions. The audit by
groups is not called `fairness`: that is a layer, `unmasked.fairness`, and takes the name once it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from unmasked.evaluation.records import Results
    from unmasked.fairness.audit import Audit
    from unmasked.inspection.examine import Examiner
    from unmasked.inspection.records import Case


def read_scores(path: str | Path, **how: Any) -> pd.DataFrame:
    """The checked predictions in a ``.parquet`` or ``.csv`` file, a row a score.

    Args:
        path: of the file: at least dataset, video, label (1 = fake) and score = P(fake).
        how: see `unmasked.evaluation.predictions.read_predictions`: ``columns``, ``score_as``, …

    Raises:
        InputError: the file is none, or a column is absent or not what it should be.
    """
    from unmasked.evaluation.predictions import read_predictions

    return read_predictions(path, **how)


@dataclass(frozen=True)
class Evaluation:
    """The numbers of a detector on each dataset.

    Attributes:
        results: what ``metrics.json`` of `unmasked evaluate` holds; NaN where undefined.
    """

    results: Results

    @property
    def table(self) -> pd.DataFrame:
        """The cross-dataset matrix: a row a tested dataset."""
        import pandas as pd

        return pd.DataFrame(self.results["matrix"])

    def _repr_html_(self) -> str:
        from unmasked.analysis.html.page import record_table
        from unmasked.evaluation.tables import matrix_table

        found = matrix_table(self.results)
        rows = [dict(zip(found.head, row, strict=True)) for row in found.rows]
        return str(record_table(rows, caption=found.title))


def evaluate(
    scores: pd.DataFrame, *, source: str | None = None, n_boot: int = 2000, seed: int = 0
) -> Evaluation:
    """Metrics with intervals on every dataset, and the gap to the source.

    Args:
        scores: as of `read_scores`, of one detector.
        source: the dataset that the detector was trained on; its val rows, where it has some of both classes,
            give the thresholds. Without it metrics are at 0.5.
        n_boot: resamples behind each interval; 0 leaves intervals NaN.
        seed: of the resampling.

    Raises:
        InputError: the table is not valid, of several detectors, or of one class.
    """
    from unmasked.evaluation.evaluate import evaluate_fitted
    from unmasked.evaluation.fitted import fit_on_source

    has_val = (
        source is not None
        and "split" in scores
        and bool(((scores["dataset"] == source) & (scores["split"] == "val")).any())
    )
    fitted = fit_on_source(scores, dataset=source) if has_val else None
    return Evaluation(evaluate_fitted(scores, fitted, n_boot=n_boot, seed=seed, source=source))


@dataclass(frozen=True)
class GroupAudit:
    """Error rates by demographic group on each dataset.

    Attributes:
        audits: dataset -> `unmasked.fairness.audit.Audit`.
        skipped: dataset -> why it could not be audited.
    """

    audits: Mapping[str, Audit]
    skipped: Mapping[str, str]

    @property
    def verdicts(self) -> dict[str, list[str]]:
        """Dataset -> sentences: which gaps were shown, which were not."""
        return {name: list(audit.verdicts) for name, audit in self.audits.items()}

    def _repr_html_(self) -> str:
        from unmasked.analysis.html.page import bullets, heading, join_parts, paragraph

        parts = [part for name, said in self.verdicts.items() for part in (heading(3, name), bullets(said))]
        parts += [paragraph(f"{name}: {why}") for name, why in self.skipped.items()]
        return str(join_parts(parts))


def audit(
    scores: pd.DataFrame, by: str | Sequence[str], *, threshold: float = 0.5, **statistics: Any
) -> GroupAudit:
    """Whether error rates differ between demographic groups, on each dataset.

    Args:
        scores: as of `read_scores`, with the group columns.
        by: names of these columns.
        threshold: fake above it.
        statistics: see `unmasked.fairness.audit.audit`: ``n_boot``, ``n_perm``, ``seed``, …

    Raises:
        InputError: a column is absent, or no dataset can be audited.
    """
    from unmasked.fairness.run import audit_datasets

    audits, skipped = audit_datasets(
        scores, [by] if isinstance(by, str) else list(by), thresholds=threshold, **statistics
    )
    return GroupAudit(audits, skipped)


def load_detector(
    checkpoint: str | Path, *, performance: str | Path | None = None, detector: str = ""
) -> Examiner:
    """A detector with the threshold, band and measured errors that its verdicts rest on.

    Args:
        checkpoint: what `unmasked train` wrote: the folder, or the file of weights with its card beside it.
        performance: folder that `unmasked evaluate` wrote for these weights.
        detector: the user's own module or file, where the checkpoint is of one.

    Raises:
        InputError: the checkpoint cannot be used, or no threshold is stored.
    """
    from unmasked.app.examiner import load_examiner

    given = Path(performance) if performance is not None else None
    return load_examiner(Path(checkpoint), detector, given)


@dataclass(frozen=True)
class Examined:
    """A file's case.

    Attributes:
        case: its record: finding, people, scores over time.
        folder: where ``case.json``, ``case.html``, time line and crops lie.
    """

    case: Case
    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        """A row a scored crop: person, frame, time_s, score, …"""
        import pandas as pd

        return pd.DataFrame([look.model_dump() for look in self.case.looks])

    def __repr__(self) -> str:
        finding = self.case.finding
        return f"Examined({self.case.source.name}: {finding.verdict}; {self.folder})"

    def _repr_html_(self) -> str:
        from unmasked.inspection.page import finding_part

        return str(finding_part(self.case))


def inspect(
    file: str | Path, detector: Examiner | str | Path, *, out: str | Path, frames: int = 32, workers: int = 1
) -> Examined:
    """The finding about one video or picture, its case written into a folder.

    Faces are looked for in a process of their own, so that a script that calls this needs
    ``if __name__ == "__main__":``.

    Args:
        file: the video or picture.
        detector: of `load_detector`, or its checkpoint.
        out: folder of the case; it must hold none.
        frames: looked at, spread evenly over a video.
        workers: processes that decode.

    Raises:
        InputError: there is no such file, ``out`` holds a case, or as of `load_detector`.
    """
    from unmasked.inspection.examine import CLOSER, GAP_S, examine
    from unmasked.inspection.records import CASE
    from unmasked.preprocessing.config import config_like

    file, out = Path(file), Path(out)
    if not file.is_file():
        raise InputError(f"file {file} does not exist; give a video or picture")
    if (out / CASE).exists():
        raise InputError(f"{out} holds a case already; give another out=")
    examiner = load_detector(detector) if isinstance(detector, (str, Path)) else detector
    learned = examiner.card.get("crops") or {}
    config = config_like(learned, faces="all", frames_per_video=frames, workers=workers, gap_s=GAP_S)
    (case,) = examine({file: out}, examiner, config, closer=CLOSER)
    return Examined(case, out)
