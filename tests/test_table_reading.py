"""Tables of strangers: read in one go, what was assumed is said, what is unsettled is in one message."""

import pytest

from unmasked.datasets.errors import InputError
from unmasked.datasets.table_reading import SCORES, read_table

EXCEL = (
    "\ufefffile;label;score;gender;age\r\n"
    "u0.mp4;FAKE;55,1;weiblich;22\r\nu1.mp4;Fake;78,2;F;46\r\nu2.mp4;real;12,0;männlich;n/a\r\n"
    "u3.mp4;Real;n/a;Male;60\r\nu4.mp4;;31,5;divers;\r\n"
)


def write(tmp_path, content, name="scores.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("coding", ["utf-8", "utf-16", "cp1252"])
def test_a_spreadsheets_export_is_read_in_one_go(tmp_path, coding):
    path = write(tmp_path, (EXCEL if coding == "utf-8" else EXCEL.lstrip("\ufeff")).encode(coding))
    frame, readings, left_out = read_table(path)
    assert frame["video"].tolist() == ["u0.mp4", "u1.mp4", "u2.mp4", "u4.mp4"]
    assert frame["score"].tolist() == pytest.approx([0.551, 0.782, 0.12, 0.315])
    assert frame["label"].tolist()[:3] == [1, 1, 0]
    assert frame["label"].isna().tolist() == [False, False, False, True]
    assert frame["gender"].tolist() == ["weiblich", "female", "männlich", "divers"]
    assert set(frame["dataset"]) == {"scores.csv"}
    assert left_out.to_dict("list") == {"row": [5], "reason": ["no score"]}
    said = "\n".join(f"{what}: {how}" for what, how in readings)
    for part in (
        "column 'file': video",
        "semicolons",
        "label: real, Real: real; FAKE, Fake: fake",
        "percent: 78.2 is 0.782",
        "called scores",
        "left out: 1 (row 5)",
        "not known in 1 row",
    ):
        assert part in said


def test_what_cannot_be_settled_comes_in_one_message_with_the_spreadsheets_rows(tmp_path):
    text = "clip,truth,prob,split\na,1,0.5,Train\nb,maybe,-3,Test\nc,0,x,holdout\n,1,0.2,Test\n"
    with pytest.raises(InputError) as caught:
        read_table(write(tmp_path, text))
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in ("'maybe' in row 3", "'x' and the like in row 4", "'holdout'", "'video' is empty in row 5"):
        assert part in sentence, sentence


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (["0.2", "0.9", "0.4", "55"], r"above 1 in row 5.*score_as=percent"),
        (["50 %", "0.9", "0.4", "0.1"], r"percent sign in 1 rows and none in row 3, 4, 5"),
        (["0.2", "-0.9", "0.4", "0.1"], r"-0.9 in row 3.*sigmoid"),
        (["0.2", "101", "0.4", "0.1"], r"101 in row 3"),
    ],
)
def test_scores_that_may_be_two_things_are_asked_about(tmp_path, scores, said):
    rows = "".join(f"v{n},{n % 2},{score}\n" for n, score in enumerate(scores))
    with pytest.raises(InputError, match=said):
        read_table(write(tmp_path, f"video,label,score\n{rows}"))


def test_percent_is_told_by_its_size_its_sign_or_by_the_user(tmp_path):
    for scores, options in (
        (("55", "80"), {}),
        (("55 %", "0.8%"), {}),
        (("0.5", "1.5"), {"score_as": "percent"}),
    ):
        path = write(tmp_path, f"video,label,score\na,1,{scores[0]}\nb,0,{scores[1]}\n")
        expected = [float(score.rstrip("% ")) / 100 for score in scores]
        assert read_table(path, **options).frame["score"].tolist() == pytest.approx(expected)


def test_p_of_real_is_asked_about_and_turned_round_where_it_is_said(tmp_path):
    path = write(tmp_path, "video,label,p_real\na,1,0.1\nb,0,0.8\n")
    with pytest.raises(InputError, match=r"'p_real' seems to be P\(real\).*score_of=real"):
        read_table(path)
    assert read_table(path, score_of="real").frame["score"].tolist() == pytest.approx([0.9, 0.2])


def test_labels_that_words_of_the_same_row_contradict_are_refused_unless_it_is_settled(tmp_path):
    """140k real and fake faces: label 1 is real there, and label_str and path say so."""
    rows = "".join(
        f"train/{w}/{n}.jpg,{label},{w}\n" for n, (label, w) in enumerate([(1, "real"), (0, "fake")] * 3)
    )
    path = write(tmp_path, f"path,label,label_str\n{rows}")
    roles = {name: role for name, role in SCORES.items() if name != "score"}
    with pytest.raises(InputError, match=r"the label says fake and label_str says real.*one_means=real"):
        read_table(path, roles)
    assert read_table(path, roles, one_means="real").frame["label"].tolist() == [0, 1] * 3
    kept = read_table(path, roles, one_means="fake")
    assert kept.frame["label"].tolist() == [1, 0] * 3
    assert any("although" in how for _, how in kept.readings)


def test_a_method_called_real_contradicts_the_label_fake(tmp_path):
    text = "dataset,video,label,score,method\nD,a,1,0.9,real\nD,b,0,0.1,real\nD,c,1,0.8,FaceSwap\n"
    with pytest.raises(InputError, match=r"label says fake and method says real in 1 of 2 rows \(2\)"):
        read_table(write(tmp_path, text))


def test_folders_that_all_paths_share_say_nothing_of_a_label(tmp_path):
    rows = "".join(f"/data/deepfakes/set/{n}.mp4,{n % 2},0.5\n" for n in range(4))
    assert read_table(write(tmp_path, f"path,label,score\n{rows}")).frame["label"].tolist() == [0, 1, 0, 1]


def test_columns_are_named_by_the_user_where_they_are_unusual(tmp_path):
    path = write(tmp_path, "Datei,Urteil,score\na,real,0.1\nb,fake,0.9\n")
    with pytest.raises(InputError, match=r"\(1\) no column is called video.*\(2\) no column is called label"):
        read_table(path)
    frame = read_table(path, columns={"video": "Datei", "label": "Urteil"}).frame
    assert frame["label"].tolist() == [0, 1]
    with pytest.raises(InputError, match="is 'Datei' meant"):
        read_table(path, columns={"video": "Dateі", "label": "Urteil"})


def test_ages_stay_years_unless_groups_are_asked_for(tmp_path):
    path = write(tmp_path, "video,label,score,age\na,1,0.9,22\nb,0,0.1,50\nc,0,0.2,\n")
    assert read_table(path).frame["age"].tolist()[:2] == [22, 50]
    grouped = read_table(path, age_groups=(30,)).frame["age"]
    assert grouped.tolist()[:2] == ["under 30", "30 and over"]
    assert grouped.isna().tolist() == [False, False, True]


def test_short_names_of_datasets_and_spellings_of_splits_become_the_published_ones(tmp_path):
    path = write(tmp_path, "dataset,video,label,score,split\nFF++,a,1,0.9,Training\nceleb-df,b,0,0.1,TEST\n")
    frame = read_table(path).frame
    assert frame["dataset"].tolist() == ["FaceForensics++", "Celeb-DF-v2"]
    assert frame["split"].tolist() == ["train", "test"]
