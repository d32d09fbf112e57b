from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import pytest

from pannier.base.errors import Internal
from pannier.kernel.nftables import Nftables
from pannier.network.bridge import bridge_name, prefix_of, veth_name
from pannier.network.firewall import MASQUERADE_OPTION, Firewall, Lead
from pannier.network.model import Network, Subnet
from pannier.network.neighbours import Neighbours


class FakeNft(Nftables):
    """Records what is run; ``list`` commands are answered from *answers*."""

    def __init__(self, **answers: list[dict[str, Any]]) -> None:
        self.answers = {key.replace("_", " "): value for key, value in answers.items()}
        self.ran: list[str] = []
        self.refuse = False

    def run(self, commands: str) -> str:
        if self.refuse:
            raise Internal("nftables refused")
        self.ran += commands.splitlines()
        return ""

    def query(self, command: str) -> list[dict[str, Any]]:
        return self.answers.get(command, [])


class FakeIptables:
    """Chains as lists of rules, with just the options that are used."""

    def __init__(self, **chains: list[str]) -> None:
        self.chains = {name.replace("_", "-"): rules for name, rules in chains.items()}

    def __call__(self, arguments: Sequence[str]) -> str:
        command, chain, *rest = arguments
        rules = self.chains[chain]
        if command == "-S":
            return "\n".join([f"-N {chain}", *rules])
        text = f"-A {chain} " + " ".join(f'"{w}"' if " " in w else w for w in rest)
        if command == "-I":
            rules.insert(0, text)
        else:
            rules.remove(next(r for r in rules if shlex.split(r) == shlex.split(text)))
        return ""


NET = Network("1" * 64, "n", "pn-1", Subnet("10.0.1.0/24", "10.0.1.1"), 0)
INNER = Network("2" * 64, "i", "pn-2", Subnet("10.0.2.0/24", "10.0.2.1"), 0, internal=True)
LEADS = [
    Lead("tcp", "0.0.0.0", 8080, "10.0.1.2", 80),
    Lead("udp", "127.0.0.1", 53, "10.0.1.2", 5353),
]


def chain(family: str, table: str, name: str, hook: str, policy: str) -> dict[str, Any]:
    facts = {"family": family, "table": table, "name": name, "hook": hook, "policy": policy}
    return {"chain": {**facts, "type": "filter"}}


def test_the_table_as_text() -> None:
    text = Firewall(FakeNft(), "pannier", "pn-").text([NET, INNER], LEADS)
    lines = text.splitlines()
    assert lines[:3] == [
        "add table inet pannier",
        "delete table inet pannier",
        "table inet pannier {",
    ]
    assert "elements = { tcp . 8080 : 10.0.1.2 . 80 }" in lines
    assert "elements = { 127.0.0.1 . udp . 53 : 10.0.1.2 . 5353 }" in lines
    assert 'iifname != "lo" ip daddr 127.0.0.0/8 drop' in lines
    assert 'oifname != "pn-1" ip saddr 10.0.1.0/24 masquerade' in lines
    assert 'oifname != "pn-2" ip saddr 10.0.2.0/24 masquerade' not in lines
    order = [
        lines.index(x)
        for x in (
            "ct state established,related accept",
            'iifname "pn-2" oifname "pn-2" accept',
            'oifname "pn-2" drop',
            'oifname "pn-*" ct status dnat accept',
            'oifname "pn-*" drop',
        )
    ]
    assert order == sorted(order)


def test_masquerading_can_be_turned_off() -> None:
    plain = Network("1" * 64, "n", "pn-1", NET.subnet, 0, options={MASQUERADE_OPTION: "false"})
    text = Firewall(FakeNft(), "pannier", "pn-").text([plain], [])
    assert "oifname != " not in text
    assert "elements" not in text


def test_ports_are_map_elements() -> None:
    nft = FakeNft()
    firewall = Firewall(nft, "x", "pn-")
    firewall.add(LEADS)
    firewall.add([])
    assert nft.ran == [
        "add element inet x published { tcp . 8080 : 10.0.1.2 . 80 }",
        "add element inet x published_at { 127.0.0.1 . udp . 53 : 10.0.1.2 . 5353 }",
    ]
    nft.refuse = True
    firewall.remove(LEADS)
    with pytest.raises(Internal):
        firewall.add(LEADS)


def test_whether_the_table_is_there() -> None:
    table = {"table": {"family": "inet", "name": "x"}}
    assert Firewall(FakeNft(list_tables=[table]), "x", "pn-").present()
    assert not Firewall(FakeNft(list_tables=[table]), "y", "pn-").present()


def test_interface_names_tell_engines_apart() -> None:
    assert prefix_of("pannier") == "pn-"
    other = prefix_of("another")
    assert bridge_name("another", "ab" * 32).startswith(other)
    assert len(bridge_name("another", "ab" * 32)) <= 15
    assert len(veth_name("another")) <= 15
    assert veth_name("another") != veth_name("another")
    assert not veth_name("another").startswith(other)


def test_nothing_is_inserted_where_nothing_is_refused() -> None:
    accepting = [
        chain("ip", "filter", name, name.lower(), "accept") for name in ("FORWARD", "INPUT")
    ]
    own = chain("inet", "x", "forward", "forward", "drop")
    nft = FakeNft(list_chains=[*accepting, own])
    assert not Neighbours(nft, "x", "pn-", FakeIptables()).ensure()
    assert not Neighbours(nft, "x", "pn-", FakeIptables()).input_refused()


def test_docker_user_is_used_if_it_exists_and_once() -> None:
    docker = {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER"}}
    nft = FakeNft(list_chains=[chain("ip", "filter", "FORWARD", "forward", "drop"), docker])
    foreign = "-A DOCKER-USER -j RETURN"
    iptables = FakeIptables(FORWARD=[], DOCKER_USER=[foreign])
    neighbours = Neighbours(nft, "x", "pn-", iptables)
    assert neighbours.ensure()
    assert not neighbours.ensure()
    assert iptables.chains["FORWARD"] == []
    assert iptables.chains["DOCKER-USER"] == [
        "-A DOCKER-USER -o pn-+ -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -m comment "
        '--comment "pannier x" -j ACCEPT',
        '-A DOCKER-USER -i pn-+ -m comment --comment "pannier x" -j ACCEPT',
        foreign,
    ]
    iptables.chains["DOCKER-USER"].pop(0)
    assert neighbours.ensure()
    neighbours.remove()
    assert iptables.chains["DOCKER-USER"] == [foreign]


def test_forward_and_input_of_iptables() -> None:
    chains = [chain("ip", "filter", name, name.lower(), "drop") for name in ("FORWARD", "INPUT")]
    iptables = FakeIptables(FORWARD=[], INPUT=[])
    neighbours = Neighbours(FakeNft(list_chains=chains), "x", "pn-", iptables)
    assert neighbours.ensure()
    assert len(iptables.chains["FORWARD"]) == 2
    assert ["--dport 53" in rule for rule in iptables.chains["INPUT"]] == [True, True]
    assert neighbours.input_refused()


def test_native_chains_and_firewalld() -> None:
    chains = [
        chain("inet", "filter", "input", "input", "drop"),
        chain("inet", "firewalld", "filter_FORWARD", "forward", "accept"),
        chain("ip6", "filter", "input", "input", "drop"),
    ]
    nft = FakeNft(list_chains=chains)
    neighbours = Neighbours(nft, "x", "pn-", FakeIptables())
    assert neighbours.ensure()
    assert [line.split(" ", 5)[:5] for line in nft.ran] == [
        ["insert", "rule", "inet", "filter", "input"],
        *[["insert", "rule", "inet", "firewalld", "filter_FORWARD"]] * 3,
    ]
    assert all(line.endswith('accept comment "pannier x"') for line in nft.ran)


def test_native_rules_are_found_by_their_comment() -> None:
    own = {"family": "inet", "table": "filter", "chain": "input", "handle": 7}
    ruleset = [
        {"rule": {**own, "comment": "pannier x"}},
        {"rule": {**own, "handle": 8, "comment": "pannier y"}},
        {"rule": {**own, "handle": 9}},
    ]
    nft = FakeNft(list_ruleset=ruleset)
    Neighbours(nft, "x", "pn-", FakeIptables()).remove()
    assert nft.ran == ["delete rule inet filter input handle 7"]
