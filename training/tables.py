"""Which rows of a faces table are trained on, and which select.

Checked before the first step.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from unmasked.datasets.blending import BLENDED, self_blended_rows
from unmasked.datasets.cards import name_digests
from unmasked.datasets.errors import InputError
from unmasked.datasets.frame_names import frame_stems
from unmasked.datasets.loading import VIDEO, method_classes, sample_evenly, usable_rows
from unmasked.datasets.samplers import KIND
from unmasked.datasets.splits import LABELS_NEEDED, SplitPlan, absent_split, assign
from unmasked.datasets.tables import rows_digest
from unmasked.fairness.groups import UNKNOWN, check_values, group_columns, order_groups
from unmasked.training.config import DetectorConfig, TrainedConfig
from unmasked.training.group_losses import TrainingGroups

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOut:
    """What was set aside of the split train for validation.

    Attributes:
        share: what was asked for.
        of: what is whole on one side: people, or videos or images where the table names no people.
        videos: how many were set aside.
        left_out: fakes of two people, one on either side, that nobody sees.
        sha256: of the names of the videos that were set aside.
    """

    share: float
    of: str
    videos: int
    left_out: int
    sha256: str


@dataclass(frozen=True)
class TrainingTables:
    """Crops to train on, crops to select on, and the method head's classes ("real" first).

    ``val`` holds the test split where an oracle selects; ``groups`` are of the rows of ``train``, where
    training looks at them; ``held_out`` says how ``val`` was taken from the split train, where it was;
    ``unlabelled`` is the number of crops that were left out since nobody knows their label.
    """

    train: pd.DataFrame
    val: pd.DataFrame
    methods: list[str]
    groups: TrainingGroups | None = None
    held_out: HeldOut | None = None
    unlabelled: int = 0

    def summary(self) -> dict[str, object]:
        """What the tables hold, for a checkpoint's card."""
        both = pd.concat([self.train, self.val])
        counts = {}
        for split, faces in (("train", self.train), ("val", self.val)):
            videos = faces.drop_duplicates(VIDEO)
            counts[split] = {
                "crops": len(faces),
                "videos": len(videos),
                "videos_by_method": {
                    str(method): int(count) for method, count in videos["method"].value_counts().items()
                },
                **_digests(videos),
            }
        return {
            "datasets": sorted(both["dataset"].unique()),
            "compression": sorted(both["compression"].dropna().unique()),
            "recipe": sorted(both["recipe"].dropna().unique()) if "recipe" in both else [],
            **counts,
            **({"val_from_train": asdict(self.held_out)} if self.held_out else {}),
            **({"crops_without_label": self.unlabelled} if self.unlabelled else {}),
            "sha256": self.digest,
        }

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the crops of training and selection, as the faces table has them."""
        parts = (rows_digest(rows, text=_DESCRIBED, numbers=_MEASURED) for rows in (self.train, self.val))
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def _digests(videos: pd.DataFrame) -> dict[str, list[str]]:
    """Whose videos they are, so that a test set can be compared; nothing where there are too many."""
    if len(videos) > DIGESTS_MAX:
        return {}
    found = {"video_digests": sorted(name_digests(videos, "video"))}
    people = sorted(name_digests(videos, "identity"))
    pictures = videos[videos["kind"] == "image"] if "kind" in videos else videos.iloc[:0]
    stems = frame_stems(pictures["video"], pictures["label"])
    frames_of = sorted(name_digests(pictures.loc[stems.index].assign(video=stems), "video"))
    return (
        found
        | ({"identity_digests": people} if people else {})
        | ({"frames_of_digests": frames_of} if frames_of else {})
    )


# What tells one faces table from another: whose crops, with which labels, of which pixels.
_DESCRIBED = ("dataset", "video", "compression", "method", "split", "crop", "recipe")
_MEASURED = ("frame", "face", "label", "size_px", "blur")
# A card is read by every evaluation: it names no more videos than this, 15 bytes each.
DIGESTS_MAX = 5000


def training_tables(faces: pd.DataFrame, config: DetectorConfig) -> TrainingTables:
    """The rows of the splits train and val that will be used.

    Of test instead of val for an oracle. Crops without a label are left out, and how many.

    Raises:
        InputError: a split has no crop, or lacks reals or fakes, or groups are asked for that the training
            rows do not have.
    """
    crops = usable_rows(faces)
    if crops.empty:
        raise InputError(
            f"none of the {len(faces)} rows of the faces table has a crop (status ok); "
            "run `unmasked preprocess` and look at its statuses"
        )
    is_oracle = isinstance(config, TrainedConfig) and config.training.selection == "oracle"
    selects, held_out = "test" if is_oracle else "val", None
    crops, unlabelled = _labelled_rows(crops, ("train", selects))
    if config.data.val_from_train and not is_oracle and not (crops["split"] == "val").any():
        crops, held_out = _with_val_from_train(crops, config)
    train = _rows_of_split(crops, "train", config.data.frames_per_video)
    fakes = config.data.fakes if isinstance(config, TrainedConfig) else "dataset"
    if fakes != "dataset":
        train = _add_self_blended(train, only=fakes == "self_blended")
    _check_both_labels("train", train)
    val = _rows_of_split(crops, selects, config.data.val_frames_per_video)
    # Selection sees the data set's own fakes; self-blended ones stand in where it has none.
    if fakes != "dataset" and not (val["label"] == 1).any():
        val = _add_self_blended(val, only=True)
    _check_both_labels(selects, val)
    if config.shuffle_labels:
        train, val = shuffle_labels(train, config.seed), shuffle_labels(val, config.seed + 1)
    groups = training_groups(train, config) if isinstance(config, TrainedConfig) else None
    return TrainingTables(train, val, method_classes(train), groups, held_out, unlabelled)


def training_groups(train: pd.DataFrame, config: TrainedConfig) -> TrainingGroups | None:
    """The groups of the training rows where a loss or the balance needs them, else None.

    Rows of which nobody said whose face it is are the group "unknown", with a warning.

    Raises:
        InputError: none were named, the column is absent or empty, or has one group or more than 50.
    """
    settings = config.data
    users = [f"loss.robust={config.loss.robust}"] if config.loss.robust not in ("none", "cvar") else []
    users += ["data.balance=group_class"] if settings.balance == "group_class" else []
    if not users:
        if settings.groups:
            raise InputError(
                f"data.groups={settings.groups!r} is used by nothing; set loss.robust=nested_cvar, group_dro "
                "or reweighted, or data.balance=group_class, or leave it out"
            )
        return None
    if not settings.groups:
        raise InputError(
            f"{users[0]} needs to know whose face a crop shows; name a column of the faces table, such as "
            "data.groups=gender or data.groups='gender * skin_tone'"
        )
    column = group_columns(train, [settings.groups]).iloc[:, 0]
    known = column[column != UNKNOWN]
    check_values(str(column.name), known.to_numpy())
    if len(known) < len(column):
        logger.warning(
            "%d of %d training crops do not say %s; they count as a group called unknown",
            *(len(column) - len(known), len(column), column.name),
        )
    names = order_groups(column.tolist())
    codes = pd.Categorical(column, categories=names).codes.astype(np.int64)
    return TrainingGroups(str(column.name), names, codes, train["label"].to_numpy(np.int64))


def shuffle_labels(faces: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table with label and method permuted among its videos; each video keeps one label.

    The new ones are dealt out evenly: among the videos of each true method they are as frequent as among
    all, to within a video. A plain permutation would leave chance shares of true fakes among the new ones,
    and traces as strong as these would be learned from them. A detector that is trained on the table has
    nothing to learn, so over many seeds its AUC on true labels is 0.5.
    """
    rng = np.random.default_rng(seed)
    videos = faces.groupby(VIDEO, sort=False, dropna=False)
    number = videos.ngroup().to_numpy()
    first = videos.head(1)
    method = pd.factorize(first["method"])[0]
    by_method = np.lexsort((rng.random(len(first)), method))
    size = np.bincount(method)
    rank = np.empty(len(first))
    rank[by_method] = np.arange(len(first)) - np.repeat(np.cumsum(size) - size, size)
    evenly = np.argsort((rank + rng.random(len(size))[method]) / size[method])
    order = np.empty(len(first), int)
    order[by_method] = evenly
    # The video of number i gets what the video of number order[i] had.
    columns = {name: first[name].to_numpy()[order][number] for name in ("label", "method")}
    return faces.assign(**{name: pd.Series(values, faces.index) for name, values in columns.items()})


def _rows_of_split(crops: pd.DataFrame, split: str, per_video: int | None) -> pd.DataFrame:
    rows = crops[crops["split"] == split].reset_index(drop=True)
    if rows.empty:
        raise InputError(absent_split(crops, split))
    return sample_evenly(rows, per_video)


def _labelled_rows(crops: pd.DataFrame, splits: tuple[str, ...]) -> tuple[pd.DataFrame, int]:
    """The crops whose label is known, and the number of the others in these splits; says that number.

    Raises:
        InputError: no crop of these splits has a label.
    """
    is_known, is_used = crops["label"].notna(), crops["split"].isin(splits)
    unlabelled = int((is_used & ~is_known).sum())
    if unlabelled and not (is_used & is_known).any():
        raise InputError(
            f"none of the {unlabelled} crops of {' and '.join(splits)} has a label; {LABELS_NEEDED}"
        )
    if not is_known.any():
        raise InputError(absent_split(crops, splits[0]))
    if unlabelled:
        logger.warning("%d of %d crops have no label and are left out", unlabelled, int(is_used.sum()))
    kept = crops[is_known].reset_index(drop=True)
    return kept.assign(label=kept["label"].astype("int64")), unlabelled


def _with_val_from_train(crops: pd.DataFrame, config: DetectorConfig) -> tuple[pd.DataFrame, HeldOut]:
    """The crops, some people of the split train in a split val: the same ones from every such table."""
    is_train = (crops["split"] == "train").to_numpy()
    if not is_train.any():
        return crops, HeldOut(config.data.val_from_train, "people", 0, 0, "")
    people = ("identity", "source_video", "target_video")
    absent = {name: pd.Series(None, crops.index, dtype=object) for name in people if name not in crops}
    videos = crops.assign(**absent)[is_train].drop_duplicates(["dataset", "video"])
    share = config.data.val_from_train
    split_of = assign(videos, SplitPlan((1 - share, share, 0.0), config.seed))
    if not (split_of == "val").any():
        whole = "are of one person, or of people who share fakes" if videos["identity"].notna().any() else ""
        raise InputError(
            f"data.val_from_train={share:g} sets nothing aside: the {len(videos)} videos and images of train "
            f"{whole or 'are too few, or all belong together'}; add others, or a split val of other people"
        )
    name = pd.MultiIndex.from_frame(crops[["dataset", "video"]])
    split = pd.Series(split_of.to_numpy(), pd.MultiIndex.from_frame(videos[["dataset", "video"]]))
    crops = crops.assign(split=crops["split"].where(~is_train, split.reindex(name).to_numpy()))
    chosen = sorted(videos.loc[split_of == "val", "video"])
    held_out = HeldOut(
        share=share,
        of=_unit(videos),
        videos=len(chosen),
        left_out=int(split_of.isna().sum()),
        sha256=hashlib.sha256("\0".join(chosen).encode()).hexdigest(),
    )
    logger.warning(
        "no split val: %d of %d videos and images of train are set aside for validation, divided by %s%s",
        *(held_out.videos, len(videos), held_out.of),
        f"; {held_out.left_out} fakes of two people from both sides are left out" * bool(held_out.left_out),
    )
    return crops[crops["split"].notna()].reset_index(drop=True), held_out


def _unit(videos: pd.DataFrame) -> str:
    """What `datasets.splits.assign` keeps together."""
    if videos["identity"].notna().all():
        return "people"
    if videos.loc[videos["label"] == 1, ["source_video", "target_video"]].notna().any(axis=None):
        return "videos, fakes with what they were made of"
    images = "kind" in videos and (videos["kind"] == "image").all()
    return "images, for nobody says who they show" if images else "videos, for nobody says who they show"


def _add_self_blended(faces: pd.DataFrame, *, only: bool) -> pd.DataFrame:
    """The rows, without their fakes if ``only``, and a fake to be made of each real one."""
    kept = faces[faces["label"] == 0] if only else faces
    return pd.concat([kept.assign(**{BLENDED: False}), self_blended_rows(faces)], ignore_index=True)


def _check_both_labels(split: str, rows: pd.DataFrame) -> None:
    for label, kind in KIND.items():
        if not (rows["label"] == label).any():
            advice = ", or make them with data.fakes=self_blended" if label else ""
            raise InputError(
                f"split {split!r} has {len(rows)} crops, none of them {kind}; training needs reals and fakes "
                f"in train and in the split that selects: add {kind} videos to the manifest{advice}"
            )
