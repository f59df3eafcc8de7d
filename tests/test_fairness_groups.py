"""Group columns: names, missing values, crossings, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from unmasked.datasets.errors import InputError
from unmasked.fairness.groups import (
    UNKNOWN,
    as_columns,
    check_groups,
    cross,
    group_columns,
    group_names,
    order_groups,
    skin_tone_groups,
)

LABEL = np.array([0, 1, 0, 1])


def test_monk_tones_fall_into_the_three_published_groups():
    groups = skin_tone_groups(pd.Series(range(1, 11)))
    assert groups.tolist() == ["light"] * 3 + ["medium"] * 3 + ["dark"] * 4


def test_skin_tone_column_becomes_groups_and_keeps_missing_as_unknown():
    table = pd.DataFrame({"skin_tone": [2.0, np.nan, 8.0]})
    for name in ("skin_tone", "skin_tone_group"):
        assert group_columns(table, [name])["skin_tone_group"].tolist() == ["light", UNKNOWN, "dark"]


@pytest.mark.parametrize("tones", [[0, 5], [11, 5], ["pale", "dark"]])
def test_skin_tone_off_the_monk_scale_is_refused(tones):
    with pytest.raises(InputError, match="1 to 10"):
        skin_tone_groups(pd.Series(tones, name="skin_tone"))


def test_every_spelling_of_missing_is_the_unknown_group():
    values = pd.Series(["female", None, np.nan, "", " NaN ", "Unknown", "n/a"], dtype=object)
    assert group_names(values).tolist() == ["female", *[UNKNOWN] * 6]


def test_whole_numbers_that_pandas_read_as_floats_are_named_without_a_point():
    assert group_names(pd.Series([1.0, np.nan, 3.0])).tolist() == ["1", UNKNOWN, "3"]


@pytest.mark.parametrize("spelling", ["gender × skin_tone", "gender*skin_tone", "gender x skin_tone_group"])
def test_crossing_joins_groups_and_is_unknown_where_a_part_is(spelling):
    table = pd.DataFrame({"gender": ["female", "male", None], "skin_tone": [9, 2, 9]})
    column = group_columns(table, [spelling])["gender × skin_tone_group"]
    assert column.tolist() == ["female × dark", "male × light", UNKNOWN]


def test_cross_of_three_columns_is_possible():
    columns = [pd.Series(["a"], name="x"), pd.Series(["b"], name="y"), pd.Series(["c"], name="z")]
    assert cross(*columns).tolist() == ["a × b × c"]


def test_groups_are_read_in_their_scale_and_unknown_comes_last():
    assert order_groups(["unknown", "senior", "child", "adult"]) == ["child", "adult", "senior", "unknown"]
    assert order_groups(["male × dark", "female × dark", "female × light"]) == [
        "female × light",
        "female × dark",
        "male × dark",
    ]


def test_absent_column_is_named_with_the_nearest_one():
    table = pd.DataFrame({"gender": ["female"], "score": [0.5]})
    with pytest.raises(InputError, match=r"no column 'gendre'.*gender, score.*'gender' meant"):
        group_columns(table, ["gendre"])


def test_attribute_given_twice_is_refused():
    table = pd.DataFrame({"skin_tone": [1, 2]})
    with pytest.raises(InputError, match="stands twice"):
        group_columns(table, ["skin_tone", "skin_tone_group"])


def test_no_attribute_is_refused():
    with pytest.raises(InputError, match="no attribute to group by"):
        group_columns(pd.DataFrame({"gender": ["female"]}), [])


@pytest.mark.parametrize(
    "features",
    [
        pd.Series(["a", "b"], name="gender"),
        pd.DataFrame({"gender": ["a", "b"]}),
        {"gender": ["a", "b"]},
    ],
)
def test_named_features_of_every_kind_are_read(features):
    assert as_columns(features, 2)["gender"].tolist() == ["a", "b"]


def test_unnamed_features_are_called_as_in_fairlearn():
    assert list(as_columns(["a", "b"], 2)) == ["sensitive_feature_0"]
    two = as_columns(np.array([["a", "x"], ["b", "y"]]), 2)
    assert list(two) == ["sensitive_feature_0", "sensitive_feature_1"]
    assert two["sensitive_feature_1"].tolist() == ["x", "y"]


def test_index_of_the_features_does_not_matter():
    features = pd.Series(["a", "b"], index=[7, 3], name="gender")
    assert as_columns(features, 2)["gender"].tolist() == ["a", "b"]


@pytest.mark.parametrize("features", [["a"], {"gender": ["a"]}, pd.Series(["a"])])
def test_features_of_another_length_are_refused(features):
    with pytest.raises(InputError, match="1 values but y_true has 2"):
        as_columns(features, 2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a", "a", "a"], "one group only, 'a'"),
        ([UNKNOWN] * 4, "unknown in every row"),
        (["r", "f", "r", "f"], "is the label itself"),
    ],
)
def test_attribute_that_cannot_be_compared_is_refused(names, message):
    with pytest.raises(InputError, match=message):
        check_groups(pd.DataFrame({"x": names}), LABEL, np.arange(4))


def test_one_known_group_beside_unknown_is_refused():
    with pytest.raises(InputError, match="one group only"):
        check_groups(pd.DataFrame({"x": ["a", "a", UNKNOWN, UNKNOWN]}), LABEL, np.arange(4))


def test_hundreds_of_groups_are_refused():
    names = [f"person {number}" for number in range(400)]
    with pytest.raises(InputError, match=r"400 groups.*at most 50"):
        check_groups(pd.DataFrame({"x": names}), np.arange(400) % 2, np.arange(400))


def test_unit_in_two_groups_is_refused_by_name():
    groups = pd.DataFrame({"gender": ["female", "male", "female", "male"]})
    with pytest.raises(InputError, match="video 'v7' is in 2 groups of 'gender': female, male"):
        check_groups(groups, np.array([0, 0, 1, 1]), np.array(["v7", "v7", "v8", "v9"]), "video")


def test_unit_that_is_partly_unknown_is_accepted():
    groups = pd.DataFrame({"gender": ["female", UNKNOWN, "male", "male"]})
    check_groups(groups, np.array([0, 0, 0, 1]), np.array(["v7", "v7", "v8", "v8"]))
