"""``unmasked threshold``: scores -> a threshold that keeps false alarms within a limit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.reading import OneScore, ReadAs, Replaces, check_nothing_lost, print_rows, read_scores
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from unmasked.evaluation.row_counts import RowCount


class Config(OneScore, ReadAs, Replaces):
    """How many real videos may be called fake, and on whose scores that is settled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions: Path = Field(description="a .parquet or .csv with video, label (1 = fake) and score")
    max_fpr: float = Field(0.01, gt=0, lt=1, description="share of real videos that may be called fake")
    guaranteed: bool = Field(
        False,
        description="keep the limit with 95 % confidence, not only in the estimate: of people, where all are "
        "known, the share with any real video called fake, which is never less; needs more reals",
    )
    dataset: str = Field("", description="which one, where the table holds several")
    split: str = Field("", description="whose rows; val where there are any, else what `evaluate` would use")
    out: Path = Field(Path("runs/threshold"), description="folder for thresholds.json")
    seed: int = Field(0, ge=0, description="seed of the folds that check the threshold")


def run(config: Config) -> None:
    """Fits the threshold, stores it and prints one sentence for who decides."""
    from unmasked.datasets.documents import write_json
    from unmasked.evaluation.direction import reversals
    from unmasked.evaluation.doubts import doubts
    from unmasked.evaluation.false_alarms import limit_false_alarms, sentence
    from unmasked.evaluation.fitted import Fitted
    from unmasked.evaluation.metrics import video_scores
    from unmasked.evaluation.origin import Origin
    from unmasked.evaluation.predictions import noun_of
    from unmasked.evaluation.row_counts import RowCount
    from unmasked.evaluation.wording import name_files

    count = RowCount()
    rows, words = _rows(read_scores(config, config.predictions, count=count), config, count)
    videos = video_scores(rows, config.aggregation)
    found = limit_false_alarms(
        videos,
        config.max_fpr,
        guaranteed=config.guaranteed,
        fitted_on=words,
        seed=config.seed,
    )
    noun = noun_of(rows)
    said = name_files(sentence(found), noun, rows["dataset"].unique())
    stored = Fitted(found.threshold, {found.threshold.rule: found.threshold}).to_dict()
    origin = Origin.of_rows(rows)
    stored["made_from"] = origin.to_dict()
    path = config.out / "thresholds.json"
    check_nothing_lost(config, path, lambda: origin, lambda there: Origin.from_dict(there.get("made_from")))
    write_json(path, stored | {"limit": found.to_dict() | {"sentence": said}})
    print_rows(count, doubts(rows), noun)
    print_result(said)
    for doubt in reversals(rows, config.aggregation):
        print_result(name_files(f"NOTE: {doubt}", noun))
    print_result(
        f"threshold: {path}; give it to `unmasked evaluate` and `unmasked fairness` as thresholds={path}"
    )


def _rows(predictions: pd.DataFrame, config: Config, count: RowCount) -> tuple[pd.DataFrame, str]:
    """The rows that the threshold is fitted on, and which they are in words.

    Raises:
        InputError: several datasets and none chosen, or no row of the dataset or split.
    """
    from unmasked.datasets.vocabulary import canonical_dataset
    from unmasked.evaluation.levels import check_one_detector
    from unmasked.evaluation.predictions import evaluated_rows, is_perturbed
    from unmasked.evaluation.row_counts import left_out_rows

    clean = predictions[~is_perturbed(predictions)]
    names = sorted(clean["dataset"].unique())
    known = {canonical_dataset(str(name)): name for name in names}
    dataset = config.dataset if config.dataset in names else known.get(canonical_dataset(config.dataset), "")
    if config.dataset and not dataset:
        raise InputError(
            f"dataset {config.dataset!r} is not in the predictions; they have {', '.join(names)}"
        )
    if not dataset and len(names) > 1:
        raise InputError(
            f"the predictions hold several datasets ({', '.join(names)}); choose whose real videos the "
            f"limit is for: dataset={names[0]!r}"
        )
    dataset = dataset or names[0]
    count.leave_out({"of perturbed crops": len(predictions) - len(clean)})
    count.leave_out({"of other datasets": int((clean["dataset"] != dataset).sum())})
    clean = clean[clean["dataset"] == dataset]
    splits = set(clean["split"].dropna()) if "split" in clean else set()
    split = config.split or ("val" if "val" in splits else "")
    if split and split not in splits:
        raise InputError(
            f"no row of {dataset} belongs to the split {split!r}; it has "
            f"{', '.join(sorted(splits)) or 'no splits: leave split out'}"
        )
    if split:
        rows = clean[clean["split"] == split]
        count.leave_out({"of other splits": len(clean) - len(rows)})
    else:
        rows = evaluated_rows(clean)
        count.leave_out(left_out_rows(clean))
    check_one_detector(rows)
    which = split or ("test" if "test" in splits else "all")
    worst = ", by the worst face" if config.aggregation == "worst_face" else ""
    return rows, f"{dataset}, {which} videos, cross-fitted{worst}"
