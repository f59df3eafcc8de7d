"""What the sources share: which files are there."""

import os

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from unmasked.datasets.listing import LISTED_FROM, is_there, kinds


def text(values):
    return pd.Series(values, dtype="str")


def test_listing_folders_says_what_asking_for_each_path_says(tmp_path):
    """Many files a folder (listed), few (asked for), links that lead nowhere, and folders that are files."""
    paths = []
    for folder, count in (("many", LISTED_FROM + 5), ("few", 2), ("many/deeper", LISTED_FROM), ("", 3)):
        (tmp_path / folder).mkdir(exist_ok=True)
        for number in range(count):
            name = f"{folder}/{number}.png" if folder else f"{number}.png"
            paths.append(name)
            if number % 3:
                (tmp_path / name).touch()
    (tmp_path / "many" / "0.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "many" / "3.png").symlink_to(tmp_path / "many" / "1.png")
    paths += [
        "absent/1.png",
        "many",
        "many/1.png/2.png",
        "../" + tmp_path.name + "/many/1.png",
        str(tmp_path),
    ]
    paths += [f"no_folder/{number}.png" for number in range(LISTED_FROM)]
    shuffled = text(paths).sample(frac=1, random_state=0)
    expected = [os.path.exists(tmp_path / path) for path in shuffled]
    found = is_there(shuffled, tmp_path)
    assert found.tolist() == expected
    assert found.index.equals(shuffled.index)
    assert 0 < np.sum(expected) < len(paths)


@given(
    st.lists(st.sampled_from(["a.MP4", "b.png", "c.JPEG", "d", "x.mp4/d", "e.txt", "f.png.avi"]), max_size=9)
)
@settings(max_examples=20, deadline=None)
def test_kinds_go_by_suffix_in_any_case(paths):
    known = {"a.MP4": "video", "b.png": "image", "c.JPEG": "image", "f.png.avi": "video"}
    assert kinds(text(paths)).tolist() == [known.get(path, "sequence") for path in paths]
