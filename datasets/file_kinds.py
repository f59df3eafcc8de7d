"""What a file is by its first bytes, where that is not what its name says."""

from __future__ import annotations

from pathlib import Path

LFS = "a Git LFS pointer in place of the file; `git lfs pull` fetches the file itself"
# How files begin that are of one kind alone.
SIGNATURES = (
    (b"version https://git-lfs", LFS),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"PAR1", "a Parquet file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook or other Office file"),
    (b"%PDF", "a PDF"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x1aE\xdf\xa3", "a Matroska video"),
    (b"PK\x03\x04", "a ZIP archive"),
)
MARKUP = (
    (b"<", "a web page or XML; perhaps a login page was downloaded in its place. Download it again"),
    (b"{", "JSON"),
    (b"[", "JSON"),
)
STILL_BRANDS = (b"heic", b"heix", b"mif1", b"avif", b"avis")
LOOKED_AT = 512
BOXES_MAX = 1000  # of an MP4 file, looked through for its index


def kind_of_bytes(start: bytes) -> str:
    """What a file is that begins so, in words with what to do; "" where nothing is known.

    >>> kind_of_bytes(b"PAR1..."), kind_of_bytes(b"\\x80\\x04")
    ('a Parquet file', '')
    """
    visible = start.lstrip(b"\xef\xbb\xbf\r\n\t ")
    marks = ((start, SIGNATURES), (visible, MARKUP))
    if start[4:8] == b"ftyp":
        return "a HEIC or AVIF picture" if start[8:12] in STILL_BRANDS else "an MP4 or MOV video"
    if start[:4] == b"RIFF":
        return {b"WEBP": "a WebP picture", b"AVI ": "an AVI video"}.get(start[8:12], "")
    return next((kind for text, kinds in marks for sign, kind in kinds if text.startswith(sign)), "")


def kind_of_file(path: Path) -> str:
    """What a file is in words; "text" where it is that, "" where nothing is known."""
    with open(path, "rb") as stream:
        start = stream.read(LOOKED_AT)
    if not start:
        return "empty"
    is_text = all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start)
    return kind_of_bytes(start) or ("text" if is_text else "")


def is_cut_off(path: Path) -> bool:
    """True if an MP4 or MOV file lacks its index (``moov``), which often stands last.

    Boxes as ISO/IEC 14496-12, 4.2: four bytes of size, four of type, eight of size where the first is 1.
    """
    with open(path, "rb") as stream:
        if kind_of_bytes(stream.read(LOOKED_AT)) != "an MP4 or MOV video":
            return False
        place = 0
        for _ in range(BOXES_MAX):
            stream.seek(place)
            head = stream.read(16)
            if head[4:8] == b"moov":
                return False
            size = int.from_bytes(head[:4], "big")
            size = int.from_bytes(head[8:16], "big") if size == 1 else size
            if size < 8 or size >= 1 << 62:  # 0: to the end of the file
                return True
            place += size
    return False
