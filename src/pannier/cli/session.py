"""One invocation: the global flags, and the connections that its command opens."""

from __future__ import annotations

from pannier.client.bare import Connection, socket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.flags import Flags
    from pannier.client.api import Client


class Session:
    """Handed to every command.

    Args:
        host: the value of ``-H``, None when it was not given.
        debug: show tracebacks.
        group: flags typed between a group's name and the command (``compose -f x up``).
    """

    __slots__ = ("_client", "debug", "group", "host")

    def __init__(
        self, host: str | None = None, *, debug: bool = False, group: Flags | None = None
    ) -> None:
        self.host = host
        self.debug = debug
        self.group = group
        self._client: Client | None = None

    def connect(self) -> Connection:
        """A fresh connection; the engine is started if none runs.

        Raises:
            PannierError: no engine, none that this user may talk to.
        """
        try:
            return Connection(socket_path(self.host))
        except OSError as error:
            from pannier.client.start import connect_or_start  # noqa: PLC0415 - rarely needed

            return connect_or_start(self.host, error)

    @property
    def client(self) -> Client:
        """The typed calls; not for the hot path."""
        if self._client is None:
            from pannier.client.api import Client  # noqa: PLC0415 - not on the hot path

            self._client = Client(self.connect)
        return self._client
