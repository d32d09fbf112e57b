"""ARG and ENV: which value a name has at a point of the build, and instructions expanded by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pannier.base.errors import InvalidArgument
from pannier.build import model as m
from pannier.build.words import expand, expand_document, expand_words

# Usable without ARG, never in history nor in a cache key (docs: "Predefined ARGs").
PREDEFINED = frozenset(
    name
    for lower in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (lower, lower.upper())
)


@dataclass(slots=True)
class Arguments:
    """The build arguments of one build.

    Args:
        given: by ``--build-arg``; None means that only the name was given.
        platform: values of TARGETARCH and the like, known to every stage that declares them.
    """

    given: Mapping[str, str | None]
    platform: Mapping[str, str]
    common: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def declare_common(self, step: m.Arg, escape: str) -> None:
        """An ARG before the first FROM."""
        for name, default in step.names:
            scope = {**self.platform, **self.common}
            value = self._given(name)
            if value is None and default is not None:
                value = expand(default, scope, escape)
            if value is not None:
                self.common[name] = value

    def from_scope(self) -> dict[str, str]:
        """What FROM sees."""
        return {**self.platform, **self.common}

    def value(self, name: str, default: str | None) -> str | None:
        """What an ARG inside a stage gives *name*; None leaves it unset."""
        given = self._given(name)
        if given is not None:
            return given
        if default is not None:
            return default
        return self.common.get(name, self.platform.get(name))

    def proxies(self) -> dict[str, str]:
        """Predefined arguments that were given."""
        self.used |= PREDEFINED & set(self.given)
        return {k: v for k, v in self.given.items() if k in PREDEFINED and v is not None}

    def unused(self) -> list[str]:
        return sorted(set(self.given) - self.used - PREDEFINED)

    def _given(self, name: str) -> str | None:
        if name in self.given:
            self.used.add(name)
        return self.given.get(name)


def expanded(  # noqa: C901, PLR0911 - one case for each instruction
    step: m.Instruction, scope: Mapping[str, str], escape: str
) -> m.Instruction:
    """The instruction with variables put in where Docker does so.

    RUN, CMD, ENTRYPOINT, SHELL and HEALTHCHECK keep theirs: the shell in the container sees them.

    Raises:
        InvalidArgument: see `words.expand`.
    """

    def one(text: str) -> str:
        return expand(text, scope, escape)

    match step:
        case m.Env(pairs=pairs) | m.Label(pairs=pairs):
            values = tuple((one(name), one(value)) for name, value in pairs)
            if not all(name for name, _ in values):
                raise InvalidArgument(f"{type(step).__name__.upper()} names can not be blank")
            return replace(step, pairs=values)
        case m.Copy():
            return _expanded_copy(step, scope, escape)
        case m.Expose(ports=ports):
            words = tuple(word for port in ports for word in expand_words(port, scope, escape))
            return replace(step, ports=words)
        case m.Volume(paths=paths):
            return replace(step, paths=tuple(map(one, paths)))
        case m.User(user=user):
            return replace(step, user=one(user))
        case m.Workdir(path=path):
            return replace(step, path=one(path))
        case m.Stopsignal(signal=signal):
            return replace(step, signal=one(signal))
        case m.Arg(names=names):
            return replace(step, names=tuple((one(n), v and one(v)) for n, v in names))
        case _:
            return step


def _expanded_copy(step: m.Copy, scope: Mapping[str, str], escape: str) -> m.Copy:
    def one(text: str) -> str:
        return expand(text, scope, escape)

    return replace(
        step,
        sources=tuple(map(one, step.sources)),
        destination=one(step.destination),
        chown=one(step.chown),
        chmod=one(step.chmod),
        heredocs=tuple(
            replace(doc, content=expand_document(doc.content, scope, escape)) if doc.expand else doc
            for doc in step.heredocs
        ),
    )
