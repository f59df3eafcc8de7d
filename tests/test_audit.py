"""The audit as a whole: planted faults are found, the worst first; clean data stay silent."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from audit_corpus import crops, people, pictures
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.audit.run import audit
from unmasked.datasets.audit.settings import AuditSettings
from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import MANIFEST
from unmasked.preprocessing.faces import FACES

QUICK = AuditSettings(n_boot=200)


def unmasked(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def overwrite(folder, faces, source, target, quality=None, scale=1.0):
    """Puts a copy of one crop in the place of another, recompressed and rescaled."""
    image = cv2.imread(str(folder / faces["crop"][source]))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if quality is not None:
        image = cv2.imdecode(
            cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR
        )
    cv2.imwrite(str(folder / faces["crop"][target]), image)


@pytest.fixture(scope="module")
def five_thousand(tmp_path_factory):
    """417 people's videos with four crops each: 5,004 crops."""
    folder = tmp_path_factory.mktemp("faces")
    manifest = people(417, np.random.default_rng(0))
    return manifest, crops(manifest, folder, per_video=4, seed=0), folder


@pytest.mark.parametrize("seed", range(10))
def test_clean_data_stay_silent(seed, tmp_path):
    of_images = audit(pictures(tmp_path / "images", 200, seed), settings=QUICK)
    assert [finding.found for finding in of_images.findings] == []
    manifest = people(30, np.random.default_rng(seed))
    faces = crops(manifest, tmp_path / "faces", per_video=2, seed=seed)
    of_videos = audit(manifest, [(faces, tmp_path / "faces")], settings=QUICK)
    assert [finding.found for finding in of_videos.findings] == []
    assert of_images.is_clean
    assert of_images.duplicates.pictures == 200
    assert of_videos.duplicates.pictures == 180


def test_a_person_in_train_and_test_is_found(tmp_path):
    manifest = people(40, np.random.default_rng(0))
    manifest.loc[manifest["video"] == "Swap/0007", "split"] = "test"  # id7 is in train
    found = audit(manifest, settings=QUICK)
    (person,) = [finding for finding in found.findings if finding.kind == "identity"]
    assert person.severity == "bad"
    assert person.found == "Set test: 1 of 9 people is in train too (id7); this touches 1 of 25 rows (4 %)"
    assert not found.is_clean


def test_five_copies_among_five_thousand_crops_are_found_and_nothing_else(five_thousand):
    manifest, faces, folder = five_thousand
    assert len(faces) >= 5000
    train, test = (faces.index[faces["split"] == split] for split in ("train", "test"))
    changes = [{}, {"quality": 75}, {"quality": 60}, {"scale": 0.75}, {"quality": 80, "scale": 1.25}]
    places = [(train[10 + 200 * k], test[30 + 100 * k]) for k in range(5)]
    for (source, target), change in zip(places, changes, strict=True):
        overwrite(folder, faces, source, target, **change)
    found = audit(manifest, [(faces, folder)], settings=QUICK)
    pairs = found.duplicates.pairs
    expected = {(faces["crop"][source], faces["crop"][target]) for source, target in places}
    relative = pairs[["picture", "other_picture"]].apply(lambda column: column.str.removeprefix(f"{folder}/"))
    assert set(relative.itertuples(index=False, name=None)) == expected
    (finding,) = found.findings
    assert finding.kind == "duplicate"
    assert finding.found.startswith("Set: 5 pictures in train and test, near-copies of each other")


def test_a_format_that_gives_the_label_away_is_the_first_line(tmp_path):
    public = pictures(tmp_path / "images", 400, 0, suffix=("jpg", "png")).assign(dataset="Public")
    leaking = people(40, np.random.default_rng(0))
    leaking.loc[leaking["video"] == "Swap/0007", "split"] = "test"
    MANIFEST.write(pd.concat([leaking, public], ignore_index=True), tmp_path / "manifest.parquet")
    result = unmasked(
        "audit", f"manifest={tmp_path / 'manifest.parquet'}", f"out={tmp_path / 'out'}", "n_boot=200"
    )
    assert result.exit_code == 0, result.output
    first = result.stdout.splitlines()[0]
    assert first.startswith(
        "BAD: Public: file format alone tells real from fake with AUC 1.000 [0.955, 1.000]"
    )
    assert "(fakes: 100 % png; reals: 100 % jpg)" in first
    assert "id7" in result.stdout
    written = json.loads((tmp_path / "out/audit.json").read_text())
    assert written["findings"][0]["kind"] == "shortcut"
    (auc,) = [
        row["auc"] for row in written["shortcuts"] if (row["dataset"], row["feature"]) == ("Public", "format")
    ]
    assert auc >= 0.99


def test_exit_code_is_one_on_findings_where_asked_for_and_zero_when_clean(tmp_path):
    manifest = people(40, np.random.default_rng(0))
    arguments = [f"manifest={tmp_path / 'm.csv'}", f"out={tmp_path / 'out'}", "fail=true", "n_boot=100"]
    MANIFEST.write(manifest, tmp_path / "m.csv")
    clean = unmasked("audit", *arguments)
    assert clean.exit_code == 0
    assert clean.stdout.startswith(
        "nothing found in what could be looked at: Set: 120 rows "
        "(train 72, val 24, test 24) of 40 known people"
    )
    manifest.loc[0, "split"] = "test"
    MANIFEST.write(manifest, tmp_path / "m.csv")
    assert unmasked("audit", *arguments).exit_code == 1


def test_the_page_shows_findings_pictures_and_what_was_not_checked(tmp_path):
    manifest = people(20, np.random.default_rng(0))
    faces = crops(manifest, tmp_path / "faces", per_video=2, seed=0)
    overwrite(tmp_path / "faces", faces, source=0, target=len(faces) - 1)
    MANIFEST.write(manifest, tmp_path / "m.csv")
    FACES.write(faces, tmp_path / "faces/faces.parquet")
    out = tmp_path / "out"
    result = unmasked("audit", f"manifest={tmp_path / 'm.csv'}", f"faces={tmp_path / 'faces'}", f"out={out}")
    assert result.exit_code == 0, result.output
    page = (out / "audit.html").read_text()
    assert "<script" not in page
    assert page.count('<img class="picture"') == 1
    assert "1 picture in train and test, near-copies of each other" in page
    assert "60 of 60 files are not where the manifest says" in page
    assert len(pd.read_csv(out / "duplicates.csv")) == 1


def test_data_to_test_on_are_held_against_those_trained_on(tmp_path):
    trained = people(40, np.random.default_rng(0))
    tested = trained[trained["identity"].isin(["id0", "id5"])].assign(split="test", root="/elsewhere")
    found = audit(trained, against=MANIFEST.validate(tested), settings=QUICK)
    people_found, videos_found = found.findings
    assert people_found.found.startswith(
        "Set test: 2 of 2 people are in train too (id0, id5); this touches 6 of 6"
    )
    assert videos_found.kind == "video"


def test_damaged_absent_and_flat_files_are_counted_not_fatal(tmp_path):
    manifest = pictures(tmp_path / "images", 100, 0)
    paths = [tmp_path / "images" / path for path in manifest["path"]]
    paths[0].unlink()
    paths[1].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:20])
    for path in paths[3:6]:
        cv2.imwrite(str(path), np.full((64, 64, 3), 3, np.uint8))
    # The paths of a list may be absolute: such pictures were "absent or damaged", all of them.
    manifest.loc[50:, "path"] = str(tmp_path / "images") + "/" + manifest.loc[50:, "path"].astype(object)
    found = audit(manifest, settings=QUICK)
    assert found.is_clean
    assert "94 pictures were compared with each other" in found.checked
    assert "3 pictures have too little detail (dark, flat) to be compared" in found.not_checked
    assert "3 pictures cannot be read (absent or damaged) and were not compared" in found.not_checked
    assert any(line.startswith("2 of 100 files are damaged") for line in found.not_checked)
    assert any(line.startswith("1 of 100 files are not where") for line in found.not_checked)


def test_bad_input_is_refused_in_a_sentence(tmp_path):
    manifest = people(20, np.random.default_rng(0))
    with pytest.raises(InputError, match="no row"):
        audit(manifest.iloc[:0])
    other = crops(manifest.head(3).assign(dataset="Other"), tmp_path / "faces", per_video=1, seed=0)
    with pytest.raises(InputError, match=r"has no video of the manifest \(its first is 'real/0000'\)"):
        audit(manifest, [(other, tmp_path / "faces")])
    MANIFEST.write(manifest, tmp_path / "m.csv")
    result = unmasked(
        "audit", f"manifest={tmp_path / 'm.csv'}", f"faces={tmp_path}", f"out={tmp_path / 'out'}"
    )
    assert result.exit_code == 2
    assert "has no faces.parquet" in result.stderr
    assert unmasked("audit", f"manifest={tmp_path / 'none.csv'}").exit_code == 2


@pytest.mark.parametrize(
    ("label", "sentence"),
    [(None, "all 6 rows have no label"), (0, "Set: all rows are real, so that no fact can tell the label")],
)
def test_one_class_and_no_label_at_all_are_said_and_no_error(label, sentence, tmp_path):
    manifest = people(2, np.random.default_rng(0)).assign(label=label, root=str(tmp_path))
    manifest = MANIFEST.validate(manifest.assign(method="real" if label == 0 else None))
    audited = audit(manifest, settings=QUICK.model_copy(update={"duplicates": False}))
    assert any(sentence in line for line in audited.not_checked)
