"""`unmasked annotate` and the annotations of `unmasked scan`, as a user runs them."""

import pandas as pd
import pytest
from layout_trees import celeb_df, touch
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.tables import read_frame

A_CELEB = ",path,label,male,white,black\n" + "".join(
    f"0,Celeb-DF-v2_faces_single/Celeb-real/{video}/frame{frame}.png,0,{male},1,-1\n"
    for video, frame, male in [("id0_0000", 1, 1), ("id0_0000", 11, -1), ("id1_0000", 1, -1)]
)


def unmasked(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture
def corpus(tmp_path):
    return celeb_df(tmp_path / "Celeb-DF-v2")


def test_scan_joins_files_of_several_code_books_and_writes_what_it_could_not_join(corpus, tmp_path):
    frames = touch(tmp_path / "a.csv", A_CELEB)
    mine = touch(tmp_path / "mine.csv", "video,skin_tone\nCeleb-real/id1_0000,9\nCeleb-real/id99_0000,2\n")
    report = tmp_path / "report.csv"
    code, said = unmasked(
        *("scan", f"root={corpus}", f"out={tmp_path / 'manifest.parquet'}"),
        *(f"annotations=[{frames},{mine}]", f"join_report={report}"),
    )
    assert code == 0, said
    assert "annotations, A-Celeb-DF: 2 of" in said
    assert "annotations, plain columns: 1 of" in said
    manifest = read_frame(tmp_path / "manifest.parquet").set_index("video")
    row = manifest.loc["Celeb-real/id1_0000"]
    assert row[["gender", "race", "skin_tone"]].tolist() == ["female", "white", 9]
    assert row["annotation"] == "A-Celeb-DF + plain columns"
    assert pd.isna(manifest.loc["Celeb-real/id0_0000", "gender"])
    written = read_frame(report)
    named = written[written["finding"] == "not_in_table"]
    assert named[["annotation", "video"]].to_numpy().tolist() == [["plain columns", "celeb-real/id99_0000"]]
    assert (written["finding"] == "not_annotated").sum() == 2 * len(manifest) - 3


def test_annotate_gives_each_score_the_annotation_of_its_frame(tmp_path):
    frames = touch(tmp_path / "a.csv", A_CELEB)
    scores = "dataset,video,frame,label,score\n" + "".join(
        f"Celeb-DF-v2,Celeb-real/id0_0000,{frame},0,0.5\n" for frame in (0, 10)
    )
    table = touch(tmp_path / "predictions.csv", scores)
    out = tmp_path / "annotated.csv"
    code, said = unmasked("annotate", f"table={table}", f"annotations={frames}", "policy=frame", f"out={out}")
    assert code == 0, said
    assert read_frame(out)["gender"].tolist() == ["male", "female"]
    code, said = unmasked("annotate", f"table={table}", f"annotations={frames}")
    assert code == 0, said
    assert read_frame(tmp_path / "predictions.annotated.csv")["gender"].isna().all()
    assert "videos whose frames disagree on gender: 1 (1 left missing, policy majority)" in said


def test_annotating_keeps_names_that_look_like_numbers(tmp_path):
    table = touch(tmp_path / "p.csv", "dataset,video,identity,label,score\nX,000,007,0,0.5\n")
    mine = touch(tmp_path / "mine.csv", "video,gender\n000,f\n")
    code, said = unmasked("annotate", f"table={table}", f"annotations={mine}")
    assert code == 0, said
    written = tmp_path / "p.annotated.csv"
    assert written.read_text().splitlines()[1].startswith("X,000,007,0,0.5,female")


def test_annotate_writes_over_no_file_that_it_reads_and_leaves_every_cell_as_it_was(tmp_path):
    """007 became 7, NA empty and 1e5 100000.0, in the user's own file."""
    rows = (
        "dataset,video,label,score,subject,site,visit,note\n"
        'A,v1,1,0.9,007,NA,1e5,"x ""q"""\n'
        "A,v2,0,0.1,012,None,00,  spaced\n"
        "A,v3,0,0.12345678901234567890,013,EU,1_000,True\n"
    )
    table = touch(tmp_path / "table.csv", rows)
    mine = touch(tmp_path / "mine.csv", "path,gender\nv1,female\nv2,divers\nv3,M\n")
    for key in (f"out={table}", f"out={mine}", f"join_report={table}"):
        code, said = unmasked("annotate", f"table={table}", f"annotations={mine}", key)
        assert code == 2
        assert "is a file that is read here" in said
    code, said = unmasked("annotate", f"table={table}", f"annotations={mine}")
    assert code == 0, said
    assert table.read_text() == rows
    written = (tmp_path / "table.annotated.csv").read_text().splitlines()
    assert written[1] == 'A,v1,1,0.9,007,NA,1e5,"x ""q""",female,,,,plain columns'
    assert written[2] == "A,v2,0,0.1,012,None,00,  spaced,divers,,,,plain columns"
    assert written[3] == "A,v3,0,0.12345678901234567890,013,EU,1_000,True,male,,,,plain columns"


@pytest.mark.parametrize("name", ["filename", "file_name", "image_path", "File Path"])
def test_annotations_may_call_their_files_as_tables_of_scores_do(tmp_path, name):
    """A column filename was "described by no code book"."""
    table = touch(tmp_path / "p.csv", "filename,label,score\na.mp4,1,0.5\nb.mp4,0,0.1\n")
    mine = touch(tmp_path / "mine.csv", f"{name},gender\na.mp4,f\nb.mp4,m\n")
    code, said = unmasked(
        "fairness", f"predictions={table}", f"annotations={mine}", "by=[gender]", "n_boot=100"
    )
    assert "2 of 2 rows annotated" in said, (code, said)


def test_scores_and_groups_by_file_name_join_whatever_stands_behind_the_point(tmp_path):
    """upload_0000.mp4 in both files did not join."""
    table = touch(tmp_path / "p.csv", "dataset,video,label,score\nu,upload_0000.mp4,1,0.5\nu,v1.0002,0,0.1\n")
    words = "weiblich,22\nv1.0002,männlich,70\n"
    groups = touch(tmp_path / "g.csv", f"\ufeffvideo;gender;age\nupload_0000.mp4,{words}".replace(",", ";"))
    code, said = unmasked("annotate", f"table={table}", f"annotations={groups}", "age_groups=[30,60]")
    assert code == 0, said
    assert "semicolons" in said
    joined = read_frame(tmp_path / "p.annotated.csv")
    assert joined["gender"].tolist() == ["weiblich", "männlich"]
    assert joined["age"].tolist() == ["under 30", "60 and over"]


def test_a_wrong_code_book_is_refused_with_what_to_do(corpus, tmp_path):
    frames = touch(tmp_path / "a.csv", A_CELEB)
    code, said = unmasked("scan", f"root={corpus}", f"annotations={frames}", "codebook=ai_face_v2")
    assert code == 2
    assert "has no column 'Image Path'" in said
    assert "codebook=" in said


def test_a_list_of_people_is_joined_by_identity(tmp_path):
    """A row a person, the commonest form of demographics, was "described by no code book"."""
    people = touch(tmp_path / "people.csv", "person,gender\n007,f\n012,m\n099,f\n")
    rows = "A,v1,007,1,0.5\nA,v2,012,0,0.1\nB,v1,012,0,0.2\nB,v3,,0,0.2\n"
    table = touch(tmp_path / "p.csv", f"dataset,video,identity,label,score\n{rows}")
    code, said = unmasked("annotate", f"table={table}", f"annotations={people}")
    assert code == 0, said
    written = pd.read_csv(tmp_path / "p.annotated.csv")["gender"]
    assert written.fillna("").tolist() == ["female", "male", "male", ""]
    bare = touch(tmp_path / "bare.csv", "dataset,video,label,score\nA,v1,1,0.5\nA,v2,0,0.1\n")
    code, said = unmasked("annotate", f"table={bare}", f"annotations={people}")
    assert code == 2
    assert "give it a column identity, or write a row for each video" in " ".join(said.split())
    others = touch(tmp_path / "others.csv", "person,gender\np007,f\n")
    code, said = unmasked("annotate", f"table={table}", f"annotations={others}")
    assert code == 2
    assert "have 'p007', the table has '007'; write the names alike" in " ".join(said.split())


@pytest.mark.parametrize("name", ["/mnt/data/CLIP_1.MOV", "Clip_1", "clip_1.mp4"])
def test_names_that_differ_in_case_or_folder_are_said_to(tmp_path, name):
    """The file was called "plain columns", and of another dataset, which it was not."""
    table = touch(tmp_path / "p.csv", "dataset,video,label,score\nA,clip_1.mp4,1,0.5\nA,clip_2.mp4,0,0.1\n")
    mine = touch(tmp_path / "mine.csv", f"video,gender\n{name},f\n")
    code, said = unmasked("annotate", f"table={table}", f"annotations={mine}")
    if name == "clip_1.mp4":
        assert code == 0, said
        return
    assert code == 2
    said = " ".join(said.split())
    assert f"of {mine} is in the table" in said
    assert (
        "the table has 'clip_1.mp4'; they differ in case, folder or dataset only: write the names alike"
        in said
    )


def test_a_strangers_table_is_annotated_and_its_cells_stay(tmp_path):
    """`annotate` wanted columns called dataset and video, which `evaluate` does not."""
    table = touch(
        tmp_path / "x.tsv", "Datei\tUrteil\tp %\n007\techt\t1,50\n008\tfalsch\t99\nTotal\t\t100,5\n"
    )
    mine = touch(tmp_path / "mine.csv", "video,gender\n007,w\n")
    code, said = unmasked("annotate", f"table={table}", f"annotations={mine}")
    assert code == 2
    assert "columns={video: " in said
    code, said = unmasked("annotate", f"table={table}", f"annotations={mine}", "columns={video: Datei}")
    assert code == 0, said
    lines = (tmp_path / "x.annotated.csv").read_text().splitlines()
    assert lines[0].startswith("Datei,Urteil,p %,gender")
    assert lines[1].startswith('007,echt,"1,50",female')
    assert lines[2].startswith("008,falsch,99,,")
    assert lines[3].startswith('Total,,"100,5",')


def test_annotate_takes_over_groups_of_few_words_and_names_every_column_that_it_does_not_use(tmp_path):
    """skin_tone_group and Alter of an annotation file vanished without a word."""
    table = touch(tmp_path / "p.csv", "video,label,score\na,1,0.5\nb,0,0.1\nc,0,0.2\nd,1,0.9\n")
    rows = "".join(
        f"{video},{sex},{tone},{years},{skin},{note},{years / 7},1\n"
        for video, sex, tone, years, skin, note in [
            ("a", "F", "light", 22, 1, "x"),
            ("b", "M", "Light ", 70, 6, "sent twice, see mail"),
            ("c", "F", "dark", 33, 3, "y"),
            ("d", "M", "unknown", 19, 2, "z"),
        ]
    )
    names = "video,Sex,skin_tone_group,Alter,fitzpatrick,note,quota,score"
    mine = touch(
        tmp_path / "mine.csv", f"{names}\n{rows}".replace("sent twice, see mail", '"sent twice, see"')
    )
    code, said = unmasked("annotate", f"table={table}", f"annotations={mine}", "age_groups=[30]")
    assert code == 0, said
    assert "columns that are not used" in said
    assert "quota, score" in said.replace("\n", " ")
    assert "skin_tone_group, fitzpatrick, note" in said
    joined = read_frame(tmp_path / "p.annotated.csv")
    assert joined["age"].tolist() == ["under 30", "30 and over", "30 and over", "under 30"]
    assert joined["skin_tone_group"].fillna("").tolist() == ["light", "light", "dark", ""]
    assert joined["fitzpatrick"].tolist() == [1, 6, 3, 2]
    code, said = unmasked(
        *("fairness", f"predictions={table}", f"annotations={mine}", "by=[skin_tone_group]"),
        *("min_clusters=1", "n_boot=100", "min_samples=1", f"out={tmp_path / 'f'}"),
    )
    assert code == 0, said
    assert said.count("columns that are not used") == 1


def test_annotations_with_no_column_of_groups_are_refused_by_name(tmp_path):
    table = touch(tmp_path / "p.csv", "video,label,score\na,1,0.5\nb,0,0.1\n")
    mine = touch(tmp_path / "mine.csv", "video,score,date\na,0.1,0.25\nb,0.2,0.5\n")
    code, said = unmasked("annotate", f"table={table}", f"annotations={mine}", "codebook=plain")
    assert code == 2
    assert "no column of groups" in said
