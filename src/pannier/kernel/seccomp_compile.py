"""From an OCI seccomp section to a BPF program, by libseccomp, and a cache of the results.

Compiling takes tens of milliseconds, so every program is made once per profile. Only the daemon
loads this module; ``kernel.seccomp`` puts the program in force.

libseccomp knows the calls of its own time. Newer ones would all get the default action, EPERM, on
which C libraries give up where ENOSYS lets them fall back to an older call. So a few instructions
of ours come first: named newer calls get their action, calls that no profile can know get ENOSYS.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import tempfile
from pathlib import Path

import pyseccomp

from pannier.base.atomic import write_atomic
from pannier.base.errors import InvalidArgument, Unsupported
from pannier.oci.runtime import Seccomp, SyscallArg, SyscallRule

_FORMAT = 1  # part of the cache key: counts changes in what this module makes

# From 424 on, new calls have one number on all architectures (but alpha, and x32 with its own bit).
_NEW_CALLS = {
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
}
_LAST_KNOWN = max(_NEW_CALLS.values())
_X32_BIT = 0x40000000
_UNKNOWN = -1  # __NR_SCMP_ERROR; numbers below it stand for calls of the other architectures

_RET = 0x06
_LOAD_NUMBER = 0x20  # BPF_LD | BPF_W | BPF_ABS, with offset 0 of struct seccomp_data
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_GREATER_OR_EQUAL = 0x35

_RET_ALLOW = 0x7FFF0000
_RET_LOG = 0x7FFC0000
_RET_ERRNO = 0x00050000
_RET_TRAP = 0x00030000
_RET_KILL_THREAD = 0x00000000
_RET_KILL_PROCESS = 0x80000000

_ARCHITECTURES = {
    "SCMP_ARCH_X86": pyseccomp.Arch.X86,
    "SCMP_ARCH_X86_64": pyseccomp.Arch.X86_64,
    "SCMP_ARCH_X32": pyseccomp.Arch.X32,
    "SCMP_ARCH_ARM": pyseccomp.Arch.ARM,
    "SCMP_ARCH_AARCH64": pyseccomp.Arch.AARCH64,
    "SCMP_ARCH_PPC64LE": pyseccomp.Arch.PPC64LE,
    "SCMP_ARCH_RISCV64": pyseccomp.Arch.RISCV64,
    "SCMP_ARCH_S390": pyseccomp.Arch.S390,
    "SCMP_ARCH_S390X": pyseccomp.Arch.S390X,
}
_OPERATORS = {
    "SCMP_CMP_NE": pyseccomp.NE,
    "SCMP_CMP_LT": pyseccomp.LT,
    "SCMP_CMP_LE": pyseccomp.LE,
    "SCMP_CMP_EQ": pyseccomp.EQ,
    "SCMP_CMP_GE": pyseccomp.GE,
    "SCMP_CMP_GT": pyseccomp.GT,
    "SCMP_CMP_MASKED_EQ": pyseccomp.MASKED_EQ,
}

_memory: dict[str, bytes] = {}


def compile_filter(seccomp: Seccomp, cache: Path | None = None) -> bytes:
    """The BPF program for *seccomp*, an array of struct sock_filter.

    Args:
        seccomp: the ``linux.seccomp`` section of an OCI specification.
        cache: a directory that only root can write and that does not outlive an upgrade of
            libseccomp, such as one below /run.

    Raises:
        InvalidArgument: an action, operator or architecture that does not exist.
        Unsupported: an action that needs a listener.
    """
    digest = _digest(seccomp)
    code = _memory.get(digest) or _cached(cache, digest)
    if code is None:
        code = _compile(seccomp)
        if cache is not None:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(cache / digest, code)
    _memory[digest] = code
    return code


def compiled_before(seccomp: Seccomp) -> bytes | None:
    """What ``compile_filter`` has returned for *seccomp* in this process; it takes no time."""
    return _memory.get(_digest(seccomp))


def _digest(seccomp: Seccomp) -> str:
    text = json.dumps([_FORMAT, seccomp], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _cached(cache: Path | None, digest: str) -> bytes | None:
    try:
        return (cache / digest).read_bytes() if cache else None
    except FileNotFoundError:
        return None


def _compile(seccomp: Seccomp) -> bytes:
    default = _action(seccomp["defaultAction"], seccomp.get("defaultErrnoRet"))
    made = pyseccomp.SyscallFilter(default)
    made.set_attr(pyseccomp.Attr.CTL_NNP, 0)
    # A binary tree instead of a list: the kernel walks the program for every call.
    made.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)
    for name in seccomp.get("architectures", ()):
        _add_architecture(made, name)
    newer: dict[int, int] = {}
    for rule in seccomp.get("syscalls", ()):
        action = _action(rule["action"], rule.get("errnoRet"))
        for name in rule["names"]:
            if _add_rule(made, action, default, name, rule.get("args", [])):
                continue
            if name in _NEW_CALLS and not rule.get("args"):
                newer[_NEW_CALLS[name]] = _kernel_action(rule)
    return _prologue(newer, seccomp) + _export(made)


def _add_architecture(made: pyseccomp.SyscallFilter, name: str) -> None:
    try:
        token = _ARCHITECTURES[name]
    except KeyError:
        raise InvalidArgument(f"seccomp: unknown architecture {name!r}") from None
    if not made.exist_arch(token):
        made.add_arch(token)


def _add_rule(
    made: pyseccomp.SyscallFilter, action: int, default: int, name: str, args: list[SyscallArg]
) -> bool:
    """False if libseccomp does not know the call. The default action again needs no rule, and
    libseccomp refuses one."""
    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    if number == _UNKNOWN:
        return False
    if action == default:
        return True
    for group in _conjunctions(args):
        made.add_rule(action, number, *(_comparison(arg) for arg in group))
    return True


def _conjunctions(args: list[SyscallArg]) -> list[list[SyscallArg]]:
    """All conditions must hold; but several on one argument are alternatives, as libseccomp takes
    one per argument and runc decided so (OCI config-linux.md, seccomp)."""
    indexes = [arg["index"] for arg in args]
    if len(indexes) == len(set(indexes)):
        return [args]
    return [[arg] for arg in args]


def _comparison(arg: SyscallArg) -> pyseccomp.Arg:
    try:
        operator = _OPERATORS[arg["op"]]
    except KeyError:
        raise InvalidArgument(f"seccomp: unknown operator {arg['op']!r}") from None
    if operator == pyseccomp.MASKED_EQ:  # argument & value == valueTwo
        return pyseccomp.Arg(arg["index"], operator, arg["value"], arg.get("valueTwo", 0))
    return pyseccomp.Arg(arg["index"], operator, arg["value"])


def _action(name: str, errno_ret: int | None) -> int:
    simple = {
        "SCMP_ACT_ALLOW": pyseccomp.ALLOW,
        "SCMP_ACT_LOG": pyseccomp.LOG,
        "SCMP_ACT_TRAP": pyseccomp.TRAP,
        "SCMP_ACT_KILL": pyseccomp.KILL_THREAD,
        "SCMP_ACT_KILL_THREAD": pyseccomp.KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS": pyseccomp.KILL_PROCESS,
    }
    if name in simple:
        return int(simple[name])
    number = errno.EPERM if errno_ret is None else errno_ret
    if name == "SCMP_ACT_ERRNO":
        return int(pyseccomp.ERRNO(number))
    if name in ("SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"):
        raise Unsupported(f"seccomp: {name} needs a tracer or listener, which pannier has not")
    raise InvalidArgument(f"seccomp: unknown action {name!r}")


def _kernel_action(rule: SyscallRule) -> int:
    """The value that a filter returns to the kernel (linux/seccomp.h)."""
    if rule["action"] == "SCMP_ACT_ERRNO":
        return _RET_ERRNO | (rule.get("errnoRet", errno.EPERM) & 0xFFFF)
    return {
        "SCMP_ACT_ALLOW": _RET_ALLOW,
        "SCMP_ACT_LOG": _RET_LOG,
        "SCMP_ACT_TRAP": _RET_TRAP,
        "SCMP_ACT_KILL_PROCESS": _RET_KILL_PROCESS,
    }.get(rule["action"], _RET_KILL_THREAD)


def _prologue(newer: dict[int, int], seccomp: Seccomp) -> bytes:
    """Decide what libseccomp cannot, else fall through to its program, which follows.

    Only a profile that refuses by default needs it: others want unknown calls to pass.
    """
    if seccomp["defaultAction"] != "SCMP_ACT_ERRNO":
        return b""
    code = [_instruction(_LOAD_NUMBER, 0)]
    for number, value in sorted(newer.items()):
        code += [_instruction(_JUMP_IF_EQUAL, number, 0, 1), _instruction(_RET, value)]
    code += [
        _instruction(_JUMP_IF_GREATER_OR_EQUAL, _X32_BIT, 2, 0),
        _instruction(_JUMP_IF_GREATER_OR_EQUAL, _LAST_KNOWN + 1, 0, 1),
        _instruction(_RET, _RET_ERRNO | errno.ENOSYS),
    ]
    return b"".join(code)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _export(made: pyseccomp.SyscallFilter) -> bytes:
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        return os.pread(file.fileno(), 1 << 20, 0)
