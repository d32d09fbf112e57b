"""The device filter of cgroup version 2: a BPF program (BPF_PROG_TYPE_CGROUP_DEVICE) made from the
same rules that version 1 takes as text.

The kernel runs it on every open and mknod of a device node and refuses where it returns 0.
Numbers: linux/bpf.h, linux/bpf_common.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from pannier.base.errors import KernelError
from pannier.kernel._libc import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pannier.oci.runtime import DeviceRule

_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_DETACH = 9
_BPF_PROG_GET_FD_BY_ID = 13
_BPF_PROG_QUERY = 16
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_F_ALLOW_MULTI = 2

# struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESS = 7

_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K, as are the others with a constant
_SHIFT_RIGHT = 0x74
_MOVE_REGISTER = 0xBC
_MOVE = 0xB7  # 64 bit
_JUMP_NOT_EQUAL = 0x55
_JUMP_EQUAL = 0x15
_EXIT = 0x95

_syscall = libc["syscall"]
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_syscall.restype = ctypes.c_long

_CONTEXT, _RESULT = 1, 0
_TYPE, _KIND_ACCESS, _MAJOR, _MINOR, _SCRATCH = 2, 3, 4, 5, 6


def _instruction(
    code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, value)


def program(rules: Sequence[DeviceRule]) -> bytes:
    """BPF for *rules*: a later rule overrules an earlier one; what none matches is refused.

    As in version 1, "deny all" or "allow all" resets everything before it. Unlike there, two rules
    that allow reading and writing one by one do not add up to opening for both.
    """
    code = [
        _instruction(_LOAD_WORD, _TYPE, _CONTEXT, 0),
        _instruction(_MOVE_REGISTER, _KIND_ACCESS, _TYPE),
        _instruction(_AND, _TYPE, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, _KIND_ACCESS, value=16),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    for rule in reversed(rules):
        code += _block(rule)
        if _matches_all(rule):
            break
    else:
        code += _verdict(False)
    return b"".join(code)


def _matches_all(rule: DeviceRule) -> bool:
    return rule.get("type", "a") == "a"


def _verdict(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE, _RESULT, value=int(allow)), _instruction(_EXIT)]


def _block(rule: DeviceRule) -> list[bytes]:
    """Tests that jump behind the block where they fail, then the verdict."""
    verdict = _verdict(rule["allow"])
    if _matches_all(rule):
        return verdict
    tests: list[Callable[[int], bytes]] = [_test(_TYPE, _TYPES[rule["type"]])]
    access = sum(_ACCESS[letter] for letter in set(rule.get("access") or "rwm"))
    prepare: list[bytes] = []
    if access != _ALL_ACCESS:
        # Allowed only if nothing else is asked for; denied as soon as one of these is.
        mask = _ALL_ACCESS & ~access if rule["allow"] else access
        prepare = [
            _instruction(_MOVE_REGISTER, _SCRATCH, _KIND_ACCESS),
            _instruction(_AND, _SCRATCH, value=mask),
        ]
        tests.append(_test(_SCRATCH, 0, _JUMP_NOT_EQUAL if rule["allow"] else _JUMP_EQUAL))
    for register, key in ((_MAJOR, rule.get("major")), (_MINOR, rule.get("minor"))):
        if key is not None and key >= 0:
            tests.append(_test(register, key))
    after = [test(len(verdict) + len(tests) - 1 - at) for at, test in enumerate(tests)]
    return [*prepare, *after, *verdict]


def _test(register: int, value: int, jump: int = _JUMP_NOT_EQUAL) -> Callable[[int], bytes]:
    return lambda skip: _instruction(jump, register, offset=skip, value=value)


def attach(directory: str, rules: Sequence[DeviceRule]) -> None:
    """Put the filter for *rules* on a cgroup, in place of one that is there.

    Args:
        directory: of cgroup version 2; filters of its parents stay in force too.
        rules: in order.

    Raises:
        KernelError: the kernel has no CONFIG_CGROUP_BPF (EINVAL), or this is not root (EPERM).
    """
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        old = _attached(cgroup)
        loaded = _load(program(rules))
        try:
            _attach(cgroup, loaded)
        finally:
            os.close(loaded)
        # New before old: in between both must agree, so nothing is open for a moment.
        for identity in old:
            _detach(cgroup, identity)
    finally:
        os.close(cgroup)


def _load(code: bytes) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    license_name = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQII",
        _PROG_TYPE_CGROUP_DEVICE,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_name),
        0,
        0,
        0,
        0,
        0,
    )
    return _bpf(_BPF_PROG_LOAD, bytearray(attributes), "bpf load")


def _attach(cgroup: int, loaded: int) -> None:
    attributes = struct.pack("=IIII", cgroup, loaded, _ATTACH_CGROUP_DEVICE, _F_ALLOW_MULTI)
    _bpf(_BPF_PROG_ATTACH, bytearray(attributes), "bpf attach")


def _attached(cgroup: int) -> list[int]:
    ids = (ctypes.c_uint32 * 16)()
    attributes = bytearray(
        struct.pack("=IIIIQII", cgroup, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), 16, 0)
    )
    _bpf(_BPF_PROG_QUERY, attributes, "bpf query")
    count = struct.unpack_from("=I", attributes, 24)[0]
    return list(ids[:count])


def _detach(cgroup: int, identity: int) -> None:
    fd = _bpf(_BPF_PROG_GET_FD_BY_ID, bytearray(struct.pack("=III", identity, 0, 0)), "bpf open")
    try:
        attributes = struct.pack("=IIII", cgroup, fd, _ATTACH_CGROUP_DEVICE, 0)
        _bpf(_BPF_PROG_DETACH, bytearray(attributes), "bpf detach")
    finally:
        os.close(fd)


def _bpf(command: int, attributes: bytearray, what: str) -> int:
    """bpf(2); *attributes* is read and written by the kernel."""
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        raise KernelError(errno.ENOSYS, what)
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    result = _syscall(number, command, ctypes.addressof(buffer), len(attributes))
    if result < 0:
        raise KernelError(ctypes.get_errno(), what)
    return int(result)
