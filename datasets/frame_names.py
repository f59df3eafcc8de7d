"""Pictures that are frames of a video, known by their names: ``real00_frame000.png`` is frame 0 of real00."""

from __future__ import annotations

import pandas as pd

from unmasked.datasets.listing import named

# A frame's number stands last, behind the video's name or the folder of the video.
_FRAME = (
    r"^(?P<stem>.*?)[/_\-. ]*(?:(?:frame|img|image|f)[_\-. ]*)?(?P<number>[0-9]{1,9})(?:\.[A-Za-z0-9]{2,5})?$"
)
PER_VIDEO_MIN = 2.0  # names for each stem, on average, from which on they look like frames


def video_stems(names: pd.Series) -> pd.Series:
    """The name of each picture without the number that ends it, its folder included; itself without one.

    >>> list(video_stems(pd.Series(["real/r00_frame001.png", "000/0012.png", "a.jpg"])))
    ['real/r00', '000', 'a.jpg']
    """
    stem = names.astype(str).str.extract(_FRAME)["stem"]
    return stem.where(stem.notna() & (stem != ""), names.astype(str))


def frames_as_videos(names: pd.Series) -> str | None:
    """A sentence where names that should be videos look like frames of fewer videos; else None.

    Names look like frames if they share stems: several numbers to a stem that is more than a folder of a
    class, in most of the names.

    Args:
        names: of rows that count as a video or image each.
    """
    names = names.drop_duplicates().astype(str)
    if len(names) < 4:
        return None
    stems = video_stems(names)
    # real/00001.jpg, real/00002.jpg: a folder of pictures that have numbers for names.
    in_folder_alone = stems == names.str.rpartition("/")[0]
    size = stems.map(stems.value_counts())
    folders = stems[in_folder_alone].nunique()
    several_folders = in_folder_alone & (folders > 8)
    is_frame = (size >= PER_VIDEO_MIN) & (~in_folder_alone | several_folders)
    if is_frame.mean() < 0.8 or stems[is_frame].nunique() < 2:
        return None
    return (
        f"{int(is_frame.sum())} of {len(names)} names look like frames of {stems[is_frame].nunique()} videos "
        f"({named(names[is_frame])})"
    )
