"""What the columns of a table are for, and what else they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from unmasked.datasets.vocabulary import ASKS_IF_FAKE, ASKS_IF_REAL

RoleKind = Literal[
    "text",
    "dataset",
    "label",
    "answer",
    "score",
    "split",
    "integer",
    "gender",
    "age",
    "compression",
    "as_it_is",
]


@dataclass(frozen=True)
class Role:
    """What a column is for: how its cells are read, and what else it is called."""

    kind: RoleKind
    names: tuple[str, ...] = ()  # other names, the likeliest first
    required: bool = False
    # What becomes of a row in which it is empty: stay, be left out (and counted), or be a problem.
    empty: Literal["keep", "leave_out", "refuse"] = "keep"


FILE = (
    *("file", "filename", "file_path", "image_path", "img_path", "video_path", "path", "image", "video"),
    *("image_name", "image_id", "file_id", "filepath", "url", "uri"),
)
DATASET = Role("dataset", ("data set", "corpus", "dataset name", "database"))
VIDEO = Role("text", (*FILE, "video id", "video name", "clip", "name", "id"), True, "refuse")
LABEL = Role(
    "label",
    (
        *("labels", "target", "is_fake", "fake", "class", "ground truth", "gt", "y_true", "truth"),
        *("true_label", "actual", "label_str", *ASKS_IF_REAL, *ASKS_IF_FAKE),
    ),
    True,
)
SCORE = Role(
    "score",
    (
        *("scores", "prob", "probability", "prob_fake", "p_fake", "fake_prob", "fake_probability"),
        *("score_fake", "probability_fake", "deepfake_probability", "deepfake_score", "fake_likelihood"),
        *(
            "fake_score",
            "likelihood",
            "score_percent",
            "pred",
            "preds",
            "prediction",
            "predictions",
            "y_score",
            "y_prob",
            "y_pred",
        ),
        *(
            "confidence",
            "output",
            "predicted",
            "logit",
            "logits",
            "fake",
            "p_real",
            "prob_real",
            "real_prob",
            "score_real",
            "probability_real",
            "real",
        ),
    ),
    True,
    "leave_out",
)
# What a detector decided. It is never the truth, and no score.
PREDICTED = Role(
    "answer",
    (
        *("predicted_label", "pred_label", "predicted_class", "pred_class", "verdict", "decision"),
        *("prediction", "predictions", "pred", "y_pred", "y_hat", "result", "answer", "classification"),
        *("label_pred", "detected", "is_detected", "flagged"),
    ),
)
GROUPS: Mapping[str, Role] = {
    "gender": Role("gender", ("sex",)),
    "age": Role("age", ("age_group",)),
    "compression": Role("compression", ("quality",)),
    "split": Role("split", ("subset", "partition", "fold", "set")),
    "method": Role("text", ("manipulation", "generator", "forgery")),
}
# What a table of scores needs; further columns are kept as they are.
SCORES: Mapping[str, Role] = {
    "dataset": DATASET,
    "video": VIDEO,
    "label": LABEL,
    "predicted": PREDICTED,
    "score": SCORE,
    "frame": Role("integer", ("frame_number", "frame_id", "frame_idx", "frame_index")),
    "face": Role("integer", ("face_id", "face_index", "track", "track_id")),
    "identity": Role("text", ("person", "subject", "identity_id")),
    "detector": Role("text", ("model", "model_name", "detector_name")),
    "checkpoint": Role("text"),
    "perturbation": Role("text"),
    **GROUPS,
}
