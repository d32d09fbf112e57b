"""The host's firewall rules as readable text, by libnftables.

One ``run`` is one transaction: all of its commands take effect or none. For the daemon only;
the cheap bytes for containers are in ``kernel.netfilter``.

Source: libnftables(3), libnftables-json(5), nft(8).
"""

from __future__ import annotations

import ctypes
import json
from ctypes import c_char_p, c_int, c_uint, c_void_p
from typing import Any

from pannier.base.errors import Internal, Unsupported

_LIBRARY = "libnftables.so.1"
_OUTPUT_HANDLE = 1 << 3
_OUTPUT_JSON = 1 << 4
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "nft_ctx_new": (c_void_p, (c_uint,)),
    "nft_ctx_free": (None, (c_void_p,)),
    "nft_ctx_buffer_output": (c_int, (c_void_p,)),
    "nft_ctx_buffer_error": (c_int, (c_void_p,)),
    "nft_ctx_get_output_buffer": (c_char_p, (c_void_p,)),
    "nft_ctx_get_error_buffer": (c_char_p, (c_void_p,)),
    "nft_ctx_output_set_flags": (None, (c_void_p, c_uint)),
    "nft_run_cmd_from_buffer": (c_int, (c_void_p, c_char_p)),
}


class Nftables:
    """A context of libnftables. Not thread-safe.

    Raises:
        Unsupported: the library is missing.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise Unsupported(
                f"cannot load {_LIBRARY}: {error}", hint="install the package libnftables1"
            ) from error
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(self._library, name)
            function.restype = result
            function.argtypes = arguments
        self._context = self._library.nft_ctx_new(0)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, commands: str) -> str:
        """Run *commands* (one a line) as one transaction; returns what they print.

        Raises:
            Internal: nftables refused them; nothing has changed.
        """
        return self._run(commands, 0)

    def query(self, command: str) -> list[dict[str, Any]]:
        """Run a ``list`` command; returns the objects of its JSON, handles included."""
        text = self._run(command, _OUTPUT_JSON | _OUTPUT_HANDLE)
        objects: list[dict[str, Any]] = json.loads(text)["nftables"] if text else []
        return objects

    def close(self) -> None:
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def _run(self, commands: str, flags: int) -> str:
        self._library.nft_ctx_output_set_flags(self._context, flags)
        code = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        # Reading the buffers empties them for the next call.
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
        trouble: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if code:
            reason = trouble.decode(errors="replace").strip()
            raise Internal(f"nftables refused the rules: {reason}", commands=commands)
        return output.decode(errors="replace")
