"""``pannierd``: open everything, serve the API, and leave the containers running at the end."""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import gc
import logging
import os
import signal
import sys

from pannier.base.errors import PannierError
from pannier.base.instance import Instance
from pannier.daemon.hostcheck import check_host
from pannier.daemon.service import Service
from pannier.kernel.scratch import own_mount_namespace

_THREADS = 32  # streams of archives hold one each while they last


def main() -> int:
    options = _options()
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    instance = Instance.from_env()
    try:
        check_host()
        # Temporary mounts (cp, build) stay invisible to the host and die with this process.
        own_mount_namespace()
        asyncio.run(_run(instance, options.group))
    except PannierError as error:
        print(f"pannierd: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pannierd", description=__doc__)
    parser.add_argument("--log-level", default=os.environ.get("PANNIER_LOG", "warning"))
    parser.add_argument("--group", default="pannier", help="group that may use the socket")
    return parser.parse_args()


async def _run(instance: Instance, group: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(_THREADS))
    service = Service(instance, group)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.ended.set)
    await service.start()
    # What is loaded now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    _notify_ready()
    try:
        await service.ended.wait()
    finally:
        await service.stop()


def _notify_ready() -> None:
    """Tell systemd, if it started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    import socket  # noqa: PLC0415 - only under systemd

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.send(b"READY=1")


if __name__ == "__main__":
    sys.exit(main())
