"""The last steps of a child: user, capabilities, filter, and the program itself.

The same for the first process of a container and for an exec'd one. In two halves: ``prepare``
finds the program and becomes the user, so that a mistake shows before the container is started;
``execute`` does what could stand in the way of a Python process.
"""

from __future__ import annotations

import binascii
import errno
import os
import resource

from pannier.base.errors import InvalidArgument, KernelError
from pannier.kernel import _libc, capabilities, process, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

    Plan = Mapping[str, Any]

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FAILED = "unable to start container process: "
_NOT_IN_PATH = "executable file not found in $PATH"
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class Program:
    """A process plan on its way to execve.

    Args:
        plan: from ``plan.process_plan``.
        permitted: the capabilities (a mask) it has now.
        last_cap: the highest capability of this kernel.
    """

    def __init__(self, plan: Plan, *, permitted: int, last_cap: int) -> None:
        self._plan = plan
        self._permitted = permitted
        self._last_cap = last_cap
        self._path = ""
        self._argv: list[str] = plan["argv"]
        # decoded before the limits of the container hold
        self._filter = binascii.a2b_base64(plan["seccomp"])

    def prepare(self) -> None:
        """Enter the working directory, become the user, find the program.

        Raises:
            InvalidArgument: there is no such program, or it cannot be executed; ``exit_code`` in
                its fields, wording as Docker's.
            KernelError: a step was refused.
        """
        plan = self._plan
        entered = self._change_directory()
        sets = plan["capabilities"]
        if sets is not None:
            capabilities.drop_bounding(sets["bounding"], self._last_cap)
        process.set_user(plan["uid"], plan["gid"], plan["groups"])
        if not entered:
            self._retry_directory()
        self._path = self._find()
        if "init" in plan:
            self._argv = ["/sbin/docker-init", "--", *self._argv]
            self._path = plan["init"]

    def execute(self) -> NoReturn:
        """Give up what the container must not have, and turn into the program.

        Raises:
            InvalidArgument: the kernel would not execute it; ``exit_code`` in its fields.
            KernelError: a step was refused.
        """
        plan = self._plan
        sets = plan["capabilities"]
        for number, soft, hard, name in plan["rlimits"]:
            _set_limit(number, soft, hard, name)
        os.umask(plan["umask"])
        if plan["no_new_privileges"]:
            _libc.prctl(_libc.PR_SET_NO_NEW_PRIVS, 1)
        if self._filter and not plan["no_new_privileges"]:
            # needs CAP_SYS_ADMIN, which another uid has only permitted until it is made effective
            _libc.capset(self._permitted, self._permitted, 0)
            seccomp.load(self._filter)
        if sets is not None:
            self._set_capabilities(sets)
        if self._filter and plan["no_new_privileges"]:
            seccomp.load(self._filter)
        try:
            os.execve(self._path, self._argv, plan["env"])
        except OSError as error:
            code = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
            text = os.strerror(error.errno or 0).lower()
            raise InvalidArgument(
                f"{_FAILED}exec {self._path}: {text}",
                hint=_exec_hint(error.errno or 0),
                exit_code=code,
            ) from error

    def _set_capabilities(self, sets: Mapping[str, int]) -> None:
        has = self._permitted
        permitted, inheritable = sets["permitted"] & has, sets["inheritable"] & has
        _libc.capset(sets["effective"] & permitted, permitted, inheritable)
        ambient = sets["ambient"] & permitted & inheritable
        if ambient:
            capabilities.raise_ambient(ambient, self._last_cap)

    def _change_directory(self) -> bool:
        cwd = self._plan["cwd"]
        try:
            os.chdir(cwd)
        except PermissionError:
            return False  # perhaps open to the user, as on a file system without root's rights
        except (FileNotFoundError, NotADirectoryError) as error:
            text = os.strerror(error.errno or 0).lower()
            raise InvalidArgument(
                f'{_FAILED}chdir to cwd ("{cwd}") set in config.json failed: {text}',
                exit_code=NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE,
            ) from error
        return True

    def _retry_directory(self) -> None:
        cwd = self._plan["cwd"]
        try:
            os.chdir(cwd)
        except OSError as error:
            raise KernelError(error.errno or 0, "chdir", cwd) from error

    def _find(self) -> str:
        name = self._argv[0]
        try:
            return process.find_program(name, self._plan["env"], _DEFAULT_PATH)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            what = os.strerror(error.errno or 0).lower()
            if missing:
                what = f"stat {name}: {what}" if "/" in name else _NOT_IN_PATH
            elif isinstance(error, IsADirectoryError):
                # execve(2)'s own error goes with it: Docker's client 20.10 knows 126 by it
                what = "is a directory: permission denied"
            code = NOT_FOUND if missing else NOT_EXECUTABLE
            raise InvalidArgument(f'{_FAILED}exec: "{name}": {what}', exit_code=code) from error


def _exec_hint(number: int) -> str | None:
    if number == errno.ENOEXEC:
        return "is it for another architecture, or a script without a #! line?"
    if number == errno.ENOENT:
        return "the interpreter named in its first line, or its dynamic loader, is missing"
    return None


def _set_limit(number: int, soft: int, hard: int, name: str) -> None:
    try:
        resource.setrlimit(number, (soft, hard))
    except (OSError, ValueError) as error:
        raise limit_refused(name, hard) from error


def limit_refused(name: str, hard: int) -> InvalidArgument:
    """The error for a resource limit that this engine cannot give."""
    return InvalidArgument(
        f"error setting {name} to {hard}: operation not permitted",
        hint="raising a hard limit above the engine's own needs CAP_SYS_RESOURCE on the host; "
        "ask for less, or raise the limit of the engine's service",
    )
