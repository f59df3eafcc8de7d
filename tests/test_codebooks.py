"""Code books: every shipped one decodes, checks itself, and is found by looking at a file."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_trees import V2_HEADER, touch

from unmasked.datasets.annotations import read_annotations
from unmasked.datasets.codebooks import CodeBook, codebook_names, load_codebook
from unmasked.datasets.decoding import age_group, check_codes, decode_attributes, skin_tone_group
from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import DEMOGRAPHICS

V1_HEADER = "Image Path,Ground Truth Gender,Ground Truth Age,Ground Truth Race,Intersection,Target"
A_HEADER = ",path,label,male,young,middle_aged,senior,asian,white,black,bald"
A_CELEB_HEADER = ",path,label,male,white,black,bald"
FG_HEADER = "img_path,label,ismale,isasian,iswhite,isblack,intersec_label,spe_label"
FG_SHORT_HEADER = "img_path,label,ismale,iswhite,isblack,intersec_label"
BOOKS = codebook_names()


@pytest.mark.parametrize("name", BOOKS)
def test_every_code_book_loads_and_names_its_version(name):
    book = load_codebook(name)
    assert book.name
    assert set(book.attributes) <= set(DEMOGRAPHICS)


def test_an_unknown_code_book_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"'ai_face_v3' does not exist \(is 'ai_face_v\d' meant\?\)"):
        load_codebook("ai_face_v3")


def test_a_code_book_of_ones_own_is_a_file(tmp_path):
    path = touch(
        tmp_path / "mine.yaml", "name: mine\npath: [who]\nattributes: {race: {columns: [r], codes: {7: x}}}\n"
    )
    assert list(read_annotations(touch(tmp_path / "a.csv", "who,r\n1.mp4,7\n"), str(path))["race"]) == ["x"]
    with pytest.raises(InputError, match=r"mine\.yaml: attributes"):
        load_codebook(
            touch(tmp_path / "mine.yaml", "name: mine\npath: [who]\nattributes: {hair: {columns: [r]}}\n")
        )


# Reading


def test_the_published_first_row_of_ai_face_v2_decodes(tmp_path):
    row = "AI_Face_imagesV2/DMs/DCFACe/7856/6.jpg,1,3,6,1,1,4"
    read = read_annotations(touch(tmp_path / "train.csv", f"{V2_HEADER}\n{row}\n")).iloc[0]
    assert list(read[["gender", "age", "skin_tone", "label"]]) == ["male", "middle", 6, 1]
    assert read["annotation"] == "AI-Face v2"
    assert read["key"] == "AI_Face_imagesV2/DMs/DCFACe/7856/6"


def test_the_columns_that_the_readme_names_are_read_as_well(tmp_path):
    text = "Image Path,Gender,Age,Skin Tone,Intersection,Target\na.jpg,0,4,10,2,0\n"
    read = read_annotations(touch(tmp_path / "train.csv", text)).iloc[0]
    assert list(read[["gender", "age", "skin_tone", "label"]]) == ["female", "senior", 10, 0]


def test_the_reversed_intersection_of_early_2025_is_refused_and_called_so(tmp_path):
    rows = ["a.jpg,1,3,6,1,1,1", "b.jpg,0,3,9,1,2,5", "c.jpg,0,1,2,0,0,3"]
    with pytest.raises(InputError, match="reversed coding"):
        read_annotations(touch(tmp_path / "train.csv", "\n".join([V2_HEADER, *rows]) + "\n"))


def test_an_intersection_that_is_merely_wrong_names_the_row(tmp_path):
    rows = ["a.jpg,1,3,6,1,1,4", "b.jpg,0,3,9,1,2,4", "c.jpg,0,1,2,0,0,0"]
    with pytest.raises(InputError, match=r"1 of 3 rows \(row 3: 4, but female, dark\)"):
        read_annotations(touch(tmp_path / "train.csv", "\n".join([V2_HEADER, *rows]) + "\n"))


def test_a_tone_group_that_is_not_the_tones_is_refused(tmp_path):
    with pytest.raises(InputError, match="'Skin Tone Group' disagrees with skin_tone_group"):
        read_annotations(touch(tmp_path / "train.csv", f"{V2_HEADER}\na.jpg,1,3,6,1,2,5\n"))


def test_the_readmes_age_code_that_no_file_has_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"'Predicted Age' holds '5' in row 2.*0, 1, 2, 3, 4"):
        read_annotations(touch(tmp_path / "train.csv", f"{V2_HEADER}\na.jpg,1,5,6,1,1,4\n"))


def test_missing_codes_stay_missing_and_are_not_checked(tmp_path):
    rows = ["a.jpg,1,3,6,1,1,4", "b.jpg,,,,1,,", "c.jpg,0,,2,,0,"]
    read = read_annotations(touch(tmp_path / "train.csv", "\n".join([V2_HEADER, *rows]) + "\n"))
    assert read.loc[1, [*DEMOGRAPHICS]].isna().all()
    assert list(read["gender"].fillna("-")) == ["male", "-", "female"]
    assert list(read["label"].fillna(-1)) == [1, 1, -1]


def test_ai_face_v1_has_race_and_another_intersection(tmp_path):
    text = f"{V1_HEADER}\na.jpg,1,3,0,0,0\nb.jpg,0,2,2,6,1\n"
    read = read_annotations(touch(tmp_path / "test.csv", text), "ai_face_v1")
    assert read[["gender", "age", "race"]].to_numpy().tolist() == [
        ["male", "others", "asian"],
        ["female", "senior", "black"],
    ]
    assert read["skin_tone"].isna().all()
    with pytest.raises(InputError, match="disagrees with gender and race"):
        read_annotations(touch(tmp_path / "test.csv", f"{V1_HEADER}\na.jpg,1,3,0,4,0\n"), "ai_face_v1")


def test_a_file_of_another_version_is_refused(tmp_path):
    path = touch(tmp_path / "test.csv", f"{V1_HEADER}\na.jpg,1,3,0,0,0\n")
    with pytest.raises(InputError, match="none of the columns of AI-Face v2"):
        read_annotations(path, "ai_face_v2")
    with pytest.raises(InputError, match="no column 'Image Path'"):
        read_annotations(touch(tmp_path / "x.csv", "name,Predicted Gender\na,1\n"), "ai_face_v2")


def test_plain_columns_take_words_years_and_tones(tmp_path):
    text = "video,gender,age,skin_tone,race\n000,F,12,1,Asian\n001,male,25-34,10,\n"
    read = read_annotations(touch(tmp_path / "mine.csv", text), "plain")
    assert list(read["key"]) == ["000", "001"]
    assert list(read["gender"]) == ["female", "male"]
    assert list(read["age"]) == ["child", "25-34"]
    assert list(read["skin_tone"]) == [1, 10]
    assert list(read["race"].fillna("-")) == ["asian", "-"]


# Groups


def test_tones_are_grouped_as_1_to_3_4_to_6_and_7_to_10():
    groups = skin_tone_group(pd.Series([*range(1, 11), np.nan]))
    assert list(groups[:10]) == ["light"] * 3 + ["medium"] * 3 + ["dark"] * 4
    assert pd.isna(groups[10])


def test_years_are_grouped_at_13_25_45_and_60():
    years = pd.Series([0, 12.9, 13, 24, 25, 44, 45, 59, 60, 101, np.nan])
    expected = ["child"] * 2 + ["youth"] * 2 + ["adult"] * 2 + ["middle"] * 2 + ["senior"] * 2
    assert list(age_group(years)[:10]) == expected
    assert age_group(years)[10:].isna().all()


# Flags: a column a word


def test_flags_of_the_a_series_become_words(tmp_path):
    folder = "FaceForensics++/manipulated_sequences/Deepfakes/raw/face_images/000_003"
    rows = [
        f"0,{folder}/frame1.png,1,1,1,-1,-1,-1,1,-1,0",
        f"1,{folder}/frame11.png,1,-1,-1,-1,-1,-1,-1,-1,0",  # no age, none of the three
        f"2,{folder}/frame21.png,1,0,0,1,-1,0,-1,-1,0",  # undefined gender; race not settled
        f"3,{folder}/frame31.png,1,1,1,-1,1,-1,1,1,0",  # two ages, two races
        *[f"{n},{folder}/frame{n}1.png,1,1,1,-1,-1,1,-1,-1,0" for n in range(4, 64)],
    ]
    read = read_annotations(touch(tmp_path / "a.csv", "\n".join([A_HEADER, *rows])))
    assert read["annotation"].unique().tolist() == ["A-FF++"]
    said = read[["gender", "age", "race"]].fillna("-").to_numpy().tolist()
    assert said[:4] == [
        ["male", "youth", "white"],
        ["female", "-", "others"],
        ["-", "middle", "-"],
        ["male", "-", "-"],
    ]
    assert read["key"].unique().tolist() == ["deepfakes/000_003"]
    assert read["frame"][:4].tolist() == [1, 11, 21, 31]


def test_flags_that_often_contradict_each_other_are_refused(tmp_path):
    path = "x/original_sequences/youtube/raw/face_images/000/frame1.png"
    text = f"{A_HEADER}\n0,{path},0,1,1,-1,-1,1,1,-1,0\n"
    with pytest.raises(InputError, match=r"more than one of asian, white, black is 1 in 1 of 1 rows"):
        read_annotations(touch(tmp_path / "a.csv", text))


def test_a_flag_that_is_no_flag_is_refused(tmp_path):
    path = "x/original_sequences/youtube/raw/face_images/000/frame1.png"
    with pytest.raises(InputError, match=r"'male' holds '2' in row 2.*it lists 1, -1, 0"):
        read_annotations(touch(tmp_path / "a.csv", f"{A_HEADER}\n0,{path},0,2,1,-1,-1,-1,1,-1,0\n"))


def test_labels_that_the_folders_contradict_are_refused(tmp_path):
    """Celeb-DF's own list calls real 1; an annotation file made of it would, too."""
    text = f"{A_CELEB_HEADER}\n0,Celeb-DF-v2_faces_single/Celeb-real/id0_0001/frame1.png,1,1,1,-1,0\n"
    with pytest.raises(InputError, match=r"1 of 1 real images have the label 1 .*here 1 must mean fake"):
        read_annotations(touch(tmp_path / "a.csv", text))


# Fairness-Generalization: the same number, different people

FG_PATHS = {
    "fg_ffpp": "crops/ff++/0_Deepfakes_300_304_151.png",
    "fg_dfdc": "crops/dfdc/0_4316_71.png",
    "fg_dfd": "crops/dfd/0_23_19__secret_conversation__H4SUVFTL_271.png",
    "fg_celeb_df": "crops/celebdf/0_Celeb-synthesis_id54_id50_0006_91.png",
}


@pytest.mark.parametrize(("name", "path"), FG_PATHS.items())
def test_intersection_3_is_another_group_on_another_dataset(name, path, tmp_path):
    long = name in ("fg_ffpp", "fg_dfdc")
    text = f"{FG_HEADER}\n{path},1,1,-1,-1,-1,3,1\n" if long else f"{FG_SHORT_HEADER}\n{path},1,-1,1,-1,3\n"
    read = read_annotations(touch(tmp_path / "test.csv", text)).iloc[0]
    assert list(read[["gender", "race"]]) == (["male", "others"] if long else ["female", "white"])
    assert read["annotation"] == load_codebook(name).name


@pytest.mark.parametrize(("name", "path"), FG_PATHS.items())
def test_an_intersection_of_the_other_datasets_is_refused(name, path, tmp_path):
    if name in ("fg_ffpp", "fg_dfdc"):  # 3 is male, others: a white woman is 5
        text = f"{FG_HEADER}\n{path},1,-1,-1,1,-1,3,1\n"
    else:  # 3 is female, white: a man who is neither white nor black is 2
        text = f"{FG_SHORT_HEADER}\n{path},1,1,-1,-1,3\n"
    with pytest.raises(InputError, match="'intersec_label' disagrees with gender and race in 1 of 1 rows"):
        read_annotations(touch(tmp_path / "test.csv", text))


def test_a_book_with_other_races_than_the_file_is_refused(tmp_path):
    long = touch(tmp_path / "long.csv", f"{FG_HEADER}\n{FG_PATHS['fg_ffpp']},1,1,-1,-1,-1,3,1\n")
    with pytest.raises(
        InputError, match="a column 'isasian', which Fairness-Generalization Celeb-DF has not"
    ):
        read_annotations(long, "fg_celeb_df")
    short = touch(tmp_path / "short.csv", f"{FG_SHORT_HEADER}\n{FG_PATHS['fg_dfd']},1,1,-1,-1,2\n")
    with pytest.raises(InputError, match="none called isasian: without it, 'others' means other people"):
        read_annotations(short, "fg_ffpp")


# Found by looking


FILES = {
    "ai_face_v1": f"{V1_HEADER}\na.jpg,1,3,0,0,0\n",
    "ai_face_v2": f"{V2_HEADER}\na.jpg,1,3,6,1,1,4\n",
    "a_ffpp": f"{A_HEADER}\n"
    "0,FF/original_sequences/youtube/raw/face_images/000/frame1.png,0,1,1,-1,-1,-1,1,-1,0\n",
    "a_dfd": ",path,label,male,young,middle_aged,senior,white,black\n"
    "0,FF/original_sequences/actors/raw/face_images/01__kitchen_pan/frame1.png,0,1,1,-1,-1,1,-1\n",
    "a_dfdc": f"{A_HEADER}\n0,DFDC_validation_single/1/4000/frame1.png,0,1,1,-1,-1,-1,1,-1,0\n",
    "a_celeb_df": f"{A_CELEB_HEADER}\n0,Celeb-DF-v2_faces_single/Celeb-real/id0_0001/frame1.png,0,1,1,-1,0\n",
    "fg_ffpp": f"{FG_HEADER}\n{FG_PATHS['fg_ffpp']},1,1,-1,1,-1,1,1\n",
    "fg_dfdc": f"{FG_HEADER}\n{FG_PATHS['fg_dfdc']},1,1,-1,1,-1,1,1\n",
    "fg_dfd": f"{FG_SHORT_HEADER}\n{FG_PATHS['fg_dfd']},1,1,1,-1,0\n",
    "fg_celeb_df": f"{FG_SHORT_HEADER}\n{FG_PATHS['fg_celeb_df']},1,1,1,-1,0\n",
    "plain": "video,gender\n000,male\n",
}


@pytest.mark.parametrize("name", BOOKS)
def test_every_code_book_is_found_by_its_file(name, tmp_path):
    path = touch(tmp_path / "a.csv", FILES[name])
    read = read_annotations(path)
    assert read["annotation"].tolist() == [load_codebook(name).name]
    assert read["gender"].tolist() == ["male"]
    pd.testing.assert_frame_equal(read, read_annotations(path, name))


def test_a_file_that_two_books_fit_is_refused_with_both_names(tmp_path):
    text = f"{FG_HEADER}\ndfdc/ff++/a.png,1,1,-1,1,-1,1,1\n"
    with pytest.raises(
        InputError, match=r"as .*DFDC and as .*FaceForensics\+\+, .*codebook=fg_dfdc or codebook=fg_ffpp"
    ):
        read_annotations(touch(tmp_path / "a.csv", text))


def test_a_file_that_its_paths_do_not_tell_is_refused_not_guessed(tmp_path):
    path = touch(tmp_path / "a.csv", f"{FG_HEADER}\ncrops/img01.png,1,1,-1,1,-1,1,1\n")
    with pytest.raises(InputError, match=r"no paths like those: 'crops/img01.png'. Say which it is"):
        read_annotations(path)
    assert read_annotations(path, "fg_ffpp")["race"].tolist() == ["white"]


def test_a_file_that_no_book_describes_is_refused_with_its_columns(tmp_path):
    with pytest.raises(InputError, match=r"has the columns name, hair, which no code book describes"):
        read_annotations(touch(tmp_path / "a.csv", "name,hair\na,1\n"))


def test_a_file_at_odds_with_its_version_is_not_read_as_plain_columns(tmp_path):
    """Plain columns would accept `Skin Tone` alone and lose what is wrong."""
    text = f"{V2_HEADER}\na.jpg,1,3,6,1,1,1\nb.jpg,0,3,9,1,2,5\n"
    with pytest.raises(InputError, match="reversed coding"):
        read_annotations(touch(tmp_path / "a.csv", text))


def test_a_code_book_with_a_pattern_that_cannot_be_read_is_refused(tmp_path):
    book = touch(
        tmp_path / "mine.yaml",
        "name: mine\npath: [who]\nattributes: {race: {columns: [r]}}\nvideo_key: ['(?=x)(?P<video>.*)']\n",
    )
    with pytest.raises(InputError, match=r"mine.yaml: video_key: .*cannot be read"):
        load_codebook(book)


# Laws


def encoded(words: pd.DataFrame, book: CodeBook) -> pd.DataFrame:
    """The columns that say these words in the terms of the book; what `decode_attributes` undoes."""
    table = {}
    for attribute, coding in book.attributes.items():
        said = words[attribute]
        if coding.flags:
            for column, word in coding.flags.items():
                negative = said.notna() | False
                table[column] = np.where(said == word, 1, np.where(negative, -1, 0))
        elif coding.codes is None:
            table[coding.columns[0]] = said
        else:
            code = {word: number for number, word in reversed(coding.codes.items())}
            table[coding.columns[0]] = [
                code.get(word, np.nan) if isinstance(word, str) else np.nan for word in said
            ]
    for check in book.checks:
        parts = words.assign(skin_tone_group=skin_tone_group(words["skin_tone"]))[list(check.of)]
        code = {tuple(names): number for number, names in check.codes.items()}
        table[check.column] = [code.get(tuple(row), np.nan) for row in parts.to_numpy()]
    return pd.DataFrame(table, index=words.index)


def vocabulary(book: CodeBook, attribute: str) -> list:
    coding = book.attributes.get(attribute)
    if coding is None:
        return [None]
    if attribute == "skin_tone":
        return [None, *range(1, 11)]
    words = (
        [*coding.flags.values(), coding.none]
        if coding.flags
        else [*(coding.codes or {"white": "white"}).values()]
    )
    return [None, *filter(None, dict.fromkeys(words))]


@pytest.mark.parametrize("name", BOOKS)
@given(choices=st.lists(st.tuples(*[st.integers(0, 30)] * 4), min_size=1, max_size=30))
@settings(max_examples=15, deadline=None)
def test_decoding_undoes_encoding_and_its_checks_hold(name, choices):
    book = load_codebook(name)
    words = pd.DataFrame(
        [
            [
                (known := vocabulary(book, attribute))[choice % len(known)]
                for attribute, choice in zip(DEMOGRAPHICS, row, strict=True)
            ]
            for row in choices
        ],
        columns=list(DEMOGRAPHICS),
    ).astype({"skin_tone": "float64"})
    if name == "plain":
        words["age"] = None
    table = encoded(words, book)
    decoded = decode_attributes(table, book, "test")
    assert (
        decoded.astype(object)
        .where(decoded.notna(), None)
        .equals(words.astype(object).where(words.notna(), None))
    )
    check_codes(table, decoded, book, "test")


# Real files


def test_the_real_v1_sample_decodes_and_agrees_with_itself(shared):
    read = read_annotations(shared / "annotations" / "ai_face" / "v1_sample.csv")
    assert set(read["annotation"]) == {"AI-Face v1"}
    assert len(read) == 2499
    assert read["key"].str.fullmatch(r"youtube/\d{3}").all()
    assert set(read["race"]) == {"asian", "white", "black", "others"}
    assert (read["gender"] == "male").sum() == 127 + 852 + 42 + 69


def test_the_real_a_series_samples_decode_as_counted_by_hand(shared):
    folder = shared / "annotations" / "a_series"
    ffpp, celeb = (
        read_annotations(folder / "a_ffpp_sample.csv"),
        read_annotations(folder / "a_celebdf_sample.csv"),
    )
    raw = pd.read_csv(folder / "a_ffpp_sample.csv")
    assert (set(ffpp["annotation"]), set(celeb["annotation"])) == ({"A-FF++"}, {"A-Celeb-DF"})
    assert ffpp["gender"].value_counts().to_dict() == {"female": 1739, "male": 1230}
    assert celeb["gender"].value_counts().to_dict() == {"male": 2100, "female": 877}
    # Of 280 asian flags one is white as well; 188 rows have none of the three.
    assert ffpp["race"].value_counts()[["asian", "others"]].tolist() == [279, 188]
    assert celeb["race"].value_counts().to_dict() == {
        "white": 2634,
        "neither white nor black": 110,
        "black": 62,
    }
    only_young = (raw["young"] == 1) & (raw["middle_aged"] != 1) & (raw["senior"] != 1)
    assert (ffpp["age"] == "youth").equals(only_young)
    assert celeb["age"].isna().all()
    assert (ffpp["label"] == raw["label"]).all()
    assert (
        ffpp["key"]
        .str.match(r"(youtube/\d{3}|(deepfakes|face2face|faceswap|neuraltextures|faceshifter)/\d{3}_\d{3})$")
        .all()
    )
    assert (ffpp["frame"] % 10 == 1).all()


def test_two_sources_of_the_same_videos_agree_on_gender(shared):
    """A meaning check: a reversed coding of either would agree in a few per cent."""
    folder = shared / "annotations"
    sources = []
    for name in ("a_series/a_ffpp_sample.csv", "ai_face/v1_sample.csv"):
        read = read_annotations(folder / name)
        sources.append(
            read.dropna(subset=["gender"]).groupby("key")["gender"].agg(lambda each: each.mode()[0])
        )
    both = pd.concat(sources, axis=1, join="inner", keys=["a", "b"])
    assert len(both) > 100
    assert (both["a"] == both["b"]).mean() > 0.9


def test_a_reversed_copy_of_the_real_v1_sample_is_refused(shared, tmp_path):
    table = pd.read_csv(shared / "annotations" / "ai_face" / "v1_sample.csv")
    table["Intersection"] = (table["Intersection"] + 4) % 8
    table.to_csv(tmp_path / "reversed.csv", index=False)
    with pytest.raises(
        InputError, match=r"'Intersection' disagrees with gender and race in 2499 of 2499 rows"
    ):
        read_annotations(tmp_path / "reversed.csv")
