"""``build``: a Dockerfile and its context become an image; the package's way in.

Reads the request, puts one `executor.Build` together, names the result. Nothing of a build outlives
it but its image and what the cache holds.
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from pannier.base.database import Database
from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.instance import Instance
from pannier.base.units import parse_time, rfc3339
from pannier.build.cache import BuildCache, CacheRecord
from pannier.build.context import Context, open_directory, receive
from pannier.build.errors import located
from pannier.build.executor import Build
from pannier.build.model import Dockerfile
from pannier.build.output import Output
from pannier.build.parser import parse
from pannier.build.ports import Pull, Report, Runner
from pannier.build.sources import Sources
from pannier.build.stages import Graph, PlannedStage
from pannier.build.state import State
from pannier.build.variables import Arguments
from pannier.images import references
from pannier.images.layers import LayerStore
from pannier.images.platform import describe, host_platform
from pannier.images.store import Image, ImageStore
from pannier.wire.images import BuildOptions
from pannier.wire.system import BuildCacheRecord

_FILTERS = ("until", "unused-for")


class Builder:
    """Builds images.

    Args:
        runner: runs the containers of RUN steps.
        pull: fetches images that are not here.
    """

    def __init__(
        self, images: ImageStore, runner: Runner, pull: Pull, db: Database, instance: Instance
    ) -> None:
        self._images = images
        self._layers: LayerStore = images.layers
        self._runner = runner
        self._pull = pull
        self._tmp = instance.tmp
        self._cache = BuildCache(db, self._layers)

    async def build(
        self, context: AsyncIterator[bytes] | Path, options: BuildOptions, report: Report
    ) -> str:
        """Build an image; cancelling it kills the running step and cleans up.

        Args:
            context: a tar archive, compressed or not, or a directory on this host.
            options: the request.
            report: called with each line of output, in the classic builder's words.

        Returns:
            the image's id.

        Raises:
            DockerfileError: with file and line.
            CommandFailed: a RUN step; its code is in ``fields["exit_code"]``.
            PannierError: anything else. What was built before the failing step stays cached.
        """
        tags = [references.parse(tag) for tag in options.tags]
        output = Output(report, quiet=options.quiet)
        opened = await self._open(context)
        try:
            file = _read_dockerfile(opened, options.dockerfile)
            opened.apply_ignore(options.dockerfile)
            image = await self._build(file, opened, options, output)
        except BaseException:
            output.failed()
            raise
        finally:
            opened.close()
        for tag in tags:
            self._images.tag(image, str(tag))
        return image.id

    async def prune(
        self, filters: Mapping[str, Sequence[str]], *, all_: bool, keep: int
    ) -> tuple[Sequence[str], int]:
        """Forget cached steps; see `cache.BuildCache.prune`.

        Args:
            filters: ``until`` with a time or an age.
            all_: also what images are made of.
            keep: bytes to keep.

        Raises:
            InvalidArgument: an unknown filter.
        """
        unknown = [name for name in filters if name not in _FILTERS]
        if unknown:
            raise InvalidArgument(f"invalid filter '{unknown[0]}'", hint="known is until")
        times = [parse_time(text) for texts in filters.values() for text in texts]
        return await self._cache.prune(
            all_=all_, keep_bytes=keep, before_ns=min(times, default=None)
        )

    def cache_records(self) -> list[BuildCacheRecord]:
        """The cached steps for ``system df``."""
        return [_to_wire(record) for record in self._cache.records()]

    async def _open(self, context: AsyncIterator[bytes] | Path) -> Context:
        if isinstance(context, Path):
            return open_directory(context)
        return await receive(context, self._tmp)

    async def _build(
        self, file: Dockerfile, context: Context, options: BuildOptions, output: Output
    ) -> Image:
        arguments = Arguments(options.build_args, _platform_arguments())
        for step in file.arguments:
            with located(file.file, step.line):
                arguments.declare_common(step, file.escape)
        graph = Graph(file, arguments.from_scope())
        build = Build(
            layers=self._layers,
            cache=self._cache,
            runner=self._runner,
            sources=Sources(self._images, self._pull, output.progress, always_pull=options.pull),
            options=options,
            file=file,
            graph=graph,
            arguments=arguments,
            context=context,
            output=output,
        )
        return await self._execute(build, graph.needed(options.target))

    async def _execute(self, build: Build, stages: Sequence[PlannedStage]) -> Image:
        try:
            state = await build.execute(stages)
            unused = build.arguments.unused()
            if unused:
                names = " ".join(unused)
                build.output.text(f"[Warning] One or more build-args [{names}] were not consumed\n")
            return self._store(state)
        finally:
            self._cache.note_use(build.used)
            self._layers.release(build.held)

    def _store(self, state: State) -> Image:
        if state.image is not None:
            return state.image
        self._layers.pin(state.layers)  # `create` takes one pin of each over
        return self._images.create(state.config, state.layers)


def _read_dockerfile(context: Context, path: str) -> Dockerfile:
    cleaned = posixpath.normpath(path or "Dockerfile").lstrip("/")
    text = context.read_text(cleaned)
    if text is None:
        raise NotFound(
            f"Cannot locate specified Dockerfile: {path}",
            hint="it must be in the context directory; name another one with -f",
        )
    return parse(text, cleaned)


def _platform_arguments() -> dict[str, str]:
    """What BuildKit gives to stages that declare these names."""
    host = host_platform()
    values = {
        "PLATFORM": describe(host),
        "OS": host.os,
        "ARCH": host.architecture,
        "VARIANT": host.variant,
    }
    return {
        prefix + name: value for prefix in ("TARGET", "BUILD") for name, value in values.items()
    }


def _to_wire(record: CacheRecord) -> BuildCacheRecord:
    return BuildCacheRecord(
        id=record.id,
        description=record.description,
        in_use=False,
        shared=record.in_use,
        size=record.size,
        created_at=rfc3339(record.created_ns),
        last_used_at=rfc3339(record.used_ns),
        usage_count=record.uses,
    )
