"""The engine's own nftables table: address translation, isolation, published ports.

    table inet <instance name>
      raw         127/8 from any wire is dropped (CVE-2020-8558; the bridges have route_localnet)
      prerouting  packets to an address of the host: published ports lead into containers
      output      the same for the host's own packets, so 127.0.0.1:8080 works
      postrouting masquerading: out to the world, from 127.0.0.1 in, and hairpins
      forward     in: only replies and published ports; between networks: only published ports;
                  internal networks: neither

All rules are replaced by one transaction (``apply``), published ports are single map elements.
What other rule sets on the host refuse is not decided here: see ``neighbours``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pannier.base.errors import Internal
from pannier.kernel.nftables import Nftables
from pannier.network.model import Network

MASQUERADE_OPTION = "com.docker.network.bridge.enable_ip_masquerade"
_EVERYWHERE = "0.0.0.0"


class Lead(NamedTuple):
    """One published port and where it leads."""

    protocol: str
    host_ip: str
    host_port: int
    address: str
    container_port: int


class Firewall:
    """One table.

    Args:
        nft: the library.
        instance_name: names the table.
        prefix: how the engine's bridges begin.
    """

    def __init__(self, nft: Nftables, instance_name: str, prefix: str) -> None:
        self._nft = nft
        self._prefix = prefix
        self.table = f"inet {instance_name}"

    def apply(self, networks: Iterable[Network], leads: Iterable[Lead]) -> None:
        """Put the whole table in force, atomically and whatever was there before.

        Raises:
            Internal: nftables refused; the former rules stay.
        """
        self._nft.run(self.text(list(networks), list(leads)))

    def text(self, networks: list[Network], leads: list[Lead]) -> str:
        """The commands of ``apply``."""
        table = self.table
        lines = [f"add table {table}", f"delete table {table}", f"table {table} {{"]
        lines += _maps(leads)
        lines += _CHAINS
        lines += ["chain postrouting {", "type nat hook postrouting priority srcnat;"]
        for network in networks:
            lines += _translation(network)
        lines += ["}", "chain forward {", "type filter hook forward priority filter;"]
        lines += self._forwarding(networks)
        return "\n".join([*lines, "}", "}"])

    def add(self, leads: Iterable[Lead]) -> None:
        """Open published ports, all or none."""
        self._elements("add", leads)

    def remove(self, leads: Iterable[Lead]) -> None:
        """Close published ports; those that are not there are passed over."""
        for lead in leads:
            try:
                self._elements("delete", [lead])
            except Internal:  # somebody flushed the rules
                continue

    def present(self) -> bool:
        """Whether the table is there (``nft flush ruleset`` takes it too)."""
        family, name = self.table.split()
        tables = [o["table"] for o in self._nft.query("list tables") if "table" in o]
        return any(t["family"] == family and t["name"] == name for t in tables)

    def delete(self) -> None:
        """Remove every rule of this table."""
        self._nft.run(f"add table {self.table}\ndelete table {self.table}")

    def _elements(self, command: str, leads: Iterable[Lead]) -> None:
        commands = []
        for lead in leads:
            name = "published" if lead.host_ip == _EVERYWHERE else "published_at"
            commands.append(f"{command} element {self.table} {name} {{ {_element(lead)} }}")
        if commands:
            self._nft.run("\n".join(commands))

    def _forwarding(self, networks: list[Network]) -> list[str]:
        ours = f'"{self._prefix}*"'
        lines = ["ct state established,related accept"]
        lines += [f'iifname "{n.bridge}" oifname "{n.bridge}" accept' for n in networks]
        for network in networks:
            if network.internal:
                lines += [f'iifname "{network.bridge}" drop', f'oifname "{network.bridge}" drop']
        lines += [f"oifname {ours} ct status dnat accept", f"oifname {ours} drop"]
        return lines


_CHAINS = [
    "chain raw {",
    "type filter hook prerouting priority raw;",
    'iifname != "lo" ip daddr 127.0.0.0/8 drop',
    "}",
    "chain lead {",
    "dnat ip to ip daddr . meta l4proto . th dport map @published_at",
    "dnat ip to meta l4proto . th dport map @published",
    "}",
    "chain prerouting {",
    "type nat hook prerouting priority dstnat;",
    "meta nfproto ipv4 fib daddr type local jump lead",
    "}",
    "chain output {",
    "type nat hook output priority -100;",
    "meta nfproto ipv4 fib daddr type local jump lead",
    "}",
]


def _maps(leads: list[Lead]) -> list[str]:
    everywhere = [_element(lead) for lead in leads if lead.host_ip == _EVERYWHERE]
    somewhere = [_element(lead) for lead in leads if lead.host_ip != _EVERYWHERE]
    return [
        "map published {",
        "type inet_proto . inet_service : ipv4_addr . inet_service;",
        *_listed(everywhere),
        "}",
        "map published_at {",
        "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;",
        *_listed(somewhere),
        "}",
    ]


def _listed(elements: list[str]) -> list[str]:
    return ["elements = { " + ", ".join(elements) + " }"] if elements else []


def _element(lead: Lead) -> str:
    place = "" if lead.host_ip == _EVERYWHERE else f"{lead.host_ip} . "
    return f"{place}{lead.protocol} . {lead.host_port} : {lead.address} . {lead.container_port}"


def _translation(network: Network) -> list[str]:
    bridge, subnet = f'"{network.bridge}"', network.subnet.subnet
    lines = [
        f"oifname {bridge} ip saddr 127.0.0.0/8 masquerade",
        # A container that reaches its neighbour by the host's address must get its replies from
        # there too.
        f"oifname {bridge} ip saddr {subnet} ct status dnat masquerade",
    ]
    wanted = network.options.get(MASQUERADE_OPTION, "true").lower() != "false"
    if wanted and not network.internal:
        lines.append(f"oifname != {bridge} ip saddr {subnet} masquerade")
    return lines
