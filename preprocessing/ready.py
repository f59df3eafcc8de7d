"""Faces tables of crops made elsewhere: only the table is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from unmasked.datasets.archives import frame_indices, is_image, natural_key, split_sequence_path
from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.regular_files import open_regular
from unmasked.preprocessing.faces import frame_numbers
from unmasked.preprocessing.made import write_faces

RECIPE = "as found"
# How image files begin; WebP has its mark after the size.
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF")
_PNG_END = b"IEND\xaeB`\x82"


def faces_of_crops(manifest: pd.DataFrame, out: Path) -> pd.DataFrame:
    """The faces table of a manifest whose images and sequences are face crops already.

    Written to ``out``.
    Every image is a row. One that is empty, cut short or no image has status ``decode_error`` and a reason; a
    sequence or image that is not there is a row with frame -1. Boxes, points and matrices are missing, since
    nobody told them. Files are opened for their first and last bytes only, not decoded.

    Args:
        manifest: valid under `unmasked.datasets.manifest.MANIFEST`; kinds image and sequence.
        out: the table, ``.parquet`` or ``.csv``; paths of crops are relative to its folder.

    Raises:
        InputError: the manifest is empty, or a row is a video or a sequence in an archive.
    """
    manifest = MANIFEST.validate(manifest)
    is_archived = manifest["path"].map(lambda path: split_sequence_path(path)[1] is not None).astype(bool)
    unfit = (manifest["kind"] == "video") | is_archived
    if manifest.empty or unfit.any():
        what = (
            f"{manifest.loc[unfit, 'path'].iloc[0]} is no crop in a folder"
            if unfit.any()
            else "there is no row"
        )
        hint = "run preprocess" + (" crops=as_is" if is_archived.any() else "")
        raise InputError(f"{what}; a faces table is made at once of folders of crops alone: {hint}")
    folder = Path(out).resolve().parent
    files = manifest[["root", "path", "kind"]].astype(object)
    files = files.where(files.notna(), "")
    rows, position = [], []
    for index, (root, path, kind) in enumerate(files.itertuples(index=False, name=None)):
        found = list(_rows(Path(root) / path, kind, folder))
        rows += found
        position += [index] * len(found)
    kept = [name for name in manifest if name not in ("path", "root", "mask")]
    described = manifest.loc[position, kept].reset_index(drop=True)
    measured = pd.DataFrame(rows, columns=["frame", "crop", "status", "reason"])
    faces = pd.concat([described, measured.assign(face=0, recipe=RECIPE)], axis=1)
    return write_faces(faces, Path(out))


def fault_of(path: str) -> str | None:
    """What is wrong with an image file by its size, first and last bytes; None for nothing."""
    try:
        with open_regular(path) as stream:
            head = stream.read(12)
            if not head:
                return "zero bytes"
            if not head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:] != b"WEBP"):
                return "not an image"
            stream.seek(-min(64, os.fstat(stream.fileno()).st_size), os.SEEK_END)
            if head.startswith(_SIGNATURES[0]) and _PNG_END not in stream.read():
                return "cut short"
    except OSError as error:
        return error.strerror or str(error)
    return None


def _rows(path: Path, kind: str, folder: Path) -> Iterator[tuple[int, str | None, str, str | None]]:
    """(frame, crop, status, reason) of each image of a manifest row."""
    if kind == "image":
        names, base = [path.name], path.parent
        names = names if path.is_file() else []
    else:
        base = path
        names = sorted((name for name in _list_names(path) if is_image(name)), key=natural_key)
    if not names:
        yield -1, None, "missing_file", f"{path} has no image" if path.is_dir() else f"{path} does not exist"
        return
    relative = os.path.relpath(base.resolve(), folder).replace(os.sep, "/")
    numbers = [0] if kind == "image" else frame_numbers(frame_indices(names))
    for number, name in zip(numbers, names, strict=True):
        reason = fault_of(f"{base}/{name}")
        if reason:
            yield number, None, "decode_error", f"{name}: {reason}"
        else:
            yield number, f"{relative}/{name}", "ok", None


def _list_names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
