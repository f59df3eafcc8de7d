"""Sequences in tar archives: read in place and in order; what cannot be trusted is refused by name."""

import gzip
import io
import os
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_trees import archive, frames, touch, wild_deepfake

from unmasked.datasets import archives
from unmasked.datasets.archives import ArchiveError, read_member_images, sequence_frames, sequence_members
from unmasked.datasets.scan import scan


def archive_of(folder, names, content=None):

    return archive(
        folder / "x.tar.gz", [(name, name.encode() if content is None else content) for name in names]
    )


def test_members_of_an_archive_come_in_frame_order(tmp_path):
    path = archive_of(tmp_path, [f"s/{number}.png" for number in (10, 2, 1)] + ["t/a.png", "s/._1.png"])
    assert sequence_members(path) == {"s": ["s/1.png", "s/2.png", "s/10.png"], "t": ["t/a.png"]}


def test_images_of_a_sequence_come_with_their_frame_index(tmp_path):
    archive_of(tmp_path, [f"s/{number}.png" for number in (10, 2, 1)])
    assert sequence_frames(tmp_path, "x.tar.gz!s") == [1, 2, 10]
    expected = [(1, b"s/1.png"), (2, b"s/2.png"), (10, b"s/10.png")]
    assert list(read_member_images(tmp_path, "x.tar.gz!s")) == expected
    assert list(read_member_images(tmp_path, "x.tar.gz!s", frames=[10, 1])) == [expected[0], expected[2]]


def test_an_unpacked_sequence_reads_like_an_archived_one(tmp_path):
    names = [f"s/{number}.png" for number in (10, 2, 1)]
    archive_of(tmp_path, names)
    for name in names:
        touch(tmp_path / name, name)
    assert list(read_member_images(tmp_path, "s")) == list(read_member_images(tmp_path, "x.tar.gz!s"))


def test_names_without_or_with_repeated_numbers_are_numbered_in_order(tmp_path):
    archive_of(tmp_path, ["s/left.png", "s/right.png", "t/a_1.png", "t/b_1.png"])
    assert sequence_frames(tmp_path, "x.tar.gz!s") == [0, 1]
    assert sequence_frames(tmp_path, "x.tar.gz!t") == [0, 1]


@pytest.mark.parametrize("name", ["/etc/x.png", "a/../../x.png", "C:\\x.png", "..\\x.png"])
def test_a_member_that_leaves_its_folder_refuses_the_archive(name, tmp_path):
    path = archive_of(tmp_path, ["s/0.png", name])
    with pytest.raises(ArchiveError, match="is refused"):
        sequence_members(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "RATIO_FREE_BYTES", 0)
    path = archive_of(tmp_path, ["s/0.png"], content=bytes(1 << 20))
    with pytest.raises(ArchiveError, match="over 100 times its size"):
        sequence_members(path)
    monkeypatch.setattr(archives, "MEMBER_BYTES_MAX", 1 << 19)
    with pytest.raises(ArchiveError, match=r"member 's/0\.png' is larger"):
        sequence_members(path)


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path):

    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = b"x", 1 << 32
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 12)))
    with pytest.raises(ArchiveError, match="absurd size"):
        sequence_members(path)


def test_an_archive_cut_anywhere_is_refused(tmp_path):

    path = tmp_path / "whole.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(3):
            entry = tarfile.TarInfo(f"s/{number}.png")
            entry.size = 700
            tar.addfile(entry, io.BytesIO(bytes(700)))
    content = path.read_bytes()
    short = tmp_path / "short.tar"
    for length in range(1, 3 * 1536 + 1, 137):
        short.write_bytes(content[:length])
        with pytest.raises(ArchiveError):
            sequence_members(short)


def test_a_sequence_that_is_not_there_is_named(tmp_path):
    archive_of(tmp_path, ["s/0.png"])
    with pytest.raises(ArchiveError, match=r"sequence x\.tar\.gz!t has no image"):
        sequence_frames(tmp_path, "x.tar.gz!t")
    with pytest.raises(ArchiveError, match=r"y\.tar\.gz does not exist"):
        sequence_frames(tmp_path, "y.tar.gz!s")
    with pytest.raises(ArchiveError, match="sequence s has no image"):
        sequence_frames(tmp_path, "s")


# Hostile archives in a dataset: refused by name, nothing written outside, the rest goes on


def member(name, kind=tarfile.REGTYPE, link="", size=0):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, link, size
    return entry


HOSTILE = {
    "traversal": [("../../outside.png", b"x")],
    "inner_traversal": [("a/../../../outside.png", b"x")],
    "absolute": [("/tmp/outside.png", b"x")],
    "windows": [("C:\\outside.png", b"x")],
    "backslashes": [("..\\..\\outside.png", b"x")],
    "soft_link": [("a/0.png", member("a/0.png", tarfile.SYMTYPE, "/etc/passwd"))],
    "hard_link": [("a/0.png", member("a/0.png", tarfile.LNKTYPE, "../../../etc/passwd"))],
    "link_then_file": [("a", member("a", tarfile.SYMTYPE, "/tmp")), ("a/outside.png", b"x")],
    "device": [("a/0.png", member("a/0.png", tarfile.CHRTYPE))],
    "fifo": [("a/0.png", member("a/0.png", tarfile.FIFOTYPE))],
}


def snapshot(folder):
    return sorted(
        (path.relative_to(folder).as_posix(), path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    )


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_by_name_and_the_rest_goes_on(kind, tmp_path):
    root = wild_deepfake(tmp_path / "deep" / "root")
    archive(root / "real_test" / f"{kind}.tar.gz", [*frames("good/0"), *HOSTILE[kind]])
    before = snapshot(tmp_path)
    result = scan(root)
    assert sum(f"{kind}.tar.gz is refused: member" in line for line in result.messages) == 1
    assert not result.manifest["path"].str.contains(kind).any()
    assert len(result.manifest) == 8
    for path in result.manifest["path"]:
        assert len(list(read_member_images(root, path))) == 3
    with pytest.raises(ArchiveError, match="is refused"):
        list(read_member_images(root, f"real_test/{kind}.tar.gz!good/0"))
    assert snapshot(tmp_path) == before
    assert not os.path.exists("/tmp/outside.png")


def test_a_bomb_costs_little_and_the_rest_goes_on(tmp_path):
    root = wild_deepfake(tmp_path)
    bomb = root / "fake_test" / "bomb.tar.gz"
    bomb.write_bytes(gzip.compress(member("a/0.png", size=1 << 35).tobuf() + bytes(64 << 20)))
    assert bomb.stat().st_size < 1 << 20
    result = scan(root)
    assert any("bomb.tar.gz is refused" in line and "larger than 64 MiB" in line for line in result.messages)
    assert len(result.manifest) == 8


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS_MAX", 50)
    path = archive_of(tmp_path, [f"s/{number}.png" for number in range(60)])
    with pytest.raises(ArchiveError, match="more than 50 files"):
        sequence_members(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_archive_of_a_dataset_is_refused_by_name(share, tmp_path):
    root = wild_deepfake(tmp_path)
    path = archive(root / "real_test" / "short.tar.gz", frames("a/0", range(300)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    result = scan(root)
    assert sum("short.tar.gz" in line and "again" in line for line in result.messages) == 1
    assert len(result.manifest) == 8


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 10_000), st.integers(0, 255))
def test_damage_anywhere_is_an_archive_error_and_writes_nothing(tmp_path_factory, tail, position, value):
    folder = tmp_path_factory.mktemp("damage")
    path = archive_of(folder, [f"s/{number}.png" for number in range(4)])
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(bytes(content) + tail)
    with suppress(ArchiveError):
        for name in sequence_members(path):
            list(read_member_images(folder, f"x.tar.gz!{name}"))
    assert os.listdir(folder) == ["x.tar.gz"]
