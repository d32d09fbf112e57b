from __future__ import annotations

import base64

import pytest
from msgspec.structs import replace

from pannier.base.errors import InvalidArgument
from pannier.network import endpoints
from pannier.network.model import AttachRequest, Endpoint, EndpointRequest, Network, Subnet

FRONT = Network("f" * 64, "front", "pn-front", Subnet("10.0.1.0/24", "10.0.1.1"), 0)
BACK = Network("b" * 64, "back", "pn-back", Subnet("10.0.2.0/24", "10.0.2.1"), 0, internal=True)


def made(
    network: Network,
    interface: str,
    *,
    name: str = "web",
    wish: EndpointRequest | None = None,
    former: Endpoint | None = None,
    taken: endpoints.Taken | None = None,
) -> Endpoint:
    return endpoints.make_endpoint(
        network,
        AttachRequest(name * 12, name, {}),
        wish or EndpointRequest(),
        interface=interface,
        host=f"vpn-{interface}",
        former=former,
        taken=taken or endpoints.Taken([], ""),
    )


def test_interfaces_for_the_keeper() -> None:
    one, two = made(BACK, "eth0"), made(FRONT, "eth1")
    first, second = endpoints.interfaces_of([one, two], [BACK, FRONT])
    assert first == {
        "name": "eth0",
        "host": "vpn-eth0",
        "bridge": "pn-back",
        "mac": "02:42:0a:00:02:02",
        "mtu": 1500,
        "addresses": ["10.0.2.2/24"],
        "gateway": None,
        "nft": first["nft"],
        "sysctls": {},
    }
    assert base64.b64decode(first["nft"] or "")
    assert second["gateway"] == "10.0.1.1"
    assert second["nft"] is None


def test_the_highest_priority_has_the_way_out() -> None:
    low = made(FRONT, "eth0")
    high = made(FRONT, "eth1", wish=EndpointRequest(gateway_priority=5))
    assert endpoints.default_endpoint([low, high]) is high
    assert endpoints.default_endpoint([low, made(FRONT, "eth1")]) is low
    assert endpoints.default_endpoint([made(BACK, "eth0")]) is None


def test_a_former_address_is_kept_while_it_is_free() -> None:
    former = made(FRONT, "eth0", taken=endpoints.Taken([], "10.0.1.8"))
    again = made(FRONT, "eth0", former=former)
    assert (again.id, again.address) == (former.id, "10.0.1.9")
    moved = made(FRONT, "eth0", former=former, taken=endpoints.Taken(["10.0.1.9"], ""))
    assert moved.address == "10.0.1.2"


def test_hardware_addresses() -> None:
    assert made(FRONT, "eth0", wish=EndpointRequest(mac="02-AA-00-00-00-01")).mac[3:5] == "aa"
    for mac in ("nonsense", "01:00:00:00:00:01", "02:00:00:00:00"):
        with pytest.raises(InvalidArgument):
            made(FRONT, "eth0", wish=EndpointRequest(mac=mac))


def test_interface_names() -> None:
    assert endpoints.free_interface([]) == "eth0"
    assert endpoints.free_interface(["eth0", "eth2"]) == "eth1"


def test_the_zone_tells_what_is_announced() -> None:
    one = replace(made(FRONT, "eth0", name="web-1"), aliases=("Web",), announced=True)
    two = replace(one, container_id="2" * 64, container_name="web-2", address="10.0.1.3")
    hidden = replace(two, container_id="3" * 64, address="10.0.1.4", announced=False)
    several = replace(hidden, container_id="4" * 64, address="10.0.1.5")
    stopped = replace(several, address="10.0.1.6", active=False)
    everyone = [one, two, hidden, several, stopped]
    zone = endpoints.zone_of(FRONT, everyone, several=["4" * 64])
    assert zone["names"]["web"] == ["10.0.1.2", "10.0.1.3"]
    assert zone["names"]["222222222222"] == zone["names"]["web-2"] == ["10.0.1.3"]
    assert sorted(zone["members"]) == ["10.0.1.2", "10.0.1.3", "10.0.1.5"]
