from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.base.errors import Conflict, InvalidArgument, Unavailable, Unsupported
from pannier.network import pools
from pannier.network.model import Subnet

NET = Subnet("10.0.0.0/29", "10.0.0.1")


def test_the_first_free_subnet_is_chosen() -> None:
    first = pools.plan_subnet(Subnet(), [], [], [])
    second = pools.plan_subnet(Subnet(), [first.subnet], [], [])
    assert first == Subnet("172.18.0.0/20", "172.18.0.1")
    assert second.subnet == "172.18.16.0/20"


def test_what_the_host_uses_is_avoided() -> None:
    chosen = pools.plan_subnet(Subnet(), [], ["172.18.5.4/24"], ["172.19.0.0/16", "172.20.9.9/32"])
    taken = [IPv4Network(t, strict=False) for t in ("172.18.5.0/24", "172.19.0.0/16")]
    assert not any(IPv4Network(chosen.subnet).overlaps(t) for t in taken)


def test_all_taken() -> None:
    with pytest.raises(Unavailable, match="fully subnetted"):
        pools.plan_subnet(Subnet(), [], [], ["0.0.0.0/0"])


def test_a_wanted_subnet_is_completed() -> None:
    got = pools.plan_subnet(Subnet("10.5.0.7/24"), [], [], ["10.0.0.0/8"])
    assert got == Subnet("10.5.0.0/24", "10.5.0.1")


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Subnet("10.0.0.0/24"), Conflict),
        (Subnet("192.0.2.128/25"), Conflict),
        (Subnet("nonsense"), InvalidArgument),
        (Subnet("10.1.0.0/33"), InvalidArgument),
        (Subnet("10.1.0.0/31"), InvalidArgument),
        (Subnet("fd00::/64"), Unsupported),
        (Subnet("10.1.0.0/24", gateway="10.2.0.1"), InvalidArgument),
        (Subnet("10.1.0.0/24", gateway="10.1.0.255"), InvalidArgument),
        (Subnet("10.1.0.0/24", gateway="x"), InvalidArgument),
        (Subnet("10.1.0.0/24", ip_range="10.2.0.0/25"), InvalidArgument),
        (Subnet("", gateway="10.1.0.1"), InvalidArgument),
    ],
)
def test_bad_subnets(wanted: Subnet, error: type[Exception]) -> None:
    with pytest.raises(error):
        pools.plan_subnet(wanted, ["10.0.0.0/16"], ["192.0.2.5/24"], [])


def test_addresses_go_round() -> None:
    assert pools.pick_address(NET, [], "") == "10.0.0.2"
    assert pools.pick_address(NET, [], "10.0.0.4") == "10.0.0.5"
    assert pools.pick_address(NET, [], "10.0.0.6") == "10.0.0.2"
    assert pools.pick_address(NET, ["10.0.0.5"], "10.0.0.4") == "10.0.0.6"


def test_a_range_limits_the_choice() -> None:
    subnet = Subnet("10.0.0.0/24", "10.0.0.1", "10.0.0.128/30")
    picked = pools.pick_address(subnet, [], "10.0.0.5")
    assert picked == "10.0.0.128"
    used = [f"10.0.0.{n}" for n in range(128, 132)]
    with pytest.raises(Unavailable, match="no available IPv4 addresses"):
        pools.pick_address(subnet, used, "")


@given(st.sets(st.integers(2, 6)), st.integers(0, 7))
def test_a_picked_address_is_free_and_inside(used: set[int], last: int) -> None:
    taken = {f"10.0.0.{n}" for n in used}
    if len(used) == 5:
        with pytest.raises(Unavailable):
            pools.pick_address(NET, taken, f"10.0.0.{last}")
        return
    picked = pools.pick_address(NET, taken, f"10.0.0.{last}")
    assert picked not in taken
    assert 2 <= int(picked.split(".")[3]) <= 6


def test_wanted_addresses() -> None:
    assert pools.check_address(NET, "10.0.0.3", []) == "10.0.0.3"
    for address in ("10.0.0.1", "10.0.0.4"):
        with pytest.raises(Conflict, match="Address already in use"):
            pools.check_address(NET, address, ["10.0.0.4"])
    for address in ("10.0.0.0", "10.0.0.7", "10.0.1.2", "x"):
        with pytest.raises(InvalidArgument):
            pools.check_address(NET, address, [])


def test_hardware_addresses_are_local_and_follow_from_the_address() -> None:
    assert pools.mac_for("172.18.0.2") == "02:42:ac:12:00:02"
