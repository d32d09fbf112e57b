"""Contexts as trees: a tar and a directory look alike, and nothing leads out of either."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.ignore import read_ignore
from pannier.build.selection import Digests, kind_of, select
from pannier.build.trees import DirectoryTree, TarTree, Tree, resolve, walk

FILES = {"a": "1", "dir/b": "22", "dir/sub/c": "333", "other/d": "4"}
LINKS = {"to-dir": "dir", "to-a": "/a", "dir/up": "../../../a", "loop": "loop", "gone": "nowhere"}


def _tar(tmp_path: Path) -> int:
    path = tmp_path / "context.tar"
    with tarfile.open(path, "w") as archive:
        for name, text in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
        for name, target in LINKS.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
            archive.addfile(info)
    return os.open(path, os.O_RDONLY)


def _directory(tmp_path: Path) -> int:
    root = tmp_path / "context"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        (root / name).chmod(0o644)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    return os.open(root, os.O_RDONLY)


@pytest.fixture(params=["tar", "directory"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TarTree | DirectoryTree]:
    fd = _tar(tmp_path) if request.param == "tar" else _directory(tmp_path)
    yield TarTree(fd) if request.param == "tar" else DirectoryTree(fd)
    os.close(fd)


def _text(tree: Tree, path: str) -> str | None:
    entry = resolve(tree, path)
    return None if entry is None else b"".join(tree.read(entry)).decode()


def test_walking_and_reading(tree: Tree) -> None:
    assert [entry.path for entry in walk(tree, "dir")] == [
        "dir/b",
        "dir/sub",
        "dir/sub/c",
        "dir/up",
    ]
    assert _text(tree, "dir/sub/c") == "333"
    assert tree.get("nothing") is None
    assert tree.get("a/b") is None


def test_links_stay_inside(tree: Tree) -> None:
    assert _text(tree, "to-dir/b") == "22"
    assert _text(tree, "to-a") == "1"
    assert _text(tree, "dir/up") == "1"
    assert _text(tree, "to-dir/../a") == "1"
    assert resolve(tree, "gone") is None
    assert resolve(tree, "loop") is None


def test_ignoring(tree: TarTree | DirectoryTree) -> None:
    tree.ignore(read_ignore("dir\n!dir/sub\nto-*\nother"))
    found = [entry.path for entry in walk(tree, "")]
    assert found == ["a", "dir", "dir/sub", "dir/sub/c", "gone", "loop"]


def test_selecting(tree: Tree) -> None:
    assert kind_of(select(tree, ["a"], "COPY", "x")) == "file"
    assert kind_of(select(tree, ["."], "COPY", "x")) == "dir"
    selected = select(tree, ["/*/[a-c]"], "COPY", "x")
    assert [(s.name, s.entry.path) for s in selected] == [("b", "dir/b"), ("b", "dir/b")]
    with pytest.raises(NotFound, match="COPY failed: no: file not found in x"):
        select(tree, ["no"], "COPY", "x")
    with pytest.raises(NotFound, match=r"ADD failed: no source files were specified: \*.no"):
        select(tree, ["*.no"], "ADD", "x")
    for path in ("..", "../a", "dir/../../a"):
        with pytest.raises(InvalidArgument, match="forbidden path outside the build context"):
            select(tree, [path], "COPY", "x")


def test_tar_and_directory_have_the_same_digest(tmp_path: Path) -> None:
    digests = []
    for fd, kind in ((_tar(tmp_path), TarTree), (_directory(tmp_path), DirectoryTree)):
        tree: Tree = kind(fd)
        selected = select(tree, ["a", "dir", "to-dir"], "COPY", "x")
        digests.append(Digests(tree).of(selected, owners=False))
        os.close(fd)
    assert digests[0] == digests[1]


def test_hard_links_and_replaced_members(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for text in ("old", "new"):
            info = tarfile.TarInfo("f")
            info.size = 3
            archive.addfile(info, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("sub/link")
        link.type, link.linkname = tarfile.LNKTYPE, "./f"
        archive.addfile(link)
    with path.open("rb") as stream:
        tree = TarTree(stream.fileno())
        assert _text(tree, "f") == "new"
        assert _text(tree, "sub/link") == "new"


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_tree_or_an_error(data: bytes) -> None:
    fd = os.memfd_create("tar")
    try:
        os.write(fd, data)
        with pytest.raises(InvalidArgument, match="invalid tar archive"):
            TarTree(fd)
    finally:
        os.close(fd)


_NAME = st.text(alphabet="ab./", min_size=1, max_size=8)


@given(st.lists(st.tuples(_NAME, st.sampled_from(["file", "dir", "link"]), _NAME), max_size=6))
def test_whatever_an_archive_names_stays_inside(members: list[tuple[str, str, str]]) -> None:
    """Resolving any path gives a path of the tree itself, or nothing."""
    kinds = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kinds[kind], target if kind == "link" else ""
            archive.addfile(info)
    fd = os.memfd_create("tar")
    try:
        os.write(fd, buffer.getvalue())
        try:
            tree = TarTree(fd)
        except InvalidArgument:
            return
        for name, _, target in members:
            for path in (name, target, f"{name}/{target}"):
                _check_inside(tree, path)
    finally:
        os.close(fd)


def _check_inside(tree: TarTree, path: str) -> None:
    entry = resolve(tree, path)
    if entry is not None:
        assert tree.get(entry.path) == entry
        assert ".." not in entry.path.split("/")
