"""Pictures that are frames of a video, known by their names.

``real00_frame000.png`` is frame 0 of real00.
"""

from __future__ import annotations

import pandas as pd

from unmasked.datasets.listing import VIDEO_SUFFIXES, first_names

# A frame's number stands last, behind the video's name or the folder of the video.
_FRAME = (
    r"^(?P<stem>.*?)[/_\-. ]*(?:(?:frame|img|image|f)[_\-. ]*)?(?P<number>[0-9]{1,9})(?:\.[A-Za-z0-9]{2,5})?$"
)
_SAYS_FRAME = r"(?i)(?:frame[_\-. ]*[0-9]|[_\-. ]f[0-9]{4,}(?:\.|$))"
CLASSES_MAX = 8  # more stems or folders without numbers are videos, not classes or methods
PER_VIDEO_MIN = 2.0  # names for each stem, on average, from which on they look like frames


def video_stems(names: pd.Series) -> pd.Series:
    """The name of each picture without the number that ends it, its folder included.

    Itself without one.

    >>> list(video_stems(pd.Series(["real/r00_frame001.png", "000/0012.png", "a.jpg"])))
    ['real/r00', '000', 'a.jpg']
    """
    stem = names.astype(str).str.extract(_FRAME)["stem"]
    return stem.where(stem.notna() & (stem != ""), names.astype(str))


def frames_as_videos(names: pd.Series, label: pd.Series | None = None) -> str | None:
    """A sentence where names that should be videos look like frames of fewer videos.

    Else None.
    Names look like frames if they share stems: several numbers to a stem that is more than a folder of a
    class, in most of the names. Frames of real videos may stand beside pictures that a generator made one by
    one: where not most of all names look so, those of each class are looked at.

    Args:
        names: of rows that count as a video or image each.
        label: (N,) 1 = fake, where it is known.
    """
    if (found := _sentence(names)) or label is None or label.nunique() < 2:
        return found
    by_class = ((word, _sentence(names[label == value])) for value, word in ((0, "real"), (1, "fake")))
    said = [f"of the {word} ones, {sentence}" for word, sentence in by_class if sentence]
    return " and ".join(said) or None


def frame_stems(names: pd.Series, label: pd.Series) -> pd.Series:
    """The video that each name looks like a frame of.

    Of all names or of those of a class, as `frames_as_videos`.

    Args:
        names: of rows that count as a video or image each.
        label: (N,) 1 = fake.

    Returns:
        Names of videos, with the index of those names that look like frames.
    """
    if (stems := _stems_of_frames(names)) is not None:
        return stems
    found = [_stems_of_frames(names[label == value]) for value in (0, 1)]
    return pd.concat([pd.Series(dtype=object), *(stems for stems in found if stems is not None)])


def _sentence(names: pd.Series) -> str | None:
    if (stems := _stems_of_frames(names)) is None:
        return None
    names = names.drop_duplicates().astype(str)
    return (
        f"{len(stems)} of {names[~names.str.lower().str.endswith(VIDEO_SUFFIXES)].shape[0]} names look like "
        f"frames of {stems.nunique()} videos ({first_names(names[stems.index])})"
    )


def _stems_of_frames(names: pd.Series) -> pd.Series | None:
    """The stems of names that look like frames; None where the names as a whole do not."""
    names = names.drop_duplicates().astype(str)
    # A file that is a video is no frame of one.
    names = names[~names.str.lower().str.endswith(VIDEO_SUFFIXES)]
    if len(names) < 4:
        return None
    stems = video_stems(names)
    folder = names.str.rpartition("/")[0]
    # Deepfakes/clip_001, FaceSwap/clip_001: the same word in every folder names no video.
    if (folder != "").all() and stems.str.rpartition("/")[2].where(stems != folder, "").nunique() == 1:
        stems = folder
    # real/00001.jpg, real/00002.jpg: a folder of pictures that have numbers for names.
    in_folder_alone = stems == folder
    size = stems.map(stems.value_counts())
    folders = stems[in_folder_alone].nunique()
    # vid0/0000.jpg, vid1/0000.jpg: folders that are numbered themselves.
    last = stems.str.rpartition("/")[2]
    word = last.str.replace(r"\d+", "", regex=True)
    numbered = word.where(word != last)
    is_series = numbered.map(last.groupby(numbered).nunique()).fillna(0) >= 2
    several_folders = in_folder_alone & ((folders > CLASSES_MAX) | is_series)
    # real_001, fake_001: a few words that are not numbered name classes or methods.
    is_class = ~in_folder_alone & ~is_series & (stems[~in_folder_alone].nunique() <= CLASSES_MAX)
    is_class &= ~names.str.contains(_SAYS_FRAME)
    is_frame = (size >= PER_VIDEO_MIN) & (~in_folder_alone | several_folders) & ~is_class
    if is_frame.mean() < 0.8 or stems[is_frame].nunique() < 2:
        return None
    return stems[is_frame]


def tell_methods_apart(table: pd.DataFrame) -> tuple[pd.DataFrame, str | None]:
    """The table with ``<method>/<video>`` for fakes of one name, and a sentence on them.

    FaceForensics++ calls the fakes of all its methods alike: 000_001 of Deepfakes and of FaceSwap are two
    videos, and not one with twice the frames.

    Args:
        table: rows with dataset, video, label and method; without method it is returned as it is.

    >>> rows = {"dataset": "F", "video": ["000", "000_001", "000_001"], "label": [0, 1, 1]}
    >>> table = pd.DataFrame(rows | {"method": ["real", "Deepfakes", "FaceSwap"]})
    >>> list(tell_methods_apart(table)[0]["video"])
    ['000', 'Deepfakes/000_001', 'FaceSwap/000_001']
    """
    if "method" not in table or table["method"].nunique() < 2:
        return table, None
    is_fake = (table["label"] == 1) & table["method"].notna()
    fakes = table.loc[is_fake, ["dataset", "video", "method"]]
    pairs = fakes.drop_duplicates()
    repeated = pairs[pairs.duplicated(["dataset", "video"], keep=False)]
    if repeated.empty:
        return table, None
    shared = repeated.set_index(["dataset", "video"]).index
    rows = fakes.index[fakes.set_index(["dataset", "video"]).index.isin(shared)]
    apart = table.loc[rows, "method"].astype(str) + "/" + table.loc[rows, "video"].astype(str)
    names = table.loc[rows, "video"]
    sentence = (
        f"names of videos that several methods have, read as a video for each method: {names.nunique()} "
        f"({first_names(names.drop_duplicates())})"
    )
    return table.assign(video=table["video"].mask(table.index.isin(rows), apart)), sentence
