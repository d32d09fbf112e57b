"""Dockerfile instructions applied to an image's configuration alone: ``commit --change``."""

from __future__ import annotations

from collections.abc import Sequence

from pannier.base.errors import InvalidArgument
from pannier.build import effects
from pannier.build import model as m
from pannier.build.parser import parse_instruction
from pannier.build.variables import expanded
from pannier.oci.image import ContainerDefaults

_ALLOWED = (
    m.Cmd,
    m.Entrypoint,
    m.Env,
    m.Expose,
    m.Healthcheck,
    m.Label,
    m.Onbuild,
    m.Shell,
    m.Stopsignal,
    m.User,
    m.Volume,
    m.Workdir,
)


def apply_changes(defaults: ContainerDefaults, changes: Sequence[str]) -> ContainerDefaults:
    """The configuration after *changes*, one instruction each.

    Raises:
        InvalidArgument: malformed, or an instruction that needs files.
    """
    own_command = False
    for text in changes:
        step = parse_instruction(text, "change")
        if not isinstance(step, _ALLOWED):
            word = text.split(None, 1)[0].upper()
            known = " ".join(sorted(kind.__name__.upper() for kind in _ALLOWED))
            raise InvalidArgument(f"{word} is not a valid change command", hint=f"known: {known}")
        words = expanded(step, effects.environment(defaults.env), "\\")
        defaults = effects.applied(defaults, words, command_is_own=own_command)
        own_command = own_command or isinstance(step, m.Cmd)
    return defaults
