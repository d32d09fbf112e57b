"""/etc/hostname, /etc/hosts and /etc/resolv.conf of a container, kept outside it and bound in."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from pannier.base.atomic import write_atomic
from pannier.base.errors import InvalidArgument
from pannier.engine.model import Record
from pannier.oci.runtime import Mount

RESOLVER = "127.0.0.11"
_NAMES = ("hostname", "hosts", "resolv.conf")
_HOST_GATEWAY = "host-gateway"


def write(
    directory: Path, record: Record, addresses: Sequence[str], gateway: str | None
) -> list[Mount]:
    """Write the three files and return their bind mounts.

    Args:
        directory: the container's own below the data directory.
        record: the container.
        addresses: its addresses without prefix length; empty without a network of its own.
        gateway: stands for ``host-gateway`` in ``--add-host``.

    Raises:
        InvalidArgument: a malformed ``--add-host``.
    """
    content = {
        "hostname": record.hostname + "\n",
        "hosts": _hosts(record, addresses, gateway),
        "resolv.conf": _resolv_conf(record, own_network=bool(addresses)),
    }
    for name, text in content.items():
        write_atomic(directory / name, text.encode(), 0o644)
    return mounts(directory)


def mounts(directory: Path) -> list[Mount]:
    """Bind mounts of the files that were written into *directory*."""
    return [
        {
            "destination": f"/etc/{name}",
            "type": "bind",
            "source": str(directory / name),
            "options": ["bind", "rw", "nosuid", "nodev", "noexec", "idmap", "rprivate"],
        }
        for name in _NAMES
    ]


def _hosts(record: Record, addresses: Sequence[str], gateway: str | None) -> str:
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "ff00::\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
    ]
    for entry in record.host_config.extra_hosts:
        name, _, address = entry.replace("=", ":", 1).partition(":")
        if address == _HOST_GATEWAY:
            address = gateway or "127.0.0.1"
        try:
            ipaddress.ip_address(address.strip("[]"))
        except ValueError:
            raise InvalidArgument(f'bad format for add-host: "{entry}"') from None
        lines.append(f"{address.strip('[]')}\t{name}")
    domain = record.config.domainname
    names = f"{record.hostname}.{domain} {record.hostname}" if domain else record.hostname
    lines += [f"{address}\t{names}" for address in addresses]
    return "\n".join(lines) + "\n"


def _resolv_conf(record: Record, *, own_network: bool) -> str:
    host = record.host_config
    try:
        inherited = Path("/etc/resolv.conf").read_text().splitlines()
    except FileNotFoundError:
        inherited = []
    if own_network:
        # Always ours: it asks the servers of --dns for what is no container's name.
        servers = [f"nameserver {RESOLVER}"]
    elif host.dns:
        servers = [f"nameserver {server}" for server in host.dns]
    else:
        servers = [line for line in inherited if line.startswith("nameserver")]
    search = [line for line in inherited if line.startswith("search")]
    options = [line for line in inherited if line.startswith("options")]
    if host.dns_search:
        search = [] if host.dns_search == ["."] else ["search " + " ".join(host.dns_search)]
    if host.dns_options:
        options = ["options " + " ".join(host.dns_options)]
    lines = [*search, *servers, *options]
    return "\n".join(lines) + "\n"
