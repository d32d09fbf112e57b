"""Loading a compiled system call filter; the child of the keeper does it just before it executes.

Making the program from a profile needs libseccomp and belongs to ``kernel.seccomp_compile``, which
only the daemon loads.
"""

from __future__ import annotations

import ctypes
import struct

from pannier.kernel._libc import PR_SET_SECCOMP, prctl

_MODE_FILTER = 2
_INSTRUCTION_SIZE = 8  # struct sock_filter


def load(bpf: bytes) -> None:
    """Put the filter on this thread and all it will start (seccomp(2)).

    It stays through execve and cannot be taken off. Needs CAP_SYS_ADMIN in the thread's user
    namespace, so it comes before the capabilities are dropped, or PR_SET_NO_NEW_PRIVS.

    Args:
        bpf: what ``seccomp_compile.compile_filter`` returned.

    Raises:
        KernelError: EACCES (neither of the two above), EINVAL (not a valid program).
    """
    code = ctypes.create_string_buffer(bpf, len(bpf))
    # struct sock_fprog: the pointer is aligned, so padding follows the length.
    program = struct.pack("@HP", len(bpf) // _INSTRUCTION_SIZE, ctypes.addressof(code))
    pointer = ctypes.create_string_buffer(program, len(program))
    prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(pointer))
