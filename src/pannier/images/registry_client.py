"""HTTP to one registry: addresses, tokens, blobs, manifests (OCI distribution-spec 1.1).

Knows nothing of stores or layers. A registry on this host may speak plain HTTP; all others must
speak HTTPS. Credentials are used for this registry and its token server only, and never logged.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from pannier.base.errors import Denied, InvalidArgument, NotFound, PannierError, Unavailable
from pannier.images.references import DEFAULT_DOMAIN, Reference
from pannier.oci.image import INDEX_TYPES, MANIFEST_TYPES, digest_of
from pannier.wire.images import RegistryAuth

_HUB = "registry-1.docker.io"
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_LARGEST_DOCUMENT = 8 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=120)
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as it was sent."""

    data: bytes
    media_type: str
    digest: str


class RegistryClient:
    """One registry. Use as ``async with``.

    Args:
        domain: as in a reference, ``docker.io`` or ``localhost:5000``.
        auth: credentials, or None to be anonymous.
    """

    def __init__(self, domain: str, auth: RegistryAuth | None = None) -> None:
        self._host = _HUB if domain == DEFAULT_DOMAIN else domain
        self._local = is_loopback(domain)
        self._auth = auth
        self._authorization: dict[str, str] = {}
        self._base: URL | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> RegistryClient:
        # Proxies of the environment are for the world outside.
        self._session = aiohttp.ClientSession(
            trust_env=not self._local, timeout=_TIMEOUT, auto_decompress=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def manifest(self, ref: Reference, version: str) -> Document:
        """The manifest or index of *version* (tag or digest), checked against a digest.

        Raises:
            NotFound: with Docker's wording.
            Unavailable, Denied.
        """
        accept = {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))}
        path = f"{ref.path}/manifests/{version}"
        async with self._request("GET", path, ref, headers=accept) as response:
            data = await _read_document(response)
        digest = digest_of(data)
        if ":" in version and digest != version:
            raise InvalidArgument(f"manifest verification failed for digest {version}")
        return Document(data, response.content_type, digest)

    async def document(self, ref: Reference, digest: str) -> bytes:
        """A small blob (an image config), checked.

        Raises:
            InvalidArgument: it has another digest.
        """
        async with self._request("GET", f"{ref.path}/blobs/{digest}", ref) as response:
            data = await _read_document(response)
        if digest_of(data) != digest:
            raise InvalidArgument(f"config verification failed for digest {digest}")
        return data

    async def blob(self, ref: Reference, digest: str) -> AsyncIterator[bytes]:
        """A blob in pieces; whoever reads it checks the digest."""
        async with self._request("GET", f"{ref.path}/blobs/{digest}", ref) as response:
            try:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    yield chunk
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._unreachable(error) from error

    async def has_blob(self, ref: Reference, digest: str) -> bool:
        """Whether the repository has this blob already."""
        try:
            async with self._request("HEAD", f"{ref.path}/blobs/{digest}", ref, push=True):
                return True
        except NotFound:
            return False

    async def upload(self, ref: Reference, digest: str, content: Path | bytes) -> None:
        """Store a blob in one piece (distribution-spec, "POST then PUT")."""
        path = f"{ref.path}/blobs/uploads/"
        async with self._request("POST", path, ref, push=True) as response:
            location = response.headers.get("Location", "")
        assert self._base is not None
        target = (self._base / f"v2/{path}").join(URL(location))
        target = target.update_query(digest=digest)
        headers = {"Content-Type": "application/octet-stream"}
        if isinstance(content, bytes):
            async with self._request("PUT", target, ref, push=True, headers=headers, data=content):
                return
        headers["Content-Length"] = str(content.stat().st_size)
        with content.open("rb") as file:
            async with self._request("PUT", target, ref, push=True, headers=headers, data=file):
                return

    async def put_manifest(self, ref: Reference, data: bytes, media_type: str) -> None:
        """Name what was uploaded."""
        headers = {"Content-Type": media_type}
        path = f"{ref.path}/manifests/{ref.version}"
        async with self._request("PUT", path, ref, push=True, headers=headers, data=data):
            return

    # -- one request

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str | URL,
        ref: Reference,
        *,
        push: bool = False,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, and ask again with a token if the registry wants one."""
        assert self._session is not None
        base = await self._find_base()
        url = path if isinstance(path, URL) else base / "v2" / "" / path
        try:
            for last in (False, True):
                async with self._session.request(
                    method, url, headers={**(headers or {}), **self._authorization}, data=data
                ) as response:
                    if response.status == 401 and not last:
                        await self._authorize(response, ref, push=push)
                        continue
                    await _check(response, ref)
                    yield response
                    return
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _find_base(self) -> URL:
        """HTTPS, or for a registry on this host whichever of both answers."""
        if self._base is not None:
            return self._base
        assert self._session is not None
        base = URL(f"https://{self._host}")
        if self._local and not await self._answers(base):
            base = base.with_scheme("http")
        self._base = base
        return base

    async def _answers(self, base: URL) -> bool:
        assert self._session is not None
        try:
            async with self._session.get(base / "v2" / ""):
                return True
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _unreachable(self, error: Exception) -> PannierError:
        reason = str(error) or type(error).__name__
        return Unavailable(
            f"cannot reach registry {self._host}: {reason}",
            hint="check the name and the network; a registry without TLS must be on this host",
        )

    async def _authorize(
        self, response: aiohttp.ClientResponse, ref: Reference, *, push: bool
    ) -> None:
        """Answer the challenge of a 401 (RFC 7235; distribution-spec token authentication)."""
        challenge = response.headers.get("WWW-Authenticate", "")
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            self._authorization = self._basic()
        elif kind.lower() == "bearer":
            values = dict(_CHALLENGE.findall(rest))
            actions = "pull,push" if push else "pull"
            values.setdefault("scope", f"repository:{ref.path}:{actions}")
            self._authorization = {"Authorization": f"Bearer {await self._token(values)}"}
        if not self._authorization:
            raise _denied(ref, "authentication required")

    async def _token(self, challenge: Mapping[str, str]) -> str:
        assert self._session is not None
        if self._auth and self._auth.registry_token:
            return self._auth.registry_token
        realm = challenge.get("realm", "")
        if not realm.startswith(("https://", "http://")):
            raise Unavailable(f"registry {self._host} names no usable token server")
        query = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        if self._auth and self._auth.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "refresh_token": self._auth.identity_token,
                "client_id": "pannier",
            }
            request = self._session.post(realm, data=form)
        else:
            request = self._session.get(realm, params=query, headers=self._basic())
        async with request as response:
            if response.status != 200:
                raise Denied(
                    f"registry {self._host} refused the credentials (status {response.status})",
                    hint="log in again",
                )
            answer = json.loads(await _read_document(response))
        return str(answer.get("token") or answer.get("access_token") or "")

    def _basic(self) -> dict[str, str]:
        auth = self._auth
        if auth is None:
            return {}
        secret = auth.auth
        if auth.username:
            secret = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
        return {"Authorization": f"Basic {secret}"} if secret else {}


def is_loopback(domain: str) -> bool:
    """Whether a registry's address is on this host."""
    host = URL(f"//{domain}").host or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _read_document(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        data += chunk
        if len(data) > _LARGEST_DOCUMENT:
            raise InvalidArgument(f"a document of the registry is larger than {_LARGEST_DOCUMENT}")
    return bytes(data)


async def _check(response: aiohttp.ClientResponse, ref: Reference) -> None:
    """Turn a status into an error of ours, with the words Docker uses."""
    if response.status < 400:
        return
    reason = _reason(await response.content.read(_CHUNK)) or f"status {response.status}"
    if response.status in (401, 403):
        raise _denied(ref, reason)
    if response.status == 404:
        raise NotFound(f"manifest for {ref.familiar} not found: {reason}")
    raise Unavailable(f"registry {ref.domain} answered {response.status}: {reason}")


def _denied(ref: Reference, reason: str) -> NotFound:
    """A registry does not tell "forbidden" from "not there", so neither does Docker."""
    return NotFound(
        f"pull access denied for {ref.familiar_name}, repository does not exist or may require "
        f"'docker login': {reason}"
    )


def _reason(body: bytes) -> str:
    """``code: message`` of the first error of a registry's answer."""
    try:
        first = json.loads(body)["errors"][0]
        return f"{str(first['code']).lower().replace('_', ' ')}: {first.get('message', '')}"
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
