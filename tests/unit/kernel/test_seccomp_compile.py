"""Filters are compiled, cached, and put in force in a child; the child tells what it may do."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import traceback
from pathlib import Path

import pytest

from pannier.base.errors import InvalidArgument, Unsupported
from pannier.kernel import _libc, seccomp, seccomp_compile
from pannier.oci.defaults import DEFAULT_CAPABILITIES
from pannier.oci.seccomp_profile import profile

MACHINE = os.uname().machine
CLONE_NEWNS_IN_CLONE = 0x00020000


def _in_child(bpf: bytes, check) -> str:
    """Run *check* in a child under the filter; return what it returns."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _libc.prctl(_libc.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.load(bpf)
            os.write(write_end, str(check()).encode())
        except BaseException:
            os.write(write_end, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return text


def _syscall(number: int, *args: int) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(arg) for arg in args))
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


@pytest.fixture(scope="module")
def default_filter() -> bytes:
    return seccomp_compile.compile_filter(profile(set(DEFAULT_CAPABILITIES), MACHINE))


def test_default_profile_in_force(default_filter: bytes) -> None:
    def check() -> list[str]:
        result = []
        try:
            _libc.unshare(_libc.CLONE_NEWUSER)
        except OSError as error:
            result.append(errno.errorcode[error.errno])
        for family in (socket.AF_INET, socket.AF_VSOCK):
            try:
                socket.socket(family, socket.SOCK_STREAM).close()
                result.append("ok")
            except OSError as error:
                result.append(errno.errorcode[error.errno])
        result.append(_syscall(_libc.SYS_CLONE3, 0, 0))
        result.append(_syscall(452, -1, 0, 0, 0))  # fchmodat2: newer than libseccomp 2.5
        result.append(_syscall(500))  # from the future
        return result

    expected = ["EPERM", "ok", "EPERM", "ENOSYS", "EFAULT", "ENOSYS"]
    assert (
        _in_child(default_filter, check)
        in (
            str(expected),
            str([*expected[:4], "ENOSYS", "ENOSYS"]),  # kernel before 6.6 has no fchmodat2
            str([*expected[:4], "EBADF", "ENOSYS"]),
        )
    )


def test_children_and_programs_inherit_it(default_filter: bytes) -> None:
    def check() -> int:
        return os.spawnl(os.P_WAIT, "/usr/bin/unshare", "unshare", "--mount", "true")

    assert _in_child(default_filter, check) == "1"


def test_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp_compile, "_memory", {})
    made = profile({"CAP_SYSLOG"}, MACHINE)
    first = seccomp_compile.compile_filter(made, tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.read_bytes() == first
    file.write_bytes(b"12345678")
    monkeypatch.setattr(seccomp_compile, "_memory", {})
    assert seccomp_compile.compile_filter(made, tmp_path) == b"12345678"


def test_allow_list_of_arguments() -> None:
    made = seccomp_compile.compile_filter(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {
                    "names": ["fchmod", "no_such_call"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": errno.EXDEV,
                    "args": [{"index": 0, "value": 777, "op": "SCMP_CMP_EQ"}],
                }
            ],
        }
    )

    def check() -> list[str]:
        codes = []
        for number in (777, 778):
            try:
                os.fchmod(number, 0o600)
            except OSError as error:
                codes.append(errno.errorcode[error.errno])
        return codes

    assert _in_child(made, check) == str(["EXDEV", "EBADF"])


@pytest.mark.parametrize(
    ("action", "kind"), [("SCMP_ACT_NOTIFY", Unsupported), ("SCMP_ACT_WHAT", InvalidArgument)]
)
def test_impossible_actions(action: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        seccomp_compile.compile_filter({"defaultAction": action})
