"""``network``: ls, create, rm, connect, disconnect, prune."""

from __future__ import annotations

import sys
from typing import Any

from pannier.base.errors import NotFound
from pannier.base.ids import short
from pannier.cli.command import Command
from pannier.cli.each import confirm, each
from pannier.cli.flags import Flags
from pannier.cli.run_values import pairs
from pannier.cli.session import Session
from pannier.cli.tables import Listing, parse_filters

Json = dict[str, Any]


def _list(session: Session, flags: Flags, words: list[str]) -> int:
    full = flags.on("no-trunc")
    listing = Listing(
        {
            "ID": ("NETWORK ID", lambda n: n["Id"] if full else short(n["Id"])),
            "Name": ("NAME", lambda n: n["Name"]),
            "Driver": ("DRIVER", lambda n: n.get("Driver", "")),
            "Scope": ("SCOPE", lambda n: n.get("Scope", "")),
            "IPv6": ("IPV6", lambda n: bool(n.get("EnableIPv6"))),
            "Internal": ("INTERNAL", lambda n: bool(n.get("Internal"))),
            "Labels": (
                "LABELS",
                lambda n: ",".join(f"{k}={v}" for k, v in (n.get("Labels") or {}).items()),
            ),
            "CreatedAt": ("CREATED AT", lambda n: n.get("Created", "")),
        },
        ("ID", "Name", "Driver", "Scope"),
    )
    found = session.client.networks.list(filters=parse_filters(flags.list("filter")))
    form = flags.text("format") or ("{{.ID}}" if flags.on("quiet") else "")
    listing.show(sorted(found, key=lambda n: str(n["Name"])), form)
    return 0


def _create(session: Session, flags: Flags, words: list[str]) -> int:
    body: Json = {
        "Name": words[0],
        "CheckDuplicate": True,
        "Driver": flags.text("driver", "bridge"),
        "Internal": flags.on("internal"),
        "Attachable": flags.on("attachable"),
        "EnableIPv6": flags.on("ipv6"),
        "Options": pairs(flags.list("opt")),
        "Labels": pairs(flags.list("label")),
    }
    pools = _pools(flags)
    if pools:
        body["IPAM"] = {"Driver": "default", "Config": pools}
    sys.stdout.write(session.client.networks.create(body) + "\n")
    return 0


def _pools(flags: Flags) -> list[Json]:
    """Subnets with the gateways and ranges in the same order."""
    pools = []
    gateways, ranges = flags.list("gateway"), flags.list("ip-range")
    auxiliary = pairs(flags.list("aux-address"))
    for position, subnet in enumerate(flags.list("subnet")):
        pool: Json = {"Subnet": subnet}
        if position < len(gateways):
            pool["Gateway"] = gateways[position]
        if position < len(ranges):
            pool["IPRange"] = ranges[position]
        if position == 0 and auxiliary:
            pool["AuxiliaryAddresses"] = auxiliary
        pools.append(pool)
    return pools


def _remove(session: Session, flags: Flags, words: list[str]) -> int:
    def remove(name: str) -> None:
        try:
            session.client.networks.remove(name)
        except NotFound:
            if not flags.on("force"):
                raise

    return each(words, remove)


def _connect(session: Session, flags: Flags, words: list[str]) -> int:
    endpoint: Json = {"Aliases": flags.list("alias"), "DriverOpts": pairs(flags.list("driver-opt"))}
    addresses = {"IPv4Address": flags.text("ip"), "IPv6Address": flags.text("ip6")}
    addresses = {key: value for key, value in addresses.items() if value}
    if addresses:
        endpoint["IPAMConfig"] = addresses
    session.client.networks.connect(words[0], words[1], endpoint)
    return 0


def _disconnect(session: Session, flags: Flags, words: list[str]) -> int:
    session.client.networks.disconnect(words[0], words[1], force=flags.on("force"))
    return 0


def _prune(session: Session, flags: Flags, words: list[str]) -> int:
    question = "WARNING! This will remove all networks that no container uses."
    if not flags.on("force") and not confirm(question):
        return 0
    answer = session.client.networks.prune(parse_filters(flags.list("filter")))
    deleted = answer.get("NetworksDeleted") or []
    if deleted:
        sys.stdout.write("Deleted Networks:\n" + "".join(f"{name}\n" for name in deleted))
    return 0


COMMANDS = {
    "network ls": Command(
        _list,
        summary="List networks",
        options=(
            ("filter", "f", "list", "KEY=VALUE", "Only those: name, driver, label, dangling"),
            ("format", "", "text", "FORMAT", "table, json, or a template such as '{{.Name}}'"),
            ("no-trunc", "", "flag", "", "Show ids in full"),
            ("quiet", "q", "flag", "", "Ids only"),
        ),
        most=0,
        see=("network create", "inspect"),
    ),
    "network create": Command(
        _create,
        usage="NAME",
        summary="Create a network",
        options=(
            ("attachable", "", "flag", "", "Accepted for Docker's sake, no effect"),
            ("aux-address", "", "list", "NAME=IP", "Address that is never given out"),
            ("driver", "d", "text", "NAME", "bridge"),
            ("gateway", "", "list", "IP", "The bridge's own address"),
            ("internal", "", "flag", "", "No way out of it"),
            ("ip-range", "", "list", "CIDR", "Give out addresses of this part only"),
            ("ipv6", "", "flag", "", "Also IPv6"),
            ("label", "", "list", "KEY=VALUE", "Attach a label"),
            ("opt", "o", "list", "KEY=VALUE", "Option of the driver"),
            (
                "subnet",
                "",
                "list",
                "CIDR",
                "Such as 172.28.0.0/16 (default: a free one)",
            ),
        ),
        least=1,
        most=1,
        examples=(
            ("network create shop", "containers on it find each other by name"),
            ("network create --subnet 172.28.5.0/24 shop", "with addresses of your choice"),
            ("network create --internal vault", "nothing on it reaches the outside"),
        ),
        see=("run", "network connect", "network ls"),
    ),
    "network rm": Command(
        _remove,
        usage="NETWORK...",
        summary="Remove networks",
        options=(("force", "f", "flag", "", "No error if there is none"),),
        least=1,
        complete="network",
        see=("network prune",),
    ),
    "network connect": Command(
        _connect,
        usage="NETWORK CONTAINER",
        summary="Put a container on a further network, also while it runs",
        options=(
            ("alias", "", "list", "NAME", "Further name of it on that network"),
            ("driver-opt", "", "list", "KEY=VALUE", "Option of the driver"),
            ("ip", "", "text", "IP", "Address there"),
            ("ip6", "", "text", "IP", "IPv6 address there"),
        ),
        least=2,
        most=2,
        complete="network",
        examples=(("network connect --alias database shop db", "others call it `database` there"),),
        see=("network disconnect",),
    ),
    "network disconnect": Command(
        _disconnect,
        usage="NETWORK CONTAINER",
        summary="Take a container off a network",
        options=(("force", "f", "flag", "", "Also when the container is gone"),),
        least=2,
        most=2,
        complete="network",
        see=("network connect",),
    ),
    "network prune": Command(
        _prune,
        summary="Remove all networks that nothing uses",
        options=(
            ("filter", "", "list", "KEY=VALUE", "Only those: until=24h, label=KEY=VALUE"),
            ("force", "f", "flag", "", "Don't ask"),
        ),
        most=0,
        see=("system prune",),
    ),
}
