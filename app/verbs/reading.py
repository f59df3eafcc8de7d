"""What verbs that take scores made elsewhere share: keys that say how the file is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from unmasked.app.progress import print_result
from unmasked.app.verbs.scan import AgeGroups, print_readings
from unmasked.datasets.table_header import check_header

if TYPE_CHECKING:
    import pandas as pd

    from unmasked.datasets.vocabulary import Reading
    from unmasked.evaluation.origin import Origin
    from unmasked.evaluation.row_counts import RowCount


def _columns_without_spaces(value: Any) -> Any:
    """``{video:file}``, which is a name alone in YAML, as ``{video: file}``."""
    if not isinstance(value, dict):
        return value
    pairs = [(*str(key).split(":", 1),) if name is None else (key, name) for key, name in value.items()]
    return {pair[0]: pair[1] for pair in pairs} if all(len(pair) == 2 for pair in pairs) else value


Columns = Annotated[
    dict[str, str] | None,
    BeforeValidator(_columns_without_spaces),
    Field(description="the file's own names of columns, as columns={video: file, score: p}"),
]


class ReadAs(BaseModel):
    """How a table of scores is read where its own words do not say it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: Columns = None
    one_means: Literal["fake", "real"] | None = Field(
        None, description="what the label 1 means, where paths or words contradict it"
    )
    score_as: Literal["auto", "share", "percent", "logit"] = Field(
        "auto", description="whether scores are shares of 1, percent, or logits, which go through a sigmoid"
    )
    score_of: Literal["fake", "real", "predicted"] | None = Field(
        None,
        description="whether a score is P(fake), P(real), or the probability of what a column predicted says",
    )
    age_groups: AgeGroups = ()

    def check_first(self) -> None:
        """Refuses a file of predictions without the needed columns before pandas is imported."""
        if self.columns is None and isinstance(path := getattr(self, "predictions", None), Path):
            check_header(path)

    def how(self) -> dict[str, Any]:
        """The keys, as `read_predictions` takes them."""
        keys = {name: getattr(self, name) for name in ReadAs.model_fields}
        return keys | {"score_as": None if self.score_as == "auto" else self.score_as}


class Beside(BaseModel):
    """Results lie beside their predictions, unless another folder is given."""

    writes_folder: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _place_results(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("out") is not None:
            return values
        if not isinstance(given := values.get("predictions"), (str, Path)):
            return values
        return values | {"out": Path(given) if Path(given).is_dir() else Path(given).parent}


class Replaces(BaseModel):
    """Results of other scores are written over only where the user says so."""

    overwrite: bool = Field(False, description="replace results in `out` that are of other scores")


class OneScore(BaseModel):
    """How the scores of a video's crops become its one score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    aggregation: Literal["mean", "worst_face"] = Field(
        "mean",
        description="score of a video: the mean over all its crops, or over those of the face with the "
        "highest mean, so that one fake face among others is found; the same where a frame shows one face",
    )


class VideosOnly(OneScore):
    """Whether there are more frames than memory holds."""

    videos_only: bool = Field(
        False,
        description="average frames while a Parquet file of predictions is read: memory follows the number "
        "of videos, and no metric of frames is given",
    )

    @model_validator(mode="after")
    def _is_a_mean_of_videos(self) -> VideosOnly:
        if self.videos_only and (self.aggregation != "mean" or getattr(self, "level", "video") != "video"):
            raise ValueError(
                "videos_only=true is of the mean over all crops of a video; leave out the other key"
            )
        return self


def read_scores(
    config: ReadAs,
    path: Path,
    *,
    count: RowCount | None = None,
    used: Collection[str] = (),
    unlabelled: bool = False,
    keeps_columns: bool = False,
    says_dataset: bool = True,
) -> pd.DataFrame:
    """The predictions in a file, read as the keys say; prints what was taken for granted.

    A table that seems to be the other way round is refused: `check_direction`.

    Args:
        config: the keys.
        path: of the file.
        count: gets the rows given, and those that were left out.
        used: columns that the command uses beside those of every table of scores.
        unlabelled: keep rows without a label.
        keeps_columns: the command keeps every column, so that none is named as unused.
        says_dataset: say that a table without a column of datasets is one, called like its file.
    """
    from unmasked.datasets.table_reading import NO_DATASET
    from unmasked.datasets.vocabulary import Reading
    from unmasked.evaluation.origin import faces_changes
    from unmasked.evaluation.predictions import KNOWN, read_predictions

    readings: list[Reading] = []
    left_out: dict[str, int] = {}

    def read(file: Path) -> pd.DataFrame:
        return read_predictions(file, readings, left_out, unlabelled=unlabelled, **config.how())

    if isinstance(config, VideosOnly) and config.videos_only:
        from unmasked.evaluation.folding import read_folded

        predictions = read_folded(path, read, readings)
    else:
        predictions = read(path)
    if config.score_of is None:
        # Imported once there is a table: one that cannot be read is refused at once.
        from unmasked.evaluation.direction import check_direction

        check_direction(predictions, path)
    if count is not None:
        count.given += len(predictions) + sum(left_out.values())
        count.leave_out(left_out)
    others = [str(name) for name in predictions.columns if name not in {*KNOWN, *used}]
    if others and not keeps_columns:
        readings.append(Reading("columns that no number uses", ", ".join(others)))
    print_readings([each for each in readings if says_dataset or each.what != NO_DATASET])
    if said := faces_changes(path, predictions, getattr(config, "faces", None)):
        print_result(f"NOTE: {said}")
    return predictions


OVERWRITE = "give another out=, or overwrite=true"


def check_nothing_lost(
    config: Replaces,
    path: Path,
    new: Callable[[], Origin],
    origin_of: Callable[[Mapping[str, Any]], Origin],
) -> None:
    """Refuses to write over results of other scores; those of the same are written anew.

    Args:
        config: says whether they may be replaced.
        path: of the JSON file that would be replaced.
        new: gives the origin of the new results; asked only where there is something to lose, as it reads
            all scores.
        origin_of: gives the origin that the file states.

    Raises:
        InputError: they would be lost, or the file is none of ours.
    """
    from unmasked.datasets.documents import read_json
    from unmasked.datasets.errors import InputError

    if config.overwrite or not path.exists():
        return
    origin, there = new(), origin_of(read_json(path, OVERWRITE))
    unlike = origin.difference(there)
    if not there.scores or not there.scores.keys() <= origin.scores.keys():
        unlike = unlike or "it is of another dataset"
    if unlike:
        raise InputError(f"{path} would be lost: {unlike}; {OVERWRITE}")


def print_rows(count: RowCount, notes: Iterable[str] = (), noun: str = "video") -> None:
    """Prints how many rows were used; ``noun`` as in `name_files`."""
    from unmasked.evaluation.wording import name_files

    print_result(f"rows: {count.text()}")
    for note in dict.fromkeys(notes):
        # What the counts say already.
        is_said = note.startswith(("no row has a split", "rows of the test split are evaluated"))
        if not is_said and "are evaluated; left out: " not in note and "perturbed crops are left" not in note:
            print_result(f"  {name_files(note, noun)}")
