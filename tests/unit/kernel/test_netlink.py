from __future__ import annotations

from struct import unpack_from

import pytest

from pannier.base.errors import KernelError
from pannier.kernel import netfilter, netlink


def attributes(data: bytes) -> dict[int, bytes]:
    found, offset = {}, 0
    while offset < len(data):
        size, kind = unpack_from("=HH", data, offset)
        found[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def test_a_veth_pair_is_one_message() -> None:
    request = netlink.veth("vpn-1", 5, "eth0", "02:42:0a:00:00:02", 1400, pid=77)
    assert (request.kind, request.flags) == (16, 0x600)
    outer = attributes(request.body[16:])
    assert outer[3] == b"vpn-1\0"
    assert unpack_from("=I", outer[10]) == (5,)
    info = attributes(outer[18])
    assert info[1] == b"veth\0"
    peer = attributes(attributes(info[2])[1][16:])
    assert peer[3] == b"eth0\0"
    assert peer[1] == bytes.fromhex("02420a000002")
    assert unpack_from("=I", peer[19]) == (77,)
    assert 28 in attributes(
        attributes(
            attributes(
                attributes(netlink.veth("v", 5, "e", "02:42:0a:00:00:02", 1, fd=3).body[16:])[18]
            )[2]
        )[1][16:]
    )


def test_an_address_has_its_broadcast() -> None:
    request = netlink.address(3, "172.18.5.2/20")
    family, prefix, _, _, index = unpack_from("=BBBBi", request.body)
    assert (family, prefix, index) == (2, 20, 3)
    found = attributes(request.body[8:])
    assert found[2] == found[1] == bytes([172, 18, 5, 2])
    assert found[4] == bytes([172, 18, 15, 255])


def test_lists_of_this_host() -> None:
    with netlink.RouteSocket() as sock:
        links = netlink.links(sock)
        addresses = netlink.addresses(sock)
        netlink.routes(sock)
    lo = next(link for link in links if link.name == "lo")
    assert lo.index == netlink.index_of("lo") == 1
    if lo.up:
        assert (1, "127.0.0.1/8") in addresses


def test_errors_name_the_step_and_the_object() -> None:
    with netlink.RouteSocket() as sock:
        sock.run([])
        with pytest.raises(KernelError, match="link nosuchlink: ") as error:
            sock.run([netlink.delete_link("nosuchlink")])
        assert error.value.errno in {1, 19}  # EPERM without root
    with pytest.raises(KernelError, match="find interface nosuchlink"):
        netlink.index_of("nosuchlink")


def test_the_redirect_is_one_batch_with_one_acknowledgement() -> None:
    for replace, kinds in (
        (False, [0, 3, 3, 3, 6, 6, 6, 6]),
        (True, [0, 2, 0, 3, 3, 3, 6, 6, 6, 6]),
    ):
        batch = netfilter.dns_redirect("10.0.0.1", replace=replace)
        found, offset = [], 0
        while offset < len(batch):
            size, kind, flags, _, _ = unpack_from("=IHHII", batch, offset)
            found.append((kind, bool(flags & 4)))
            offset += size
        assert found[0] == (0x10, False)
        assert found[-1] == (0x11, False)
        assert [kind & 0xFF for kind, _ in found[1:-1]] == kinds
        assert [ack for _, ack in found[1:-1]] == [False] * (len(kinds) - 1) + [True]
        assert b"\x0a\0\0\1" in batch
