"""What one network interface of a container looks like on its way to the keeper: plain JSON."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Interface(TypedDict):
        """One veth pair.

        ``name`` is the end inside the container, ``host`` the end on ``bridge``; ``addresses`` are
        IPv4 in CIDR notation; ``gateway`` makes a default route; ``nft`` is a base64 nfnetlink
        batch for the inside; ``sysctls`` are set inside, keys with dots (``net.ipv4.conf...``).
        """

        name: str
        host: str
        bridge: str
        mac: str
        mtu: int
        addresses: list[str]
        gateway: str | None
        nft: str | None
        sysctls: dict[str, str]
