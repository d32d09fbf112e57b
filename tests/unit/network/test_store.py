from __future__ import annotations

import pytest

from pannier.base.database import Database
from pannier.base.errors import Conflict, InvalidArgument, NotFound, Unsupported
from pannier.network import planning
from pannier.network.bridge import HostNetwork
from pannier.network.model import Endpoint, Network, NetworkRequest, Subnet
from pannier.network.store import NetworkStore


@pytest.fixture
def database() -> Database:
    return Database(":memory:")


def network(identity: str, name: str) -> Network:
    return Network(identity * 16, name, f"pn-{name}", Subnet("10.0.0.0/24", "10.0.0.1"), 1)


def endpoint(container: str, of: Network, interface: str, address: str) -> Endpoint:
    return Endpoint(
        id="e",
        container_id=container,
        container_name=container,
        network_id=of.id,
        network_name=of.name,
        interface=interface,
        host="v",
        mac="02:00:00:00:00:01",
        address=address,
        prefix=24,
        gateway="10.0.0.1",
    )


def test_everything_is_read_back(database: Database) -> None:
    store = NetworkStore(database)
    one, two = network("a1b2", "one"), network("a1c3", "two")
    for n in (one, two):
        store.add_network(n)
    first, second = endpoint("c", two, "eth0", "10.0.0.2"), endpoint("c", one, "eth10", "10.0.0.2")
    other = endpoint("d", one, "eth2", "10.0.0.3")
    store.put_endpoints([second, first, other])
    again = NetworkStore(database)
    again.load()
    assert again.networks() == [one, two]
    assert again.of_container("c") == [first, second]
    assert again.on_network(one.id) == [second, other]
    assert again.on_several() == {"c"}
    again.remove_network(one.id)
    assert again.endpoints() == [first]


def test_networks_are_found_by_name_id_and_its_beginning(database: Database) -> None:
    store = NetworkStore(database)
    one, two = network("a1b2", "one"), network("a1c3", "two")
    store.add_network(one)
    store.add_network(two)
    assert store.find("one") == store.find(one.id) == store.find("a1b") == one
    with pytest.raises(Conflict, match="ambiguous"):
        store.find("a1")
    for ref in ("three", "", "b2"):
        with pytest.raises(NotFound, match="not found"):
            store.find(ref)


def plan(request: NetworkRequest) -> Network:
    planning.check(request)
    return planning.plan(
        request,
        instance_name="pannier",
        others=[],
        host=HostNetwork((), ()),
        mtu=1450,
        created_ns=7,
    )


def test_a_plan() -> None:
    got = plan(NetworkRequest("n", labels={"a": "b"}))
    assert (got.name, got.mtu, got.created_ns, got.labels) == ("n", 1450, 7, {"a": "b"})
    assert got.bridge == "pn-" + got.id[:8]
    fixed = plan(NetworkRequest("n", options={"com.docker.network.driver.mtu": "9000"}))
    assert fixed.mtu == 9000


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (NetworkRequest(""), InvalidArgument),
        (NetworkRequest("a b"), InvalidArgument),
        (NetworkRequest("n", driver="macvlan"), Unsupported),
        (NetworkRequest("n", ipv6=True), Unsupported),
        (NetworkRequest("n", subnets=(Subnet(), Subnet())), Unsupported),
        (NetworkRequest("n", options={"x": "y"}), Unsupported),
        (NetworkRequest("n", options={"com.docker.network.driver.mtu": "1"}), InvalidArgument),
    ],
)
def test_bad_requests(request_: NetworkRequest, error: type[Exception]) -> None:
    with pytest.raises(error):
        plan(request_)
