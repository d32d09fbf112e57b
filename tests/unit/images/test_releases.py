"""apt's source lists, and which of them make which release."""

from __future__ import annotations

from pathlib import Path

import pytest

from pannier.base.errors import NotFound, Unsupported
from pannier.images.aptsources import Source, parse_deb822, parse_one_line, read_sources
from pannier.images.releases import can_bootstrap, choose_sources, find_release

_DEB822 = """\
# the base
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://sec.example/debian-security
Suites: bookworm-security
# a comment in between
Components: main
"""


def test_deb822() -> None:
    assert list(parse_deb822(_DEB822)) == [
        Source("http://mirror.example/debian", "bookworm", ("main", "contrib")),
        Source("http://mirror.example/debian", "bookworm-updates", ("main", "contrib")),
        Source("http://sec.example/debian-security", "bookworm-security", ("main",)),
    ]


def test_one_line() -> None:
    text = """
    # deb http://off.example/debian bookworm main
    deb [ arch=amd64 signed-by=/k.gpg ] http://a.example/debian bookworm main contrib # why
    deb-src http://a.example/debian bookworm main
    deb http://b.example/ ./
    """
    assert list(parse_one_line(text)) == [
        Source("http://a.example/debian", "bookworm", ("main", "contrib")),
        Source("http://b.example/", "./", ()),
    ]


def test_files_that_apt_reads_and_no_others(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    line = "deb http://{}.example/debian bookworm main\n"
    (tmp_path / "sources.list").write_text(line.format("first"))
    (parts / "b.list").write_text(line.format("second"))
    (parts / "a.list.disabled").write_text(line.format("no"))
    (parts / "c d.list").write_text(line.format("no"))
    (parts / "secret.list").write_text("deb http://me:pw@s.example/debian bookworm main\n")
    (parts / "z.sources").write_text(_DEB822)
    uris = [source.uri for source in read_sources(tmp_path)]
    assert uris[:2] == ["http://first.example/debian", "http://second.example/debian"]
    assert len(uris) == 5
    assert not any("pw" in uri or "no." in uri for uri in uris)


def test_a_host_without_apt_has_no_sources(tmp_path: Path) -> None:
    assert read_sources(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("ref", "names"),
    [
        ("debian:12", ["debian:12", "debian:bookworm"]),
        ("debian:bookworm", ["debian:12", "debian:bookworm"]),
        ("docker.io/library/debian:13", ["debian:13", "debian:trixie"]),
        ("debian:12-os", ["debian:12-os", "debian:bookworm-os"]),
        ("ubuntu:noble", ["ubuntu:24.04", "ubuntu:noble"]),
    ],
)
def test_version_and_code_name_are_one_image(ref: str, names: list[str]) -> None:
    assert can_bootstrap(ref)
    assert find_release(ref).names() == names


@pytest.mark.parametrize("ref", ["debian", "alpine:3", "me/debian:12", "quay.io/debian:12", "x y"])
def test_what_cannot_be_made(ref: str) -> None:
    assert not can_bootstrap(ref)


def test_an_unknown_release_says_which_are_known() -> None:
    with pytest.raises(NotFound, match="no recipe to bootstrap debian:latest") as caught:
        find_release("debian")
    assert "debian:12" in str(caught.value.hint)


def test_updates_and_security_come_from_the_host() -> None:
    host = list(parse_deb822(_DEB822))
    chosen = choose_sources(find_release("debian:12"), host)
    assert [(s.uri, s.suite) for s in chosen] == [
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
        ("http://sec.example/debian-security", "bookworm-security"),
    ]
    assert {s.components for s in chosen} == {("main",)}


def test_another_release_of_the_same_archive() -> None:
    host = [Source("http://m.example/debian", "stable", ("main",))]
    assert choose_sources(find_release("debian:13"), host) == [
        Source("http://m.example/debian", "trixie", ("main",))
    ]


def test_a_mirror_replaces_the_base_only() -> None:
    chosen = choose_sources(
        find_release("debian:12"), list(parse_deb822(_DEB822)), "http://own.example/debian/"
    )
    assert [(s.uri, s.suite) for s in chosen] == [
        ("http://own.example/debian", "bookworm"),
        ("http://sec.example/debian-security", "bookworm-security"),
    ]


def test_without_any_archive_the_hint_says_how_to_give_one() -> None:
    host = list(parse_deb822(_DEB822))
    with pytest.raises(Unsupported, match="no archive of ubuntu") as caught:
        choose_sources(find_release("ubuntu:24.04"), host)
    assert "--mirror" in str(caught.value.hint)
