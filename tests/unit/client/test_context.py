"""What of a directory is sent for a build, and tars that are unpacked."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.ignore import read_ignore
from pannier.client import tarball
from pannier.client.context import from_directory, from_text


def _names(context) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.pieces))) as archive:
        return sorted(archive.getnames())


def _make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        (["*.log"], "a.log", True),
        (["*.log"], "sub/a.log", False),
        (["**/*.log"], "sub/deep/a.log", True),
        (["**/*.log"], "a.log", True),
        (["node_modules"], "node_modules/x/y.js", True),
        (["/dist/"], "dist/a", True),
        (["# comment", ""], "a", False),
        (["*", "!keep"], "keep", False),
        (["*", "!keep"], "other", True),
        (["*", "!src/*.py"], "src/a.py", False),
        (["docs", "!docs/README.md"], "docs/README.md", False),
        (["a?c"], "abc", True),
        (["a[0-9]"], "a5", True),
        (["a/../b"], "b", True),
        (["foo**bar"], "foo/x/bar", True),
    ],
)
def test_dockerignore(rules: list[str], path: str, ignored: bool) -> None:
    assert read_ignore("\n".join(rules)).matches(path) is ignored


def test_ignored_files_are_not_sent(tmp_path: Path) -> None:
    _make(tmp_path, "Dockerfile", "a.py", "big/x", "big/keep", "sub/b.log")
    (tmp_path / ".dockerignore").write_text("big\n!big/keep\n**/*.log\nDockerfile\n")
    assert _names(from_directory(str(tmp_path))) == [
        ".dockerignore", "Dockerfile", "a.py", "big/keep", "sub",
    ]  # fmt: skip


def test_own_ignore_file_of_a_dockerfile(tmp_path: Path) -> None:
    _make(tmp_path, "deploy/Dockerfile", "a", "b")
    (tmp_path / ".dockerignore").write_text("a\n")
    (tmp_path / "deploy/Dockerfile.dockerignore").write_text("b\n")
    context = from_directory(str(tmp_path), str(tmp_path / "deploy/Dockerfile"))
    assert context.dockerfile == "deploy/Dockerfile"
    assert "a" in _names(context)
    assert "b" not in _names(from_directory(str(tmp_path), str(tmp_path / "deploy/Dockerfile")))


def test_dockerfile_outside_of_the_context(tmp_path: Path) -> None:
    _make(tmp_path, "context/a", "Elsewhere")
    context = from_directory(str(tmp_path / "context"), str(tmp_path / "Elsewhere"))
    assert _names(context) == [context.dockerfile, "a"]


def test_modes_links_and_owner(tmp_path: Path) -> None:
    _make(tmp_path, "Dockerfile", "run.sh")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("run.sh")
    data = b"".join(from_directory(str(tmp_path)).pieces)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        script, link = archive.getmember("run.sh"), archive.getmember("link")
    assert (script.mode, script.uid) == (0o755, 0)
    assert link.linkname == "run.sh"


def test_only_a_dockerfile() -> None:
    assert _names(from_text(b"FROM x\n")) == ["Dockerfile"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no Dockerfile at"):
        from_directory(str(tmp_path))
    with pytest.raises(NotFound, match="not found"):
        from_directory(str(tmp_path / "nowhere"))


def _tar(*members: tuple[str, bytes, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o755
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content.encode()))
            else:
                info.linkname = content
                archive.addfile(info)
    return out.getvalue()


def _pieces(data: bytes, size: int = 700):
    return (data[i : i + size] for i in range(0, len(data), size))


def test_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    _make(tmp_path / "in", "a", "sub/b")
    (tmp_path / "in/sub/link").symlink_to("../a")
    (tmp_path / "out").mkdir()
    pieces = tarball.tree(str(tmp_path / "in"), "top", owner=False)
    tarball.unpack(pieces, str(tmp_path / "out"), lambda name: name, owner=False)
    assert (tmp_path / "out/top/sub/b").read_text() == "sub/b"
    assert os.readlink(tmp_path / "out/top/sub/link") == "../a"


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", tarfile.REGTYPE, "x")],
        [("a/../../evil", tarfile.REGTYPE, "x")],
        [("link", tarfile.SYMTYPE, ".."), ("link/evil", tarfile.REGTYPE, "x")],
        [("link", tarfile.SYMTYPE, "/"), ("link/tmp/evil", tarfile.REGTYPE, "x")],
        [("hard", tarfile.LNKTYPE, "../secret")],
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, members) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("secret")
    with pytest.raises((InvalidArgument, OSError)):
        tarball.unpack(_pieces(_tar(*members)), str(inside), lambda name: name, owner=False)
    assert sorted(os.listdir(tmp_path)) == ["inside", "secret"]


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/name").symlink_to("../target")
    data = _tar(("name", tarfile.REGTYPE, "new"))
    tarball.unpack(_pieces(data), str(tmp_path / "in"), lambda name: name, owner=False)
    assert (tmp_path / "target").read_text() == "old"
    assert (tmp_path / "in/name").read_text() == "new"
