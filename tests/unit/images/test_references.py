"""References as distribution/reference reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.base.errors import InvalidArgument
from pannier.images.references import Reference, is_id, parse

_HEX = "0123456789abcdef"
_DIGEST = "sha256:" + "0a" * 32

_component = st.from_regex(r"[a-z0-9]+(?:(?:[._]|__|-{1,3})[a-z0-9]+){0,2}", fullmatch=True)
_path = st.lists(_component, min_size=1, max_size=3).map("/".join)
_domain = st.one_of(
    st.just("docker.io"),
    st.just("localhost"),
    st.from_regex(r"[a-z0-9]{1,9}(?:\.[a-zA-Z0-9]{1,9}){1,2}(?::[0-9]{1,5})?", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,9}:[0-9]{1,5}", fullmatch=True),
    st.just("[::1]:5000"),
)
_tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
_digest = st.text(_HEX, min_size=64, max_size=64).map(lambda text: f"sha256:{text}")


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("library/debian:12", "docker.io/library/debian:12", "debian:12"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("me/app:v1", "docker.io/me/app:v1", "me/app:v1"),
        ("123/app", "docker.io/123/app:latest", "123/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
        ("quay.io/a__b/c-d.e", "quay.io/a__b/c-d.e:latest", "quay.io/a__b/c-d.e:latest"),
        ("Host/app", "Host/app:latest", "Host/app:latest"),
        (f"debian@{_DIGEST}", f"docker.io/library/debian@{_DIGEST}", f"debian@{_DIGEST}"),
        (f"debian:12@{_DIGEST}", f"docker.io/library/debian:12@{_DIGEST}", f"debian:12@{_DIGEST}"),
    ],
)
def test_known_forms(text: str, full: str, familiar: str) -> None:
    assert str(parse(text)) == full
    assert parse(text).familiar == familiar


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "a:", ":12", "/a", "a/", "a//b", "-a", "a-", "a..b", "Debian", "docker.io/Debian",
        "a:b c", "a:" + "t" * 129, "a@sha256:12", "a@", "a b", "a\n", "../a", "a/../b", "x" * 256,
        "a@md5:" + "0" * 32, "ab" * 32, "sha256:" + "ab" * 32, "http://a/b", "a:12/", "ä",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        parse(text)


@given(_domain, _path, _tag | st.just(""), _digest | st.just(""))
def test_what_is_written_is_read_back(domain: str, path: str, tag: str, digest: str) -> None:
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    reference = Reference(domain, path, tag or ("" if digest else "latest"), digest)
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference


@given(st.text(max_size=80))
def test_anything_is_parsed_or_refused(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidArgument:
        return
    assert parse(str(reference)) == reference


def test_ids() -> None:
    assert is_id("ab" * 32)
    assert is_id("sha256:" + "ab" * 32)
    assert not is_id("ab" * 31)
    assert not is_id("AB" * 32)
