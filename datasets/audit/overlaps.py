"""Who and what is on both sides of a border that evaluation relies on.

Between splits, between datasets.
A detector that saw a person, an original video or a file in training is not tested by meeting it again.
Compared are

- ``identity``: who is shown, and whose face was put into a fake: the person in its ``source_video``, or that
  name itself, where no real video of the dataset has it;
- ``video``: the originals that a fake was made of (``source_video``, ``target_video``), and these originals;
- ``file``: the same file listed on both sides.

Within a dataset every two splits are compared; between datasets what is trained on (train, val) with what
is tested on. A manifest and the one it is held ``against`` are training and test data: their train and val
rows and test rows, or all rows where they have none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.datasets.manifest import SPLITS
from unmasked.datasets.tables import TEXT

KINDS = ("identity", "video", "file")
COLUMNS = ["dataset", "video", "path", "root", "kind", "label", "split", "identity", "source_video"]
COLUMNS += ["target_video", "compression", "is_against"]
# Datasets that call the same people and originals by the same names: DeeperForensics and FaceShifter put
# faces into the videos of FaceForensics++; the first Celeb-DF is a part of the second.
FAMILIES = {
    "DeeperForensics-1.0": "FaceForensics++",
    "FaceShifter": "FaceForensics++",
    "Celeb-DF-v1": "Celeb-DF-v2",
}
# A name of a few letters and a number (000, id12, person_3, id54_id50_0006) is used by many datasets.
_NUMBERED = r"[\W_]*[A-Za-z]{0,8}\d*(?:[\W_]+[A-Za-z]{0,8}\d*)*"


@dataclass(frozen=True)
class Overlaps:
    """What is on both sides of a border.

    ``shared`` has a row for each value and pair of sides: kind, value, dataset, split, rows, other_dataset,
    other_split, other_rows, and ``certain``: False where two datasets merely use the same number as a name.
    ``summary`` has a row for each kind and pair of sides: the sides, certain, ``values`` shared out of
    ``values_of`` on the other side, and ``rows`` of the other side that they touch, out of ``rows_of``.
    The other side is what is tested on, or the later split.
    """

    shared: pd.DataFrame
    summary: pd.DataFrame


def overlaps(
    manifest: pd.DataFrame, against: pd.DataFrame | None = None, *, shared_names: bool = False
) -> Overlaps:
    """Identities, original videos and files that are on both sides of a border.

    Args:
        manifest: a manifest; a million rows take seconds.
        against: the manifest of other data to test on. It is compared with the first only.
        shared_names: whether equal names mean the same person or video in all datasets. Otherwise numbered
            names (``id12``) count between datasets of one family only, and are uncertain elsewhere.
    """
    rows, sides = rows_on_sides(manifest, against)
    held = _tokens([_people(rows), _originals(rows), _files(rows)])
    held["side"] = rows["side"].to_numpy()[held["row"]]
    counted = held.groupby(["token", "side"], sort=False).size().rename("rows").reset_index()
    value = held.drop_duplicates("token").set_index("token")[["kind", "value"]]
    totals = pd.Series(value["kind"].loc[counted["token"]].to_numpy()).groupby(counted["side"]).value_counts()
    # Most values are on one side only.
    counted = counted[counted["token"].duplicated(keep=False)]
    pairs = counted.merge(counted, on="token", suffixes=("", "_other"))
    pairs = pairs[is_comparable(sides)[pairs["side"], pairs["side_other"]]].reset_index(drop=True)
    pairs = pairs.join(value, on="token")
    pairs["certain"] = _is_certain(pairs, sides, shared_names)
    return Overlaps(_shared_table(pairs, sides), _summary(pairs, held, sides, totals))


def repeated_files(manifest: pd.DataFrame) -> pd.DataFrame:
    """The rows of files that are listed more than once, by ``file``, the full path."""
    file = _full_paths(manifest)
    twice = file.duplicated(keep=False)
    return manifest[twice].assign(file=file[twice]).sort_values("file", kind="stable")


def ties(rows: pd.DataFrame) -> NDArray[np.int64]:
    """(N, K) numbers of identities and originals of each `rows_on_sides` row, padded with -1.

    Rows of one dataset that share a number are of one person or made of one original.
    """
    held = _tokens([_people(rows), _originals(rows)])
    scope = rows["scope"].to_numpy()[held["row"]]
    # In order of appearance.
    number = held["token"].groupby([scope, held["token"]], sort=False, dropna=False).ngroup().to_numpy()
    place = held.groupby("row").cumcount().to_numpy()
    numbers = np.full((len(rows), place.max(initial=0) + 1), -1, np.int64)
    numbers[held["row"], place] = number
    return numbers


def rows_on_sides(
    manifest: pd.DataFrame, against: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both tables under each other, and the sides they are on.

    Returns:
        The rows, renumbered, with ``is_against``, ``side`` and ``scope`` (within which names are unique);
        and a row for each side: dataset, split, is_against, ``size``.
    """
    tables = [manifest.assign(is_against=False)]
    if against is not None:
        tables.append(against.assign(is_against=True))
    rows = pd.concat([table.reindex(columns=COLUMNS) for table in tables], ignore_index=True)
    split = pd.Categorical(rows["split"], categories=SPLITS).codes
    scope, _ = rows["dataset"].factorize()
    key = (rows["is_against"].to_numpy() * (scope.max(initial=0) + 1) + scope) * len(SPLITS) + split
    rows["side"] = np.unique(key, return_inverse=True)[1]
    rows["scope"] = scope
    sides = rows.drop_duplicates("side").set_index("side").sort_index()[["dataset", "split", "is_against"]]
    return rows, sides.assign(size=rows["side"].value_counts())


def is_comparable(sides: pd.DataFrame) -> NDArray[np.bool_]:
    """(S, S) True where what side i trains on may not be on side j."""
    dataset, split = sides["dataset"].to_numpy(dtype=object), sides["split"].to_numpy(dtype=object)
    against = sides["is_against"].to_numpy(dtype=bool)
    order = np.array([SPLITS.index(name) for name in split])
    # Data without a split that is trained on, or tested on, is all of it one or the other.
    trained = (order < 2) | (not (order[~against] < 2).any())
    tested = (order == 2) | ((not (order[against] == 2).any()) & against)
    within = (dataset[:, None] == dataset) & (order[:, None] < order) & ~against[:, None] & ~against
    between = (
        (dataset[:, None] != dataset) & (order[:, None] < 2) & (order == 2) & ~against[:, None] & ~against
    )
    across = (trained & ~against)[:, None] & (tested & against)
    return within | between | across


def _people(rows: pd.DataFrame) -> pd.DataFrame:
    """Who is shown in a row, and whose face was put in."""
    scope, put_in = rows["scope"], rows["source_video"].dropna()
    real = _real_names(rows)
    code = _codes(scope[put_in.index], put_in)
    # A source that is a real video identifies the person in it. DeeperForensics and Celeb-DF name the person.
    is_person = _is_among(code, _codes(scope, rows["identity"]))
    itself = put_in[is_person | ~_is_among(code, _codes(real["scope"], real["name"]))]
    person_of = real.dropna(subset="identity").drop_duplicates(["scope", "name"])
    wanted = pd.DataFrame({"scope": scope[put_in.index], "name": put_in.astype(TEXT)}).reset_index()
    of_video = wanted.merge(person_of, on=["scope", "name"]).set_index("index")["identity"]
    shown = [rows["identity"], itself, of_video]
    return pd.concat([_held_values(person, "identity") for person in shown])


def _originals(rows: pd.DataFrame) -> pd.DataFrame:
    """The originals a row was made of; for a real row that others were made of, itself."""
    scope, real = rows["scope"], _real_names(rows)
    listed = _codes(real["scope"], real["name"])
    source, target = (rows[name].dropna() for name in ("source_video", "target_video"))
    source = source[_is_among(_codes(scope[source.index], source), listed)]
    made_of = pd.concat([source, target])
    own = real[_is_among(listed, _codes(scope[made_of.index], made_of))].set_index("row")["name"]
    return pd.concat([_held_values(made_of, "video"), _held_values(own, "video")])


def _files(rows: pd.DataFrame) -> pd.DataFrame:
    path = _full_paths(rows)
    return _held_values(path[path.duplicated(keep=False)], "file")


def _full_paths(rows: pd.DataFrame) -> pd.Series:
    """Where a row's file is; rows without a root have the path as it stands."""
    path = rows["path"].astype(TEXT)
    if "root" not in rows:
        return path
    root = rows["root"].astype(TEXT).str.rstrip("/").fillna("")
    return (root + "/" + path).where(root != "", path)


def _real_names(rows: pd.DataFrame) -> pd.DataFrame:
    """What a fake may call each real row: its video, or the last part of it where that is not ambiguous.

    Columns row, scope, name, identity.
    """
    real = rows.loc[rows["label"] == 0, ["scope", "video", "identity"]].rename_axis("row").reset_index()
    if not rows["source_video"].notna().any() and not rows["target_video"].notna().any():
        real = real.iloc[:0]  # no fake names them
    real = real.rename(columns={"video": "name"})
    stem = real["name"].astype(TEXT).str.rsplit("/", n=1).str[-1]
    short = real.assign(name=stem.astype(TEXT))[(stem != real["name"]).to_numpy()]
    # One original at several compressions has one identity; two people's videos called 01 have two.
    person = short["identity"].astype(object).where(short["identity"].notna(), short["row"])
    people = person.groupby([short["scope"], short["name"]]).transform("nunique")
    columns = ["row", "scope", "name", "identity"]
    return pd.concat([real, short[(people == 1).to_numpy()]], ignore_index=True)[columns]


def _codes(scope: pd.Series, name: pd.Series) -> pd.Series:
    """Names made unique to their dataset; missing stays missing."""
    return scope.astype("int64").astype(TEXT) + "/" + name.astype(TEXT)


def _is_among(values: pd.Series, others: pd.Series) -> NDArray[np.bool_]:
    """(N,) True where a text is among the others; pandas' isin is slow on a million of them."""
    codes, _ = pd.concat([values, others.dropna()]).factorize()
    return np.isin(codes[: len(values)], codes[len(values) :])


def _held_values(values: pd.Series, kind: str) -> pd.DataFrame:
    values = values.dropna()
    return pd.DataFrame({"row": values.index.to_numpy(), "kind": kind, "value": values.astype(TEXT).array})


def _tokens(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """All that rows hold, once each, with ``token``: a number for each kind and value."""
    tables, first = [], 0
    for part in parts:
        token, values = part["value"].factorize()
        tables.append(part.assign(token=token + first))
        first += len(values)
    return pd.concat(tables, ignore_index=True).drop_duplicates(["token", "row"])


def _is_certain(pairs: pd.DataFrame, sides: pd.DataFrame, shared_names: bool) -> NDArray[np.bool_]:
    family = sides["dataset"].astype(object).replace(FAMILIES).to_numpy()
    same = family[pairs["side"]] == family[pairs["side_other"]]
    name = pairs["value"].astype(TEXT).str
    numbered = (name.fullmatch(_NUMBERED) & name.contains(r"\d")).to_numpy(dtype=bool)
    return same | (pairs["kind"] == "file").to_numpy() | ~numbered | shared_names


def _side_names(pairs: pd.DataFrame, sides: pd.DataFrame) -> dict[str, NDArray[np.object_]]:
    return {
        f"{prefix}{name}": sides[name].to_numpy(dtype=object)[pairs[column]]
        for prefix, column in (("", "side"), ("other_", "side_other"))
        for name in ("dataset", "split")
    }


def _shared_table(pairs: pd.DataFrame, sides: pd.DataFrame) -> pd.DataFrame:
    columns = [
        "kind",
        "value",
        "dataset",
        "split",
        "rows",
        "other_dataset",
        "other_split",
        "other_rows",
        "certain",
    ]
    shared = pairs.assign(**_side_names(pairs, sides), other_rows=pairs["rows_other"])[columns]
    return shared.sort_values(
        ["kind", "dataset", "split", "other_dataset", "other_split", "value"], ignore_index=True
    )


def _summary(pairs: pd.DataFrame, held: pd.DataFrame, sides: pd.DataFrame, totals: pd.Series) -> pd.DataFrame:
    keys = ["kind", "side", "side_other", "certain"]
    summary = pairs.groupby(keys, sort=False).size().rename("values").reset_index()
    touched = held.loc[held["token"].isin(pairs["token"]), ["token", "side", "row"]]
    touched = pairs[[*keys, "token"]].merge(
        touched.rename(columns={"side": "side_other"}), on=["token", "side_other"]
    )
    rows = touched.drop_duplicates([*keys, "row"]).groupby(keys).size().rename("rows").reset_index()
    summary = summary.merge(rows, on=keys)
    summary["rows_of"] = sides["size"].to_numpy()[summary["side_other"]]
    of_kind = [
        totals.get((side, kind), 0) for side, kind in zip(summary["side_other"], summary["kind"], strict=True)
    ]
    # Every row is a file; only those listed twice were counted.
    summary["values_of"] = summary["rows_of"].where(summary["kind"] == "file", of_kind)
    columns = ["kind", "dataset", "split", "other_dataset", "other_split", "certain"]
    columns += ["values", "values_of", "rows", "rows_of"]
    summary = summary.assign(**_side_names(summary, sides))[columns]
    return summary.sort_values(columns[:5], ignore_index=True)
