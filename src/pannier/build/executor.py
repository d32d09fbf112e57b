"""The steps of a build in their order: each one found in the cache, or made and put there.

A step that changes files makes one layer, whose key holds all that the files depend on. Other steps
only change the configuration. What a step does to the configuration is in `effects`, the file work
in `files`, the containers of RUN behind `ports.Runner`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from pannier.base.errors import InvalidArgument, PannierError
from pannier.base.undo import AsyncUndoStack
from pannier.build import effects, files
from pannier.build import model as m
from pannier.build.cache import BuildCache, Cached, key_of
from pannier.build.context import Context
from pannier.build.errors import CommandFailed, UnsupportedInstruction, located
from pannier.build.output import Output
from pannier.build.parser import parse_instruction
from pannier.build.ports import Runner, RunStep
from pannier.build.sources import Sources
from pannier.build.stages import SCRATCH, Graph, PlannedStage
from pannier.build.state import State
from pannier.build.variables import PREDEFINED, Arguments, expanded
from pannier.build.words import expand
from pannier.images.layers import Layer, LayerStore, Upper
from pannier.images.platform import describe, host_platform
from pannier.wire.images import BuildOptions


@dataclass(frozen=True, slots=True)
class _Made:
    """What making a layer found out: its line in the history, and a further key for it."""

    description: str
    key: str = ""


@dataclass(slots=True)
class Build:
    """One build.

    Args:
        file: the Dockerfile.
        graph: its stages.
        arguments: the build arguments.
        context: the files.
        held: layers pinned for this build; the caller releases them.
        used: keys that were found in the cache.
    """

    layers: LayerStore
    cache: BuildCache
    runner: Runner
    sources: Sources
    options: BuildOptions
    file: m.Dockerfile
    graph: Graph
    arguments: Arguments
    context: Context
    output: Output
    held: list[Layer] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    _done: dict[int, State] = field(default_factory=dict)
    _number: int = 0
    _total: int = 0

    async def execute(self, stages: Sequence[PlannedStage]) -> State:
        """Build *stages* in their order; returns the last one's result.

        Raises:
            DockerfileError: an instruction's values are wrong.
            CommandFailed: a RUN step.
            PannierError: whatever else stops a step; earlier steps stay cached.
        """
        labels = self._label_step()
        self._total = len(self.file.arguments) + sum(1 + len(s.stage.steps) for s in stages)
        self._total += labels is not None
        for step in self.file.arguments:
            self._announce(step)
        for stage in stages:
            self._done[stage.number] = await self._stage(stage)
        state = self._done[stages[-1].number]
        return state if labels is None else await self._step(state, labels)

    def _label_step(self) -> m.Label | None:
        pairs = tuple(sorted(self.options.labels.items()))
        if not pairs:
            return None
        text = "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)
        # These words were never a Dockerfile's: nothing in them is to be expanded.
        quoted = tuple((_protected(n), _protected(v)) for n, v in pairs)
        return m.Label(line=0, text=text, pairs=quoted)

    def _announce(self, step: m.Instruction) -> None:
        self._number += 1
        self.output.step(self._number, self._total, step.text)

    async def _stage(self, planned: PlannedStage) -> State:
        self._announce(planned.stage.base)
        state = await self._base(planned)
        if planned.base != SCRATCH:
            self.output.result(state.id)
        triggers = state.defaults.on_build or []
        state = _with_path(state.as_base())
        if triggers:
            count = len(triggers)
            self.output.text(f"# Executing {count} build trigger{'s' if count > 1 else ''}\n")
        for text in triggers:
            trigger = parse_instruction(text, f"ONBUILD of {planned.base}")
            state = await self._do(state, trigger, planned.number)
        for step in planned.stage.steps:
            state = await self._step(state, step, planned.number)
        return state

    async def _base(self, planned: PlannedStage) -> State:
        if planned.base == SCRATCH:
            return State.scratch()
        if planned.parent is not None:
            return self._done[planned.parent]
        self._check_platform(planned.stage.base)
        state = await self.sources.image(planned.base)
        self._hold(state.layers)
        return state

    def _check_platform(self, step: m.From) -> None:
        wanted = expand(step.platform, self.arguments.from_scope(), self.file.escape)
        host = describe(host_platform())
        if wanted and wanted not in {host, host.rpartition("/v")[0]}:
            raise UnsupportedInstruction(
                self.file.file,
                step.line,
                f"FROM --platform={wanted}: this host is {host}, and a container shares its kernel",
            )

    async def _step(self, state: State, step: m.Instruction, stage: int = 0) -> State:
        self._announce(step)
        return await self._do(state, step, stage)

    async def _do(self, state: State, step: m.Instruction, stage: int) -> State:
        with located(self.file.file, step.line):
            words = expanded(step, state.scope(), self.file.escape)
            match words:
                case m.Run():
                    return await self._run(state, words)
                case m.Copy():
                    return await self._copy(state, words, stage)
                case m.Workdir():
                    return await self._workdir(state, words)
                case _:
                    return self._configure(state, words)

    # -- steps without files

    def _configure(self, state: State, step: m.Instruction) -> State:
        line = effects.history_line(state.defaults, step)
        key = key_of("config", state.id, line)
        cached = self._find(key)
        created = cached.created_ns if cached else time.time_ns()
        if cached is None:
            self.cache.add(key, Cached(None, created, line))
        changed = self._effect(state, step).with_step(None, created, line)
        self.output.result(changed.id, cached=cached is not None)
        return changed

    def _effect(self, state: State, step: m.Instruction) -> State:
        if isinstance(step, m.Arg):
            values = {n: self.arguments.value(n, default) for n, default in step.names}
            known = {name: value for name, value in values.items() if value is not None}
            return replace(state, arguments={**state.arguments, **known})
        if isinstance(step, m.Maintainer):
            return replace(state, config=effects.with_author(state.config, step.name), image=None)
        own = state.command_is_own
        changed = state.with_defaults(effects.applied(state.defaults, step, command_is_own=own))
        return replace(changed, command_is_own=own or isinstance(step, m.Cmd))

    # -- steps that change files

    async def _run(self, state: State, step: m.Run) -> State:
        words = effects.argv(state.defaults, step.command)
        arguments = state.run_arguments()
        defaults = state.defaults
        key = key_of(
            "run", state.diff_ids, words, defaults.env, sorted(arguments.items()),
            defaults.user, defaults.working_dir, step.network,
        )  # fmt: skip
        shown = {name: v for name, v in arguments.items() if name not in PREDEFINED}
        line = effects.run_history_line(words, shown)

        async def make(upper: Upper) -> _Made:
            await self._run_container(state, step, words, upper)
            return _Made(line)

        return await self._layer_step(state, key, make)

    async def _run_container(
        self, state: State, step: m.Run, words: Sequence[str], upper: Upper
    ) -> None:
        if not state.layers:
            raise InvalidArgument("RUN in an empty image: there is no program in it to run")
        defaults = state.defaults
        pairs = {**self.arguments.proxies(), **state.run_arguments()}
        run = RunStep(
            layers=tuple(layer.id for layer in state.layers),
            upper=str(upper.upper),
            argv=list(words),
            env=effects.merged_env(defaults.env or [], pairs.items()),
            user=defaults.user,
            cwd=defaults.working_dir or "/",
            network=step.network or self.options.network_mode.removeprefix("default"),
            host_ca=self.options.host_ca,
            extra_hosts=tuple(self.options.extra_hosts),
            shm_size=self.options.shm_size,
        )
        code = await self.runner.run(run, self.output.bytes)
        if code:
            raise CommandFailed(" ".join(words), code)
        files.scrub(upper.upper, self._lowers(state))

    async def _workdir(self, state: State, step: m.Workdir) -> State:
        defaults = effects.applied(state.defaults, step, command_is_own=False)
        path = defaults.working_dir
        line = effects.history_line(state.defaults, replace(step, path=path))

        async def make(upper: Upper) -> _Made:
            await files.make_directory(path, self._lowers(state), upper)
            return _Made(line)

        key = key_of("workdir", state.diff_ids, line)
        return await self._layer_step(state, key, make, lambda s: s.with_defaults(defaults))

    async def _copy(self, state: State, step: m.Copy, stage: int) -> State:
        if any(map(_is_remote, step.sources)):
            raise self._remote(step)
        step = replace(step, destination=_destination(state, step.destination))
        lowers = self._lowers(state)
        owner, mode = files.owner_of(step, lowers), files.mode_of(step)
        documents = tuple((doc.name, doc.content) for doc in step.heredocs)
        job = files.CopyJob(
            source=self.context.job_source(), sources=step.sources, documents=documents,
            destination=step.destination, owner=owner, mode=mode, what=step.name, extract=step.add,
            chown_members=bool(step.chown), hash=bool(step.origin),
        )  # fmt: skip

        def key(*content: object) -> str:
            return key_of(step.name, state.diff_ids, content, step.destination, owner, mode)

        if step.origin:
            return await self._copy_from(state, step, stage, job, key)
        digest, kind = await self.context.digest(step.sources, step.name, documents)

        async def make(upper: Upper) -> _Made:
            await files.run_copy(job, lowers, upper, self.context.worker_input)
            return _Made(effects.copy_history_line(state.defaults, step, digest, kind))

        return await self._layer_step(state, key(digest), make)

    async def _copy_from(
        self, state: State, step: m.Copy, stage: int, job: files.CopyJob, key: Callable[..., str]
    ) -> State:
        """The files lie in another stage: they are read only if that stage is a new one.

        Its layers identify them at once; after a copy their content does, too, so that a stage
        that was made again with the same outcome does not disturb what follows.
        """
        origin = await self._origin(step, stage)
        source = files.image_source(step.origin, self._lowers(origin))
        job = replace(job, source=source)

        async def make(upper: Upper) -> _Made:
            answer = await files.run_copy(job, self._lowers(state), upper, None)
            digest, kind = answer["digest"], answer["kind"]
            line = effects.copy_history_line(state.defaults, step, digest, kind)
            return _Made(line, key(digest))

        return await self._layer_step(
            state, key(origin.diff_ids, step.sources, job.documents), make
        )

    async def _origin(self, step: m.Copy, stage: int) -> State:
        """The stage or image that ``--from`` names."""
        number = self.graph.find(step.origin, stage)
        if number is not None and number in self._done:
            return self._done[number]
        state = await self.sources.image(step.origin)
        self._hold(state.layers)
        return state

    def _remote(self, step: m.Copy) -> PannierError:
        if not step.add:
            return InvalidArgument("source can't be a URL for COPY")
        return UnsupportedInstruction(
            self.file.file,
            step.line,
            "ADD of a URL is not supported",
            "put the file into the context, or fetch it in a RUN step",
        )

    async def _layer_step(
        self,
        state: State,
        key: str,
        make: Callable[[Upper], Awaitable[_Made]],
        effect: Callable[[State], State] = lambda state: state,
    ) -> State:
        """Find the layer in the cache or make it."""
        cached = self._find(key)
        result = cached or await self._made(state, key, make)
        changed = effect(state).with_step(result.layer, result.created_ns, result.description)
        self.output.result(changed.id, cached=cached is not None)
        return changed

    async def _made(
        self, state: State, key: str, make: Callable[[Upper], Awaitable[_Made]]
    ) -> Cached:
        upper = self.layers.new_upper()
        async with AsyncUndoStack() as undo:
            undo.push(self.layers.discard, upper)
            made = await make(upper)
            result = self._find(made.key) if made.key else None
            if result is None:
                layer = None
                if not files.is_unchanged(upper.upper):
                    layer = await self.layers.adopt(upper.upper)
                    self.held.append(layer)
                    undo.commit()
                result = Cached(layer, time.time_ns(), made.description)
        for found in filter(None, (key, made.key)):
            self.cache.add(found, result)
        return result

    def _find(self, key: str) -> Cached | None:
        if self.options.no_cache:
            return None
        cached = self.cache.find(key)
        if cached is not None:
            self.used.append(key)
            if cached.layer is not None:
                self._hold([cached.layer])
        return cached

    def _hold(self, layers: Sequence[Layer]) -> None:
        """Keep *layers* until the build ends."""
        self.layers.pin(layers)
        self.held += layers

    def _lowers(self, state: State) -> list[str]:
        return self.layers.lower_paths(state.layers)


def _destination(state: State, path: str) -> str:
    """Absolute; a slash at the end says that it is a directory."""
    if not path:
        raise InvalidArgument("a destination was expected, the variables gave an empty one")
    joined = effects.joined(state.defaults.working_dir, path)
    is_directory = path.endswith(("/", "/.")) or path == "."
    return joined.rstrip("/") + "/" if is_directory else joined


def _is_remote(source: str) -> bool:
    return source.startswith(("http://", "https://", "ftp://", "git://", "git@"))


def _protected(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _with_path(state: State) -> State:
    """Programs are looked for in the usual places where the image does not say so itself."""
    env = state.defaults.env or []
    if "PATH" in effects.environment(env):
        return state
    entries = [*env, f"PATH={effects.DEFAULT_PATH}"]
    return state.with_defaults(msgspec.structs.replace(state.defaults, env=entries))
