"""Frames averaged to videos while a file is read give the numbers of videos that the whole table gives."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unmasked.datasets.errors import InputError
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.folding import fold_frames
from unmasked.evaluation.metrics import FRAMES_SCORED, METRICS, video_scores
from unmasked.evaluation.predictions import validate_predictions
from unmasked.fairness.run import audit_predictions


def frames(videos: int = 60, seed: int = 0) -> pd.DataFrame:
    """One to nine frames of each video, of three people to a gender."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(videos), rng.integers(1, 10, videos))
    label = number % 2
    return pd.DataFrame(
        {
            "dataset": np.where(number % 3 == 0, "DFD", "DFDC"),
            "video": [f"v{one:03d}" for one in number],
            "frame": pd.Series(number).groupby(number).cumcount().to_numpy(),
            "label": label,
            "score": np.round(1 / (1 + np.exp(-rng.normal(label - 0.5, 1))), 3),
            "identity": [f"p{one % 20}" for one in number],
            "gender": np.where(number % 20 < 10, "female", "male"),
            "perturbation": pd.Series(None, index=range(len(number)), dtype=object),
        }
    )


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "predictions.parquet"
    frames().to_parquet(path)
    return path


@pytest.mark.parametrize("batch_rows", [7, 50, 10_000])
def test_a_folded_video_is_the_one_of_the_whole_table_wherever_batches_end(table, batch_rows):
    folded, left_out = fold_frames(table, batch_rows)
    whole = video_scores(frames()).set_index("video")
    assert left_out == {}
    assert folded["video"].is_unique
    found = folded.set_index("video").loc[whole.index]
    np.testing.assert_allclose(found["score"], whole["score"], rtol=1e-11)
    assert found[FRAMES_SCORED].tolist() == whole["frames"].tolist()
    for name in ("dataset", "label", "identity", "gender"):
        assert found[name].tolist() == whole[name].tolist()


def test_a_video_whose_frames_lie_apart_in_the_file_is_one_video(tmp_path):
    table = frames().sample(frac=1, random_state=0)
    table.to_parquet(tmp_path / "mixed.parquet")
    folded, _ = fold_frames(tmp_path / "mixed.parquet", 20)
    whole = video_scores(frames()).set_index("video")
    assert len(folded) == len(whole)
    scores = folded.set_index("video").loc[whole.index, "score"]
    np.testing.assert_allclose(scores, whole["score"], rtol=1e-11)


def test_numbers_of_videos_are_those_of_the_whole_table_and_frames_have_none(table):
    folded = validate_predictions(fold_frames(table, 50)[0])
    one, other = (evaluate(rows, n_boot=50)["datasets"] for rows in (folded, validate_predictions(frames())))
    for name, block in other.items():
        assert one[name]["n"] == block["n"]
        for metric in METRICS:
            assert one[name]["video"][metric] == pytest.approx(block["video"][metric], abs=1e-9, nan_ok=True)
            low, high = block["video"][f"{metric}_ci"]
            assert one[name]["video"][f"{metric}_ci"] == pytest.approx([low, high], abs=1e-9, nan_ok=True)
        assert np.isnan(one[name]["frame"]["auc"])
        assert list(one[name]["aggregations"]) == ["mean"]


def test_an_audit_counts_the_frames_behind_each_video(table):
    given = {"by": ["gender"], "dataset": "DFDC", "n_boot": 100, "n_perm": 100}
    folded = audit_predictions(validate_predictions(fold_frames(table)[0]), **given)
    whole = audit_predictions(validate_predictions(frames()), **given)
    pd.testing.assert_frame_equal(folded.support, whole.support)
    pd.testing.assert_frame_equal(folded.by_group, whole.by_group)
    assert folded.settings == whole.settings


def test_rows_that_do_not_count_are_left_out_and_counted(tmp_path):
    table = frames()
    table.loc[0, "score"] = None
    table["label"] = table["label"].astype("Int64")
    table.loc[3, "label"] = pd.NA
    table.loc[5:6, "perturbation"] = "jpeg"
    table.to_parquet(tmp_path / "p.parquet")
    folded, left_out = fold_frames(tmp_path / "p.parquet", 16)
    assert left_out == {"no score": 1, "no label": 1, "of perturbed crops": 2}
    assert folded[FRAMES_SCORED].sum() == len(table) - 4


def test_a_crop_that_is_scored_twice_is_refused(tmp_path):
    table = pd.concat([frames(), frames().iloc[[8]]]).sort_values("video")
    table.to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match="is scored 2 times"):
        fold_frames(tmp_path / "p.parquet", 16)


@pytest.mark.parametrize("score", [1.5, -0.1, np.nan])
def test_scores_that_are_no_probabilities_are_refused(tmp_path, score):
    table = frames()
    table["score"] = table["score"].mask(table.index == 9, score)
    # pandas would write a missing score for NaN.
    columns = {name: pa.array(table[name].to_numpy(), from_pandas=name != "score") for name in table}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    with pytest.raises(InputError, match="takes P"):
        fold_frames(tmp_path / "p.parquet")


def test_a_table_of_other_columns_is_refused_with_what_to_do(tmp_path):
    frames().rename(columns={"score": "p"}).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match="lacks score: leave it out"):
        fold_frames(tmp_path / "p.parquet")
    with pytest.raises(InputError, match="is no such file"):
        fold_frames(tmp_path / "p.csv")
