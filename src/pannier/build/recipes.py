"""Built-in recipes: Dockerfiles that turn a base image into an OS image, ``debian:12-os``.

They go the way of every build: the packages' own scripts run in a container, never on the host.
Base images themselves are bootstrapped by ``images``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pannier.base.errors import InvalidArgument
from pannier.images import references
from pannier.wire.images import BuildOptions

OS_SUFFIX = "-os"
KIND_LABEL = "io.pannier.kind"

# What a person expects in a machine, beside its init.
_COMMON = ("iproute2", "iputils-ping", "less", "login", "netbase", "procps")


@dataclass(frozen=True, slots=True)
class Init:
    """An init system.

    Args:
        packages: Debian's packages of it.
        stop_signal: ends it in good order; "" where a command is needed.
    """

    packages: tuple[str, ...]
    stop_signal: str = ""


INITS = {
    # systemd(1): SIGRTMIN+3 is halt.target; it takes SIGTERM as a wish to execute itself again.
    "systemd": Init(("systemd", "systemd-sysv", "dbus", "libpam-systemd"), "SIGRTMIN+3"),
    "sysvinit": Init(("sysvinit-core",)),
    "runit": Init(("runit-init",)),
}

# An empty machine-id gets a value of its own at each first boot; a missing one stops some programs.
_TEMPLATE = """\
FROM {base}
LABEL {label}=os
RUN export DEBIAN_FRONTEND=noninteractive \\
    && apt-get update \\
    && apt-get install -y --no-install-recommends {packages} \\
    && apt-get clean \\
    && rm -rf /var/lib/apt/lists/* \\
    && : > /etc/machine-id \\
    && rm -f /var/lib/dbus/machine-id
{stop}CMD ["/sbin/init"]
"""


def os_dockerfile(base: str, init: str = "systemd") -> str:
    """The Dockerfile of an OS image: one layer on top of *base*.

    Args:
        base: a reference to an image with apt.
        init: a key of ``INITS``.

    Raises:
        InvalidArgument: an unknown init.
    """
    known = INITS.get(init)
    if known is None:
        raise InvalidArgument(f"unknown init '{init}'", hint=f"one of: {', '.join(INITS)}")
    return _TEMPLATE.format(
        base=base,
        label=KIND_LABEL,
        packages=" ".join((*known.packages, *_COMMON)),
        stop=f"STOPSIGNAL {known.stop_signal}\n" if known.stop_signal else "",
    )


def os_options(names: Sequence[str]) -> BuildOptions:
    """The request that goes with it: each of the base's *names* gets ``-os`` at its tag."""
    tags = []
    for name in names:
        base = references.parse(name)
        tags.append(base.with_tag(base.tag + OS_SUFFIX).familiar)
    # Packages are to be the newest ones, not those of the last time.
    return BuildOptions(tags=tags, no_cache=True)
