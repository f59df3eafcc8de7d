"""Which tables a table was made from: each video's digest goes along with it.

The faces table keeps a digest of the manifest's row, predictions keep one of the faces' rows. Whoever meets
the earlier table again compares, and says how many videos have changed since.
"""

from __future__ import annotations

import pandas as pd

from unmasked.datasets.tables import digest_of_each
from unmasked.preprocessing.lost import KEY

MANIFEST_DIGEST = "manifest_digest"
FACES_DIGEST = "faces_digest"

# Not what annotations say, which may come later, nor where files or crops lie, which `join` moves.
_OF_MANIFEST = (
    *("dataset", "video", "path", "kind", "method", "split", "identity", "source_video", "target_video"),
    *("compression", "mask"),
)
_OF_FACES = ("dataset", "video", "method", "split", "identity", "compression", "status", "recipe")
_MEASURED = ("frame", "face", "label", "size_px", "blur")


def manifest_digests(manifest: pd.DataFrame) -> pd.Series:
    """(N,) 16 hex digits of each row of a manifest."""
    return digest_of_each(manifest, _key(manifest), text=_OF_MANIFEST, numbers=("label",))


def faces_digests(faces: pd.DataFrame) -> pd.Series:
    """(N,) 16 hex digits of the rows of each row's video in a faces table.

    The digest of its manifest is among them.
    """
    return digest_of_each(faces, _key(faces), text=(*_OF_FACES, MANIFEST_DIGEST), numbers=_MEASURED)


def changes_since(later: pd.DataFrame, column: str, earlier: pd.DataFrame, digests: pd.Series) -> str:
    """How many videos of a table were made from other rows than there are now.

    "" where none were, or the later table does not say what it was made from.

    Args:
        later: the table that was made.
        column: its digests, `MANIFEST_DIGEST` or `FACES_DIGEST`.
        earlier: the table that it was made from, as it is now.
        digests: (N,) of the earlier table's rows, as they are now.
    """
    if column not in later or later[column].isna().all():
        return ""
    key = [name for name in KEY if name in later and name in earlier]
    then = later[later[column].notna()].drop_duplicates(key)[[*key, column]]
    now = earlier[key].assign(now=digests).drop_duplicates(key)
    both = then.merge(now, on=key, how="left", indicator=True)
    gone = both["_merge"] == "left_only"
    # What an earlier version wrote has no digest, and nothing is known of it.
    unlike = both["now"].notna() & (both["now"] != both[column])
    parts = []
    if unlike.any():
        first = "/".join(both.loc[unlike, ["dataset", "video"]].iloc[0])
        parts.append(f"{int(unlike.sum())} of {len(both)} videos are not what they were (first: {first})")
    if gone.any():
        first = "/".join(both.loc[gone, ["dataset", "video"]].iloc[0])
        parts.append(f"{int(gone.sum())} of {len(both)} are not in it any more (first: {first})")
    return ", and ".join(parts)


def manifest_changes(faces: pd.DataFrame, manifest: pd.DataFrame) -> str:
    """How many videos of a faces table a manifest now describes otherwise; "" if none."""
    found = changes_since(faces, MANIFEST_DIGEST, manifest, manifest_digests(manifest))
    return found and f"{found}; run `unmasked preprocess` again, which keeps the crops that are still right"


def _key(table: pd.DataFrame) -> list[str]:
    return [name for name in KEY if name in table]
