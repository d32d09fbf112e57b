"""The interfaces of one container: made on the host's side, configured on the inside.

``create_links`` runs in the keeper (host's network namespace) while the child waits, ``configure``
in the child. ``connect`` and ``disconnect`` do the same for a running container, in the stager.
What the interfaces are called and which addresses they get is decided by the network package.
"""

from __future__ import annotations

import binascii
import errno
import os
import sys

from pannier.base.errors import KernelError
from pannier.kernel import _libc, netfilter, netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pannier.kernel.netlink_types import Interface


def create_links(interfaces: Sequence[Interface], pid: int) -> None:
    """Make a veth pair per interface: one end up on its bridge, the other in *pid*'s netns.

    Raises:
        KernelError: nothing has to be taken back: what was made dies with the child's namespace.
    """
    requests: list[netlink.Request] = []
    for interface in interfaces:
        requests += _link_requests(interface, pid)
    if requests:
        with netlink.RouteSocket() as sock:
            sock.run(requests)


def configure(interfaces: Sequence[Interface]) -> None:
    """Inside the container's network namespace: everything up, addresses, routes, redirections.

    Without interfaces only ``lo`` comes up (network ``none``).

    Raises:
        KernelError: a step failed.
    """
    requests = [netlink.link_up("lo")]
    for interface in interfaces:
        requests += _inside_requests(interface)
    with netlink.RouteSocket() as sock:
        sock.run(requests)
    for interface in interfaces:
        _apply_extras(interface)


def connect(pid: int, interfaces: Sequence[Interface]) -> None:
    """Add *interfaces* to the network namespace of the running process *pid*.

    Raises:
        KernelError: a step failed; the new links are gone again then.
    """
    create_links(interfaces, pid)
    try:
        _in_netns(pid, lambda: configure(interfaces))
    except KernelError:
        _delete_links([interface["host"] for interface in interfaces])
        raise


def disconnect(hosts: Sequence[str], pid: int = 0, remaining: Sequence[Interface] = ()) -> None:
    """Take veth pairs away; slow, for the stager only.

    Args:
        hosts: the host's ends; what is gone already is passed over.
        pid: a process in the container, if it still runs.
        remaining: its other interfaces: the first one with a gateway gets the default route, and
            its redirection of names takes effect.
    """
    _delete_links(hosts)
    if pid and remaining:
        _in_netns(pid, lambda: _take_over(remaining))


def _link_requests(interface: Interface, pid: int) -> list[netlink.Request]:
    host = interface["host"]
    index = netlink.index_of(interface["bridge"])
    name, mac, mtu = interface["name"], interface["mac"], interface["mtu"]
    # The order matters: an up interface without addr_gen_mode none sends router solicitations.
    return [
        netlink.veth(host, index, name, mac, mtu, pid=pid),
        netlink.no_ipv6_address(host),
        netlink.hairpin(host),
        netlink.link_up(host),
    ]


def _inside_requests(interface: Interface) -> list[netlink.Request]:
    name = interface["name"]
    index = netlink.index_of(name)
    requests = [netlink.no_ipv6_address(name)]
    if interface["nft"]:
        requests.append(netlink.route_localnet(name))
    requests += [netlink.address(index, cidr) for cidr in interface["addresses"]]
    requests.append(netlink.link_up(name))
    if interface["gateway"]:
        requests.append(netlink.default_route(interface["gateway"]))
    return requests


def _apply_extras(interface: Interface) -> None:
    for key, value in interface["sysctls"].items():
        _write_sysctl(key, value)
    if interface["nft"]:
        netfilter.send_batch(binascii.a2b_base64(interface["nft"]))


def _take_over(remaining: Sequence[Interface]) -> None:
    requests = [netlink.route_localnet(i["name"]) for i in remaining if i["nft"]]
    gateway = next((i["gateway"] for i in remaining if i["gateway"]), None)
    with netlink.RouteSocket() as sock:
        sock.run(requests)
        if gateway:
            _run_unless(sock, netlink.default_route(gateway), errno.EEXIST)
    for interface in remaining:
        if interface["nft"]:
            netfilter.send_batch(binascii.a2b_base64(interface["nft"]))


def _delete_links(names: Sequence[str]) -> None:
    with netlink.RouteSocket() as sock:
        for name in names:
            _run_unless(sock, netlink.delete_link(name), errno.ENODEV)


def _run_unless(sock: netlink.RouteSocket, request: netlink.Request, expected: int) -> None:
    try:
        sock.run([request])
    except KernelError as error:
        if error.errno != expected:
            raise


def _write_sysctl(key: str, value: str) -> None:
    path = "/proc/sys/" + key.replace(".", "/")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, "set sysctl", key) from error


def _in_netns(pid: int, step: Callable[[], None]) -> None:
    """Run *step* in a forked child inside the network namespace of *pid*."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _child(pid, step, write_end)
    os.close(write_end)
    try:
        message = os.read(read_end, 4096)
    finally:
        os.close(read_end)
        os.waitpid(child, 0)
    if message:
        number, _, what = message.decode(errors="replace").partition(" ")
        raise KernelError(int(number), what, f"in the network of process {pid}")


def _child(pid: int, step: Callable[[], None], write_end: int) -> None:
    status = 1
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _libc.setns(fd, _libc.CLONE_NEWNET)
        step()
        status = 0
    except OSError as error:
        text = f"{error.errno or errno.EIO} {getattr(error, 'what', 'configure')}"
        os.write(write_end, text.encode()[:4096])
    except BaseException as error:  # the fork must never return into the caller's loop
        sys.excepthook(type(error), error, error.__traceback__)
        os.write(write_end, f"{errno.EIO} configure".encode())
    finally:
        os._exit(status)
