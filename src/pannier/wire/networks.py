"""Networks on the wire (Docker Engine API v1.50: Network, IPAM, connect and disconnect)."""

from __future__ import annotations

from msgspec import field

from pannier.wire.codec import ZERO_TIME, Body
from pannier.wire.containers import EndpointSettings


class IPAMConfig(Body, frozen=True):
    """One subnet; addresses in CIDR notation."""

    subnet: str = ""
    ip_range: str = field(name="IPRange", default="")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = field(name="AuxiliaryAddresses", default_factory=dict)


class IPAM(Body, frozen=True):
    driver: str = "default"
    config: list[IPAMConfig] = []
    options: dict[str, str] = {}


class NetworkCreate(Body, frozen=True):
    """``POST /networks/create``."""

    name: str
    check_duplicate: bool = False
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    enable_ipv4: bool | None = field(name="EnableIPv4", default=None)
    enable_ipv6: bool | None = field(name="EnableIPv6", default=None)
    ipam: IPAM = field(name="IPAM", default=IPAM())
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class NetworkConnect(Body, frozen=True):
    """``POST /networks/{id}/connect``."""

    container: str
    endpoint_config: EndpointSettings = EndpointSettings()


class NetworkDisconnect(Body, frozen=True):
    """``POST /networks/{id}/disconnect``."""

    container: str
    force: bool = False


class NetworkContainer(Body, frozen=True):
    """One member of a network, as ``network inspect`` shows it."""

    name: str = ""
    endpoint_id: str = field(name="EndpointID", default="")
    mac_address: str = ""
    ipv4_address: str = field(name="IPv4Address", default="")
    ipv6_address: str = field(name="IPv6Address", default="")


class ConfigReference(Body, frozen=True):
    network: str = ""


class Network(Body, frozen=True):
    """A network as listed and inspected."""

    name: str
    id: str
    created: str = ZERO_TIME  # RFC 3339
    scope: str = "local"
    driver: str = "bridge"
    enable_ipv4: bool = field(name="EnableIPv4", default=True)
    enable_ipv6: bool = field(name="EnableIPv6", default=False)
    ipam: IPAM = field(name="IPAM", default=IPAM())
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_from: ConfigReference = ConfigReference()
    config_only: bool = False
    containers: dict[str, NetworkContainer] = {}
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
