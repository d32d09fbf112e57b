"""Image references: ``debian`` is ``docker.io/library/debian:latest``, and back.

Grammar as github.com/distribution/reference: ``[domain/]path[:tag][@digest]``. Looking one up does
not belong here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pannier.base.errors import InvalidArgument

DEFAULT_DOMAIN = "docker.io"
_OFFICIAL = "library/"
_LONGEST_NAME = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_NAME = re.compile(rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_PATH})")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A full image reference.

    Args:
        domain: host and port of the registry.
        path: the repository on it.
        tag: or "" if only a digest was given.
        digest: ``sha256:...`` or "".
    """

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """``docker.io/library/debian``: without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: ``debian``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        short = self.path.removeprefix(_OFFICIAL)
        short = short if "/" not in short else self.path
        # A first component like "foo.bar" would be read back as a registry.
        return short if _split_domain(short) == (self.domain, self.path) else self.repository

    @property
    def familiar(self) -> str:
        """``debian:12`` or ``debian@sha256:...``."""
        return self.familiar_name + self._suffix

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest if there is one."""
        return self.digest or self.tag

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def with_tag(self, tag: str) -> Reference:
        return replace(self, tag=tag, digest="")

    def with_digest(self, digest: str) -> Reference:
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        return self.repository + self._suffix


def parse(text: str) -> Reference:
    """Read what a person typed; no tag means ``latest``.

    Raises:
        InvalidArgument: with Docker's wording.
    """
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _invalid(text, "the digest must be sha256: and 64 hexadecimal digits")
    name, tag = _split_tag(name)
    if tag is not None and not _TAG.fullmatch(tag):
        raise _invalid(text, "a tag has letters, digits, '_', '.', '-', and 128 characters at most")
    if not at and _ID.fullmatch(text):
        raise _invalid(text, "this is an image id; give a name")
    domain, path = _split_domain(name)
    _check_name(text, domain, path)
    return Reference(domain, path, tag or ("" if digest else "latest"), digest)


def is_id(text: str) -> bool:
    """Whether this can only be a full image id, with or without ``sha256:``."""
    return bool(_ID.fullmatch(text))


def _split_tag(name: str) -> tuple[str, str | None]:
    """The last colon starts a tag unless a slash follows: then it is the domain's port."""
    head, colon, tail = name.rpartition(":")
    if colon and "/" not in tail:
        return head, tail
    return name, None


def _split_domain(name: str) -> tuple[str, str]:
    """The first component is a domain only if it looks like one: a dot, a port, a capital."""
    first, slash, rest = name.partition("/")
    if not slash or (
        not set(first) & set(".:[") and first != "localhost" and first == first.lower()
    ):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _check_name(text: str, domain: str, path: str) -> None:
    if any(c.isupper() for c in path):
        raise _invalid(text, "repository name must be lowercase")
    if len(f"{domain}/{path}") > _LONGEST_NAME:
        raise _invalid(text, f"a repository name has {_LONGEST_NAME} characters at most")
    match = _NAME.fullmatch(f"{domain}/{path}")
    if not match or (match["domain"], match["path"]) != (domain, path):
        raise _invalid(text, "write it as [registry/]name[:tag]")


def _invalid(text: str, hint: str) -> InvalidArgument:
    return InvalidArgument(f"invalid reference format: '{text}'", hint=hint)
