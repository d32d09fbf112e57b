"""The worker's side of bootstrapping: a root file system from packages, by mmdebstrap and apt.

Runs with root's powers but in mount and pid namespaces of its own, which end with the worker, so
that nothing stays mounted or running. Signatures are checked by apt, against the vendor's keyring
alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pannier.base.errors import Internal, Unavailable
from pannier.kernel import _libc

# The same files as in Docker's debian image, which Dockerfiles expect ("rm -f docker-clean").
_CLEAN = "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb"
_CONFIGURATION = {
    "etc/apt/apt.conf.d/docker-clean": (
        f'DPkg::Post-Invoke {{ "{_CLEAN} /var/cache/apt/*.bin || true"; }};\n'
        f'APT::Update::Post-Invoke {{ "{_CLEAN} /var/cache/apt/*.bin || true"; }};\n'
        'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    ),
    "etc/apt/apt.conf.d/docker-no-languages": 'Acquire::Languages "none";\n',
    "etc/apt/apt.conf.d/docker-autoremove-suggests": (
        'Apt::AutoRemove::SuggestsImportant "false";\n'
    ),
    # A layer is thrown away if the machine stops half-way: fsync of each file only costs time.
    "etc/dpkg/dpkg.cfg.d/docker-apt-speedup": "force-unsafe-io\n",
}
_POLICY = "usr/sbin/policy-rc.d"
_NO_SERVICES = "#!/bin/sh\n# No services are started while packages are installed.\nexit 101\n"
# Filled in by the engine for each container; the files must exist to be mounted over.
_EMPTY_FILES = ("etc/machine-id", "etc/hostname", "etc/hosts", "etc/resolv.conf")
_EMPTY_DIRECTORIES = ("dev", "run", "tmp", "var/tmp", "var/lib/apt/lists", "var/cache/apt/archives")
_LEFTOVERS = (
    "etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "etc/apt/sources.list",
    "var/cache/ldconfig/aux-cache", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed",
    "var/cache/apt/pkgcache.bin", "var/cache/apt/srcpkgcache.bin", "var/lib/dpkg/status-old",
    "var/cache/debconf/config.dat-old", "var/cache/debconf/templates.dat-old",
    "var/lib/dpkg/diversions-old", "var/log/alternatives.log", "var/log/bootstrap.log",
    "var/log/dpkg.log", "var/log/apt",
)  # fmt: skip
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OVERLAY_OPTIONS = "redirect_dir=off,metacopy=off,xino=off"
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_LAST_LINES = 15


def make(arguments: dict[str, Any]) -> dict[str, Any]:
    """Make the minimal root file system of a release in the new directory ``into``.

    ``suite`` is its code name, ``sources`` the list of uri, suite, components; ``keyring`` the keys
    they must be signed by; ``tmp`` a directory on the same file system. Standard error gets the
    progress.

    Raises:
        Unavailable: packages could not be fetched or installed; has the last lines of output.
    """
    into = Path(arguments["into"])
    lines = [_line(source, arguments["keyring"]) for source in arguments["sources"]]
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--dpkgopt=force-unsafe-io",
        '--aptopt=Acquire::Languages "none"',
        # The directory is root's alone: apt's own user could not read it, and apt would warn.
        '--aptopt=APT::Sandbox::User "root"',
        arguments["suite"],
        str(into),
        *lines,
    ]
    _run(command, {**_proxies(), "TMPDIR": arguments["tmp"], "PATH": _PATH}, "mmdebstrap")
    _clean(into)
    _configure(into, arguments)
    return {}


def add_init(arguments: dict[str, Any]) -> dict[str, Any]:
    """Install ``packages`` into the overlay of ``lowers`` (uppermost first), ``upper``, ``work``.

    Raises:
        Unavailable: packages could not be fetched or installed; has the last lines of output.
    """
    root = Path(arguments["tmp"]) / "root"
    root.mkdir()
    packages = " ".join(arguments["packages"])
    script = [
        *_mounts(arguments, root),
        f"chroot {root} apt-get update -qq",
        # Without a terminal there is nothing to open one in; what fails is told on standard error.
        f"chroot {root} apt-get install -qqy -o Dpkg::Use-Pty=0 --no-install-recommends {packages}"
        " >/dev/null",
        f"chroot {root} apt-get clean",
        *_finish(root),
    ]
    environment = {
        **_proxies(),
        "PATH": _PATH,
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
    }
    _run(["sh", "-euc", "\n".join(script)], environment, "apt-get")
    return {}


def _mounts(arguments: dict[str, Any], root: Path) -> list[str]:
    """Shell lines; the paths are the engine's own and need no quoting."""
    lowers = ":".join(arguments["lowers"])
    options = (
        f"lowerdir={lowers},upperdir={arguments['upper']},workdir={arguments['work']}"
        f",{_OVERLAY_OPTIONS}"
    )
    return [
        f"mount -t overlay -o {options} overlay {root}",
        f"mount -t proc proc {root}/proc",
        f"mount -t tmpfs -o mode=755 tmpfs {root}/dev",
        *(
            f"touch {root}/dev/{node}; mount --bind /dev/{node} {root}/dev/{node}"
            for node in _NODES
        ),
        f"mkdir {root}/dev/shm",
        f"mount -t tmpfs tmpfs {root}/run",
        f"mount -t tmpfs tmpfs {root}/tmp",
        f"mount --bind -o ro /etc/resolv.conf {root}/etc/resolv.conf",
    ]


def _finish(root: Path) -> list[str]:
    """Shell lines: take away what a system must not share with its clones."""
    return [
        # In a booted system packages do start their services.
        f"rm -f {root}/{_POLICY}",
        f": > {root}/etc/machine-id",
        *(f"rm -rf {root}/{name}" for name in _LEFTOVERS),
        f"rm -rf {root}/var/lib/apt/lists/* {root}/var/tmp/*",
    ]


def _line(source: list[Any], keyring: str) -> str:
    uri, suite, components = source
    return f"deb [signed-by={keyring}] {uri} {suite} {' '.join(components)}"


def _proxies() -> dict[str, str]:
    """The proxy of the environment, else of apt's own configuration; never stored in the image."""
    found = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
    if "http_proxy" not in found:
        asked = subprocess.run(
            ["apt-config", "shell", "proxy", "Acquire::http::Proxy"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        value = asked.stdout.strip().removeprefix("proxy='").removesuffix("'")
        if asked.returncode == 0 and value not in ("", "DIRECT", "false"):
            found["http_proxy"] = value
    return found


def _run(command: list[str], environment: dict[str, str], name: str) -> None:
    """In namespaces that die with this worker; output goes to standard error line by line."""
    wrapper = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    process = subprocess.Popen(
        [*wrapper, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd="/",
        umask=0o022,
        preexec_fn=lambda: _libc.prctl(_libc.PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    assert process.stdout is not None
    tail: list[str] = []
    for raw in process.stdout:
        line = raw.decode(errors="replace").rpartition("\r")[2].rstrip()
        if line:
            print(line, file=sys.stderr, flush=True)
            tail = [*tail[-_LAST_LINES:], line]
    if process.wait():
        raise Unavailable(
            f"{name} failed with status {process.returncode}:\n" + "\n".join(tail),
            hint="check that the archive can be reached, or name another one: --mirror URL",
        )


def _clean(root: Path) -> None:
    for name in _LEFTOVERS:
        _remove(root / name)
    for name in _EMPTY_DIRECTORIES:
        _empty(root / name)
    for name in _EMPTY_FILES:
        _remove(root / name)
        _write(root, name, "")


def _configure(root: Path, arguments: dict[str, Any]) -> None:
    for name, text in _CONFIGURATION.items():
        _write(root, name, text)
    _write(root, _POLICY, _NO_SERVICES, mode=0o755)
    stanzas = [
        f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {' '.join(components)}\n"
        f"Signed-By: {arguments['keyring']}\n"
        for uri, suite, components in arguments["sources"]
    ]
    _write(root, f"etc/apt/sources.list.d/{arguments['vendor']}.sources", "\n".join(stanzas))
    if not (root / "etc/debian_version").exists():
        raise Internal(f"mmdebstrap made no system in {root}")


def _write(root: Path, name: str, text: str, mode: int = 0o644) -> None:
    path = root / name
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _empty(directory: Path) -> None:
    if directory.is_dir():
        for path in directory.iterdir():
            _remove(path)
