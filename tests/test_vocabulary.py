"""Words for splits, labels, groups and datasets: the usual spellings, and nothing that is guessed."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmasked.datasets.codebooks import codebook_names, load_codebook
from unmasked.datasets.errors import InputError
from unmasked.datasets.vocabulary import (
    AGES,
    DATASETS,
    GENDERS,
    SPLITS,
    WORDS,
    canonical_dataset,
    group_ages,
    label_of,
    lookup,
    read_words,
    split_of,
    unify_spellings,
)


@pytest.mark.parametrize(
    ("words", "split"),
    [
        (("Train", "training", "TRAIN", "train "), "train"),
        (("Validation", "valid", "Val", "dev", "VALIDATION"), "val"),
        (("Test", "testing", "TEST"), "test"),
    ],
)
def test_splits_are_read_in_every_usual_spelling(words, split):
    said = []
    assert set(read_words(pd.Series(words, name="split"), "split", said)) == {split}
    assert len(said) == 1


def test_an_unknown_split_is_refused_with_what_was_found():
    with pytest.raises(InputError, match=r"holds 'holdout', which is no split.*Train \(2\), holdout \(1\)"):
        read_words(pd.Series(["Train", "Train", "holdout"], name="split"), "split", [])


def test_genders_of_seven_spellings_are_two_groups_and_other_words_stay():
    values = pd.Series(
        ["male", "Male", "M", "female", "Female ", "FEMALE", "F", "divers", "weiblich", None, "NA"]
    )
    said = []
    read = read_words(values.rename("gender"), "gender", said, unknown="keep")
    assert list(read[:9]) == ["male"] * 3 + ["female"] * 4 + ["divers", "weiblich"]
    assert read[9:].isna().all()
    assert "Male as male" in said[0].how


def test_middle_aged_and_young_are_the_groups_middle_and_youth():
    assert [lookup(word, "age") for word in ("middle_aged", "Middle-aged", "middle", "young", "youth")] == [
        *["middle"] * 3,
        *["youth"] * 2,
    ]


def test_all_code_books_say_genders_and_ages_in_the_words_of_the_vocabulary():
    """`middle_aged` in one book and `middle` in another were two groups in one table."""
    for name in codebook_names():
        book = load_codebook(name)
        for attribute, known in (("gender", GENDERS), ("age", AGES)):
            coding = book.attributes.get(attribute)
            if coding is None:
                continue
            words = {*(coding.codes or {}).values(), *coding.flags.values(), *filter(None, [coding.none])}
            assert words <= {*known, "others"}, f"{name} says {words - set(known)}"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("whichisreal", None),
        ("whichisreal_Fake", 1),
        ("whichisreal_Real", 0),
        ("0_real", 0),
        ("1_fake", 1),
        ("real_vs_fake", None),
        ("surreal", None),
        ("Deepfakes", 1),
        ("REALS", 0),
        ("true", None),
        ("1", None),
    ],
)
def test_whole_words_of_a_name_tell_real_from_fake(name, label):
    assert label_of(name) == label


@pytest.mark.parametrize(
    ("name", "split"), [("training_real", "train"), ("contest", None), ("train_test", None)]
)
def test_whole_words_of_a_name_tell_the_split(name, split):
    assert split_of(name) == split


def test_datasets_are_known_by_their_short_names():
    assert canonical_dataset("FF++") == canonical_dataset("faceforensics++") == "FaceForensics++"
    assert canonical_dataset("Celeb-DF") == canonical_dataset("CDF v2") == "Celeb-DF-v2"
    assert canonical_dataset("Celeb-DF-v1") != canonical_dataset("Celeb-DF-v2")
    assert canonical_dataset("mine") == "mine"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(WORDS)), st.data())
def test_every_spelling_is_found_in_any_case_and_means_itself(kind, data):
    word = data.draw(st.sampled_from(sorted(map(str, WORDS[kind]))))
    spelled = data.draw(
        st.sampled_from([word, word.upper(), word.title(), f" {word} ", word.replace("-", "_")])
    )
    assert str(lookup(spelled, kind)) == word


def test_words_that_differ_in_case_alone_become_one_and_none_is_a_word():
    said = []
    values = pd.Series(["None", "Glasses", "glasses", "glasses", "None"], name="eyewear")
    assert list(unify_spellings(values, said)) == ["None", "glasses", "glasses", "glasses", "None"]
    assert said[0].how == "'Glasses' as glasses"


def test_ages_become_the_groups_that_were_asked_for_and_others_are_refused():
    years = pd.Series([0, 29.9, 30, 49, 50, 99])
    assert group_ages(pd.Series([-1.0, 121.0, 999.0]), (30, 50)).isna().all()  # no age of a person
    assert list(group_ages(years, (30, 50))) == [*["under 30"] * 2, *["30 to 49"] * 2, *["50 and over"] * 2]
    for bounds in ((), (50, 30), (0, 10)):
        with pytest.raises(InputError, match=r"give the first year of each group"):
            group_ages(years, bounds)


def test_the_vocabulary_covers_the_manifests_splits():
    assert list(SPLITS) == ["train", "val", "test"]
    assert "FaceForensics++" in DATASETS
