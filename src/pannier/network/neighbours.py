"""Living beside other rule sets on the host: Docker's, iptables', firewalld's, the admin's own.

A drop in any base chain is final: no rule in a table of ours can overrule it. So accepts for our
bridges are inserted where others drop by policy, and only there:

- FORWARD (Docker sets ``policy drop``): into DOCKER-USER if it exists, else at the chain's head;
- INPUT: port 53 on our bridges, or no container could look up a name.

Every rule carries a comment with the engine's name, by which it is found and removed. iptables'
tables are changed by the ``iptables`` command (native rules in them would break its listings),
all others by libnftables. One wildcard matches all of the engine's bridges, so networks come and
go without any change here.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pannier.base.errors import Internal
from pannier.kernel.nftables import Nftables

_IPTABLES_CHAINS = {("ip", "filter", "FORWARD"), ("ip", "filter", "INPUT")}
_DOCKER_CHAIN = ("ip", "filter", "DOCKER-USER")
_OWN_POLICY = {"firewalld"}  # refuses by a last rule, its policy says accept
_FAMILIES = {"ip", "inet"}
_LIMIT_S = 10

Run = Callable[[Sequence[str]], str]


class Chain(NamedTuple):
    """A base chain of somebody else that drops what it does not know."""

    family: str
    table: str
    name: str
    hook: str

    @property
    def of_iptables(self) -> bool:
        return (self.family, self.table, self.name) in _IPTABLES_CHAINS


def run_iptables(arguments: Sequence[str]) -> str:
    """Run the host's own iptables (its alternative may be the legacy one, as Docker's is then)."""
    program = shutil.which("iptables", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise Internal("the iptables command is missing", hint="install the package iptables")
    command = [program, "--wait", "5", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode:
        raise Internal(f"iptables {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Neighbours:
    """Our accepts in foreign chains.

    Args:
        nft: the library.
        instance_name: goes into each rule's comment.
        prefix: how the engine's bridges begin.
        iptables: runs the iptables command; replaced in tests.
    """

    def __init__(
        self, nft: Nftables, instance_name: str, prefix: str, iptables: Run = run_iptables
    ) -> None:
        self._nft = nft
        self._own_table = ("inet", instance_name)
        self._comment = f"pannier {instance_name}"
        self._prefix = prefix
        self._iptables = iptables

    def ensure(self) -> bool:
        """Insert what is missing; true if something was.

        Raises:
            Internal: a rule set refused the rules.
        """
        changed = False
        chains = self._chains()
        docker = any(_place(chain) == _DOCKER_CHAIN for chain in chains)
        for chain in self._refusing(chains):
            if chain.of_iptables:
                name = "DOCKER-USER" if docker and chain.hook == "forward" else chain.name
                changed |= self._ensure_iptables(name, chain.hook)
            else:
                changed |= self._ensure_native(chain)
        return changed

    def remove(self) -> None:
        """Take every rule of ours out of foreign chains."""
        rules = self._own_native_rules()
        if rules:
            self._nft.run("\n".join(f"delete rule {rule}" for rule in rules))
        for place in map(_place, self._chains()):
            if place in _IPTABLES_CHAINS or place == _DOCKER_CHAIN:
                for line in self._own_lines(place[2]):
                    self._iptables(_delete(line))

    def input_refused(self) -> bool:
        """Whether the host drops incoming connections that it was not told to accept: then a
        published port is reachable although the host's firewall would have refused it.
        """
        return any(chain.hook == "input" for chain in self._refusing(self._chains()))

    # -------------------------------------------------------------- looking

    def _chains(self) -> list[dict[str, Any]]:
        return [o["chain"] for o in self._nft.query("list chains") if "chain" in o]

    def _refusing(self, chains: Iterable[dict[str, Any]]) -> Iterator[Chain]:
        for chain in chains:
            family, table = chain["family"], chain["table"]
            foreign = family in _FAMILIES and (family, table) != self._own_table
            known = chain.get("type") == "filter" and chain.get("hook") in {"forward", "input"}
            if foreign and known and (chain.get("policy") == "drop" or table in _OWN_POLICY):
                yield Chain(family, table, chain["name"], chain["hook"])

    def _own_native_rules(self) -> list[str]:
        rules = (o["rule"] for o in self._nft.query("list ruleset") if "rule" in o)
        return [
            f"{rule['family']} {rule['table']} {rule['chain']} handle {rule['handle']}"
            for rule in rules
            if rule.get("comment") == self._comment and not _in_iptables(rule)
        ]

    # -------------------------------------------------------------- iptables

    def _ensure_iptables(self, chain: str, hook: str) -> bool:
        # Counted, not compared: iptables may print a rule otherwise than it was written, and
        # a rule that is never found again would be inserted for ever.
        rules = self._iptables_rules(hook)
        present = self._own_lines(chain)
        if len(present) == len(rules):
            return False
        for line in present:
            self._iptables(_delete(line))
        for rule in rules:
            self._iptables(["-I", chain, *rule, *self._marked(), "-j", "ACCEPT"])
        return True

    def _iptables_rules(self, hook: str) -> list[list[str]]:
        ours = self._prefix + "+"
        if hook == "input":
            return [["-i", ours, "-p", p, "-m", p, "--dport", "53"] for p in ("udp", "tcp")]
        states = "RELATED,ESTABLISHED,DNAT"
        return [["-i", ours], ["-o", ours, "-m", "conntrack", "--ctstate", states]]

    def _marked(self) -> list[str]:
        return ["-m", "comment", "--comment", self._comment]

    def _own_lines(self, chain: str) -> list[str]:
        lines = self._iptables(["-S", chain]).splitlines()
        return [line for line in lines if f'--comment "{self._comment}"' in line]

    # -------------------------------------------------------------- nftables

    def _ensure_native(self, chain: Chain) -> bool:
        place = f"{chain.family} {chain.table} {chain.name}"
        listed = self._nft.query(f"list chain {place}")
        if any(o.get("rule", {}).get("comment") == self._comment for o in listed):
            return False
        mark = f'comment "{self._comment}"'
        rules = self._native_rules(chain.hook)
        self._nft.run("\n".join(f"insert rule {place} {rule} accept {mark}" for rule in rules))
        return True

    def _native_rules(self, hook: str) -> list[str]:
        ours = f'"{self._prefix}*"'
        if hook == "input":
            return [f"iifname {ours} meta l4proto {{ tcp, udp }} th dport 53"]
        return [
            f"iifname {ours}",
            f"oifname {ours} ct state established,related",
            f"oifname {ours} ct status dnat",
        ]


def _place(chain: dict[str, Any]) -> tuple[str, str, str]:
    return chain["family"], chain["table"], chain["name"]


def _in_iptables(rule: dict[str, Any]) -> bool:
    place = (rule["family"], rule["table"], rule["chain"])
    return place in _IPTABLES_CHAINS or place == _DOCKER_CHAIN


def _delete(line: str) -> list[str]:
    return ["-D", *shlex.split(line)[1:]]
