"""Published numbers: transcribed without a slip, complete in what is needed to read them, and kept apart."""

from __future__ import annotations

import pytest

from unmasked.datasets.errors import InputError
from unmasked.evaluation.published import HEADING, Published, load_published, published_table
from unmasked.evaluation.shipped import load_shipped, shipped_names

NAMES = shipped_names("published")
# Averages as the source prints them, for the six test sets of FaceForensics++ and for the eight others.
AVERAGES = {"UCF": (0.9527, 0.7801), "Xception": (0.9450, 0.7718), "EfficientNet-B4": (0.9389, 0.7718)}


@pytest.mark.parametrize("detector", AVERAGES)
def test_values_have_the_averages_that_the_source_prints(detector):
    (published,) = load_published(["deepfakebench"])
    values = published.results[0].values[detector]
    within = [value for name, value in values.items() if name.startswith("FaceForensics++")]
    across = [value for name, value in values.items() if not name.startswith("FaceForensics++")]
    assert (len(within), len(across)) == (6, 8)
    found = sum(within) / 6, sum(across) / 8
    assert found == pytest.approx(AVERAGES[detector], abs=0.5e-4 + 1e-9)


def test_rows_of_effort_have_the_averages_that_it_prints_or_say_that_they_have_not():
    """RECCE, IID and ProDet: the source prints another average than the mean of its own row."""
    printed = dict(
        zip(
            [
                "F3Net",
                "SPSL",
                "SRM",
                "CORE",
                "RECCE",
                "SLADD",
                "SBI",
                "UCF",
                "IID",
                "LSDA",
                "ProDet",
                "CDFA",
                "Effort",
            ],
            (0.743, 0.769, 0.767, 0.762, 0.779, 0.777, 0.821, 0.785, 0.789, 0.794, 0.828, 0.878, 0.917),
            strict=True,
        )
    )
    (published,) = load_published(["effort"])
    values = published.results[0].values
    assert set(values) == set(printed)
    (said,) = [text for text in published.differences if text.startswith("averages")]
    for name, by_dataset in values.items():
        mean = sum(by_dataset.values()) / 7
        is_printed = abs(mean - printed[name]) <= 0.0011
        assert is_printed != (f"{name} {printed[name]:.3f}, and {mean:.3f}" in said)
    (methods,) = load_published(["effort_methods"])
    found = {name: sum(row.values()) / 8 for name, row in methods.results[0].values.items()}
    assert found["Effort"] == pytest.approx(0.940, abs=0.001)
    assert found["UCF"] == pytest.approx(0.824, abs=0.001)


@pytest.mark.parametrize("name", NAMES)
def test_each_shipped_file_says_where_from_and_how(name):
    (published,) = load_published([name])
    table = published_table(published)
    assert table.title.startswith(HEADING)
    text = " ".join(table.notes)
    for needed in (
        published.source,
        published.selection,
        published.status_text,
        published.by,
        "What sets them apart",
    ):
        assert needed in text
    assert all(len(row) == len(table.head) for row in table.rows)


def test_the_paper_and_the_bench_never_share_a_column():
    assert {"ucf_paper", "deepfakebench", "deepfakebench_released_weights"} <= set(NAMES)
    tables = [published_table(one) for one in load_published(NAMES)]
    assert len({table.title for table in tables}) == len(NAMES)
    levels = {table.title: table.head for table in tables}
    (paper,) = [head for title, head in levels.items() if title.endswith("its own paper")]
    assert paper == ["tested on", "UCF: level not stated: AUC"]


def test_a_frame_and_a_video_value_of_one_dataset_stand_in_two_columns():
    (published,) = load_published(["deepfakebench_released_weights"])
    table = published_table(published)
    row = dict(zip(table.head, next(row for row in table.rows if row[0] == "Celeb-DF-v2"), strict=True))
    assert (row["UCF: frame AUC"], row["UCF: video AUC"], row["UCF: frame EER"]) == (
        "0.7716",
        "0.8373",
        "0.3032",
    )
    dfd = next(row for row in table.rows if row[0] == "DeepFakeDetection")
    assert dfd[2] == ""


def test_differences_to_the_measured_results_are_named():
    (published,) = load_published(["deepfakebench"])
    settings = {"source": "Celeb-DF-v2", "selection_rule": "source validation"}
    text = published_table(published, settings).notes[-1]
    assert "trained on FaceForensics++, and here on Celeb-DF-v2" in text
    assert "the test sets chose the checkpoint; selection here: source validation" in text
    assert "level: frame" in text
    text = published_table(published, {"source": "FaceForensics++"}).notes[-1]
    assert "and here on" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "rumoured"}, "status: Input should be 'reported' or 're-measured'"),
        ({"source": ""}, "source"),
        ({"selection": None}, "selection"),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"results": []}, "results"),
        ({"results": [{"metric": "auc", "level": "frame", "values": {"X": {"A": 77.0}}}]}, "as shares of 1"),
        ({"results": [{"metric": "acu", "level": "frame", "values": {"X": {"A": 0.7}}}]}, "metric 'acu'"),
        ({"results": [{"metric": "auc", "level": "frame", "values": {"X": {}}}]}, "no value"),
    ],
)
def test_a_file_that_lacks_what_a_reader_needs_is_refused(tmp_path, change, said):
    from omegaconf import OmegaConf

    (published,) = load_published(["ucf_paper"])
    OmegaConf.save(OmegaConf.create({**published.model_dump(mode="json"), **change}), tmp_path / "own.yaml")
    with pytest.raises(InputError, match=said):
        load_published([tmp_path / "own.yaml"])


def test_ones_own_file_reads_back_the_same(tmp_path):
    from omegaconf import OmegaConf

    (published,) = load_published(["ucf_as_cited"])
    OmegaConf.save(OmegaConf.create(published.model_dump(mode="json")), tmp_path / "own.yaml")
    assert load_shipped(Published, "published", tmp_path / "own.yaml") == published


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(InputError, match=r"\(is 'deepfakebench' meant\?\); give one of deepfakebench, "):
        load_published(["deepfakebensh"])
