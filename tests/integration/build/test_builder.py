"""The builder with its real stores and workers; RUN steps are acted out by a runner of the test."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pannier.base.database import Database
from pannier.base.errors import InvalidArgument, NotFound, PannierError, Unsupported
from pannier.base.instance import Instance
from pannier.build.builder import Builder
from pannier.build.ports import Report, RunStep
from pannier.images.layers import LayerStore
from pannier.images.store import Image, ImageStore
from pannier.kernel.overlay import Stack, mount_overlay
from pannier.wire.images import BuildOptions
from pannier.wire.system import Progress


class ActingRunner:
    """Runs the words of a RUN step as a few verbs on the upper directory."""

    def __init__(self) -> None:
        self.steps: list[RunStep] = []
        self.killed = 0

    async def run(self, step: RunStep, output: Callable[[bytes], None]) -> int:
        self.steps.append(step)
        for command in step.argv[-1].split(";"):
            verb, *rest = command.split()
            if verb == "exit":
                return int(rest[0])
            await self._act(verb, rest, Path(step.upper), output)
        return 0

    async def _act(
        self, verb: str, rest: list[str], upper: Path, output: Callable[[bytes], None]
    ) -> None:
        if verb == "echo":
            output(" ".join(rest).encode() + b"\n")
        elif verb == "write":
            target = upper / rest[0].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(" ".join(rest[1:]))
        elif verb == "mounts":  # as a container runtime leaves them
            (upper / "etc").mkdir(exist_ok=True)
            (upper / "etc/resolv.conf").touch()
            (upper / "run/pannier").mkdir(parents=True)
            (upper / "run/pannier/ca.crt").touch()
            (upper / "proc").mkdir()
        elif verb == "hang":
            try:
                await asyncio.Event().wait()
            finally:
                self.killed += 1


@dataclass
class Bench:
    """A builder and what it works on."""

    instance: Instance
    images: ImageStore
    builder: Builder
    runner: ActingRunner
    lines: list[Progress] = field(default_factory=list)
    pulled: list[str] = field(default_factory=list)

    def build(self, context: Path | dict[str, object] | bytes, **options: object) -> Image:
        return asyncio.run(self.build_async(context, **options))

    async def build_async(
        self, context: Path | dict[str, object] | bytes, **options: object
    ) -> Image:
        self.lines.clear()
        source: Path | AsyncIterator[bytes]
        if isinstance(context, Path):
            source = context
        else:
            source = _stream(context if isinstance(context, bytes) else tar(context))
        request = BuildOptions(**options)  # type: ignore[arg-type]
        return self.images.get(await self.builder.build(source, request, self.lines.append))

    @property
    def output(self) -> str:
        return "".join(line.stream for line in self.lines)

    def files(self, image: Image) -> dict[str, str]:
        """Paths of the merged root file system with contents, ``/`` or link targets."""
        return {path: text for path, (text, _) in self.look(image).items()}

    def look(self, image: Image) -> dict[str, tuple[str, os.stat_result]]:
        lowers = self.images.layers.lower_paths(image.layers)
        if len(lowers) == 1:
            return _walk(os.open(lowers[0], os.O_RDONLY))
        return _walk(mount_overlay(Stack(lowers)))

    @property
    def leftovers(self) -> list[str]:
        scratch = self.instance.tmp
        found = [str(p.relative_to(scratch)) for p in scratch.rglob("*") if p.name != "images"]
        return [path for path in found if "trash-" not in path]


def _walk(root: int) -> dict[str, tuple[str, os.stat_result]]:
    found: dict[str, tuple[str, os.stat_result]] = {}
    try:
        for base, directories, names, fd in os.fwalk(".", dir_fd=root):
            for name in directories + names:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                path = os.path.normpath(f"{base}/{name}")
                if stat.S_ISLNK(status.st_mode):
                    found[path] = "-> " + os.readlink(name, dir_fd=fd), status
                elif stat.S_ISDIR(status.st_mode):
                    found[path] = "/", status
                else:
                    opened = os.open(name, os.O_RDONLY, dir_fd=fd)
                    found[path] = os.read(opened, 1 << 16).decode(errors="replace"), status
                    os.close(opened)
    finally:
        os.close(root)
    return found


async def _stream(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def tar(files: dict[str, object], mode: str = "w") -> bytes:
    """An archive: text, bytes, a TarInfo as it is, None for a directory, ``-> x`` for a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.mtime, info.mode, info.uid = 1_600_000_000, 0o644, 1000
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str) and content.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, content[3:]
            else:
                data = content if isinstance(content, bytes) else str(content).encode()
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
                continue
            archive.addfile(info)
    return buffer.getvalue()


@pytest.fixture
def bench(instance: Instance) -> Iterator[Bench]:
    db = Database(instance.database)
    images = ImageStore(db, instance, LayerStore(db, instance))
    runner = ActingRunner()

    async def pull(ref: str, report: Report) -> Image:
        made.pulled.append(ref)
        raise NotFound(f"pull access denied for {ref}")

    made = Bench(instance, images, Builder(images, runner, pull, db, instance), runner)
    yield made
    db.close()


BASE = {
    "Dockerfile": "FROM scratch\nCOPY . /\n",
    "etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:500:600::/home/app:/bin/sh\n",
    "etc/group": "root:x:0:\napp:x:600:\nstaff:x:50:\n",
    "usr/lib/x": "x",
    "lib": "-> usr/lib",
    "out": "-> /../../../../etc",
    ".dockerignore": "Dockerfile\n.dockerignore\n",
}


@pytest.fixture
def based(bench: Bench) -> Bench:
    """With an image ``base``."""
    bench.build(dict(BASE), tags=["base"])
    return bench


def test_copy_run_and_configuration(based: Bench) -> None:
    image = based.build(
        {
            "Dockerfile": """
ARG WHO=nobody
FROM base
ARG WHO
ENV A=1 B="$A two"
LABEL l=$WHO
WORKDIR /srv
WORKDIR app
COPY a.txt dir ./
RUN echo hello; write /made $A
USER app
EXPOSE 80 90-91/udp
VOLUME /data
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT ["/e"]
CMD c d
""",
            "a.txt": "aaa",
            "dir/b": "bbb",
            "dir/sub/c": "ccc",
        },
        build_args={"WHO": "me", "UNUSED": "x"},
        tags=["app:1", "app"],
        labels={"extra": "$A 'q'"},
    )
    found = based.look(image)
    assert found["srv/app/a.txt"][0] == "aaa"
    assert found["srv/app/b"][0] == "bbb"
    assert found["srv/app/sub/c"][0] == "ccc"
    assert found["made"][0] == "$A"
    assert (found["srv/app/a.txt"][1].st_uid, found["srv/app/a.txt"][1].st_mtime) == (0, 1.6e9)
    config = image.config.defaults
    assert config.env is not None
    assert config.env[0].startswith("PATH=/usr/local/sbin")
    assert config.env[1:] == ["A=1", "B= two"]
    assert config.labels == {"l": "me", "extra": "$A 'q'"}
    assert config.working_dir == "/srv/app"
    assert config.user == "app"
    assert sorted(config.exposed_ports or {}) == ["80/tcp", "90/udp", "91/udp"]
    assert list(config.volumes or {}) == ["/data"]
    assert (config.entrypoint, config.cmd) == (["/e"], ["/bin/sh", "-c", "c d"])
    assert config.healthcheck is not None
    assert config.healthcheck.test == ["CMD-SHELL", "true"]
    history = image.config.history or []
    assert len([h for h in history if not h.empty_layer]) == len(image.layers)
    assert "|1 WHO=me /bin/sh -c echo hello; write /made $A" in [h.created_by for h in history]
    assert '/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "c d"]' in [h.created_by for h in history]
    assert "hello\n" in based.output
    assert "Step 1/17 : ARG WHO=nobody\n" in based.output
    assert "[Warning] One or more build-args [UNUSED] were not consumed" in based.output
    assert based.images.get("app:1").id == based.images.get("app").id == image.id
    (step,) = based.runner.steps
    assert (step.cwd, step.user, step.argv) == (
        "/srv/app",
        "",
        ["/bin/sh", "-c", "echo hello; write /made $A"],
    )
    assert step.env[1:] == ["A=1", "B= two", "WHO=me"]
    assert based.leftovers == []


TEN = {
    "Dockerfile": "FROM base\n"
    + "".join(f"RUN write /f{n} {n}\n" for n in range(4))
    + "COPY a /\nENV X=1\nWORKDIR /w\nRUN echo no change\nCMD x\n",
    "a": "a",
}


def test_second_build_is_all_cached_and_quick(based: Bench) -> None:
    first = based.build(dict(TEN))
    ran = len(based.runner.steps)

    async def again() -> tuple[Image, float]:
        start = time.perf_counter()
        image = await based.build_async(dict(TEN))
        return image, time.perf_counter() - start

    second, seconds = asyncio.run(again())
    assert second.id == first.id
    assert len(based.runner.steps) == ran
    assert based.output.count(" ---> Using cache\n") == 9
    assert seconds < 0.1
    assert based.build(dict(TEN), no_cache=True).id != first.id
    assert len(based.runner.steps) == 2 * ran


def test_cache_depends_on_content_and_mode_not_on_time(based: Bench) -> None:
    file = tarfile.TarInfo("a")
    context = {"Dockerfile": "FROM base\nCOPY a /\nRUN echo after\n", "a": file}
    first = based.build(context)
    file.mtime = 1_700_000_000
    assert based.build(context).id == first.id
    file.mode = 0o600
    assert based.build(context).id != first.id
    assert len(based.runner.steps) == 2


def test_cache_depends_on_used_arguments_only(based: Bench) -> None:
    text = {"Dockerfile": "FROM base\nARG A\nRUN echo x\n"}
    based.build(text, build_args={"A": "1"})
    based.build(text, build_args={"A": "1", "HTTP_PROXY": "http://p"})
    assert len(based.runner.steps) == 1
    based.build(text, build_args={"A": "2", "HTTP_PROXY": "http://p"})
    assert len(based.runner.steps) == 2
    assert "HTTP_PROXY=http://p" in based.runner.steps[-1].env
    history = based.images.list()[0].config.history or []
    assert not any("http://p" in entry.created_by for entry in history)


def test_failing_run_tells_its_code_and_keeps_earlier_layers(based: Bench) -> None:
    text = "FROM base\nRUN write /one 1\nRUN echo oops; exit 3\n"
    with pytest.raises(InvalidArgument) as caught:
        based.build({"Dockerfile": text})
    command = "/bin/sh -c echo oops; exit 3"
    assert caught.value.message == f"The command '{command}' returned a non-zero code: 3"
    assert caught.value.fields["exit_code"] == 3
    assert "oops\n" in based.output
    assert based.leftovers == []
    with pytest.raises(InvalidArgument):
        based.build({"Dockerfile": text})
    assert [step.argv[-1] for step in based.runner.steps].count("write /one 1") == 1


def test_stages(based: Bench) -> None:
    text = """
FROM base AS builder
RUN write /opt/tool v1
FROM base AS unused
RUN exit 9
FROM builder AS tested
RUN write /tests ok
FROM scratch
COPY --from=builder /opt /usr/
COPY --from=0 --chown=7:8 --chmod=600 /opt/tool /t
COPY --from=base /etc/group /
"""
    image = based.build({"Dockerfile": text})
    found = based.look(image)
    assert sorted(found) == ["group", "t", "usr", "usr/tool"]
    status = found["t"][1]
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (7, 8, 0o600)
    assert len(based.runner.steps) == 1
    tested = based.build({"Dockerfile": text}, target="TESTED")
    assert "tests" in based.files(tested)
    with pytest.raises(InvalidArgument, match="failed to reach build target nope"):
        based.build({"Dockerfile": text}, target="nope")


def test_copy_from_goes_by_content_when_a_stage_is_made_again(based: Bench) -> None:
    def text(version: int) -> dict[str, object]:
        return {
            "Dockerfile": f"FROM base AS b\nRUN write /log {version}\nRUN write /tool same\n"
            "FROM base\nCOPY --from=b /tool /\nRUN echo after\n"
        }

    first = based.build(text(1))
    second = based.build(text(2))
    assert second.layers == first.layers
    assert [step.argv[-1] for step in based.runner.steps].count("echo after") == 1


def test_destinations(based: Bench) -> None:
    image = based.build(
        {
            "Dockerfile": """
FROM base
COPY file /new
COPY file /made/
COPY file /etc
COPY *.txt /texts/
COPY dir /d
COPY dir/sub/ /lib
COPY link /followed
COPY dir/inner /inner
COPY file /out/deep/er/
COPY <<one <<two /docs/
first
one
second
two
""",
            "file": "f",
            "1.txt": "1",
            "2.txt": "2",
            "dir/x": "x",
            "dir/sub/y": "y",
            "dir/inner": "-> sub",
            "link": "-> dir/x",
        }
    )
    found = based.files(image)
    assert found["new"] == found["made/file"] == found["etc/file"] == "f"
    assert (found["texts/1.txt"], found["texts/2.txt"]) == ("1", "2")
    assert (found["d/x"], found["d/sub/y"], found["d/inner"]) == ("x", "y", "-> sub")
    assert found["lib"] == "-> usr/lib"  # a link in the image is followed, not replaced
    assert (found["usr/lib/x"], found["usr/lib/y"]) == ("x", "y")
    assert (found["followed"], found["inner/y"]) == ("x", "y")
    assert found["etc/deep/er/file"] == "f"  # and leads nowhere out of it
    assert (found["docs/one"], found["docs/two"]) == ("first\n", "second\n")


def test_owners_by_name(based: Bench) -> None:
    image = based.build(
        {
            "Dockerfile": "FROM base\nCOPY --chown=app f /1\nCOPY --chown=app:staff f /2\n"
            "COPY --chown=5 f /3\n",
            "f": "f",
        }
    )
    found = based.look(image)
    assert [(found[n][1].st_uid, found[n][1].st_gid) for n in "123"] == [
        (500, 600),
        (500, 50),
        (5, 5),
    ]
    with pytest.raises(InvalidArgument, match="Dockerfile:2: unable to find user nobody"):
        based.build({"Dockerfile": "FROM base\nCOPY --chown=nobody f /\n", "f": ""})


def test_add_unpacks_archives(based: Bench) -> None:
    inner = tar({"x/y": "deep", "z": "flat"}, "w:gz")
    image = based.build(
        {
            "Dockerfile": "FROM base\nADD --chown=3:4 a.tgz plain /opt/\nADD a.tgz /more\n"
            "COPY a.tgz /kept\n",
            "a.tgz": inner,
            "plain": "p",
        }
    )
    found = based.look(image)
    assert (found["opt/x/y"][0], found["opt/z"][0], found["opt/plain"][0]) == ("deep", "flat", "p")
    assert (found["opt/z"][1].st_uid, found["more/z"][1].st_uid) == (3, 1000)
    layers = based.images.layers.lower_paths(image.layers)
    assert (Path(layers[0]) / "kept").read_bytes() == inner


def test_dockerignore(based: Bench) -> None:
    context: dict[str, object] = {
        "Dockerfile": "FROM scratch\nCOPY . /\n",
        ".dockerignore": "*\n!keep\n!dir/in\n",
        "keep": "k",
        "drop": "d",
        "dir/in": "i",
        "dir/out": "o",
    }
    wanted = {"keep": "k", "dir": "/", "dir/in": "i"}
    assert based.files(based.build(context)) == wanted
    with pytest.raises(NotFound, match="COPY failed: drop: file not found in build context"):
        based.build({**context, "Dockerfile": "FROM scratch\nCOPY drop /\n"})


def test_directory_as_context_gives_the_same_image(based: Bench, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a").write_text("a")
    (tmp_path / "skip").write_text("s")
    (tmp_path / ".dockerignore").write_text("skip\n")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY sub skip* /\n")
    with pytest.raises(NotFound, match="no source files were specified"):
        based.build(tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY sub /\n")
    image = based.build(tmp_path)
    assert based.files(image) == {"a": "a"}
    files = {"Dockerfile": "FROM scratch\nCOPY sub /\n", "sub/a": "a", "sub": None}
    assert based.build(files).id == image.id


def test_compressed_context(bench: Bench) -> None:
    files = {"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"}
    for mode in ("w:gz", "w:xz", "w:bz2"):
        assert bench.files(bench.build(tar(files, mode))) == {"a": "a"}


def test_traces_of_running_do_not_reach_the_image(based: Bench) -> None:
    image = based.build({"Dockerfile": "FROM base\nRUN mounts\nRUN mounts; write /etc/x 1\n"})
    before, after = based.images.get("base"), image
    assert len(after.layers) == len(before.layers) + 1
    assert set(based.files(after)) - set(based.files(before)) == {"etc/x"}


def test_onbuild(based: Bench) -> None:
    based.build({"Dockerfile": "FROM base\nONBUILD COPY a /a\nONBUILD ENV X=1\n"}, tags=["on"])
    image = based.build({"Dockerfile": "FROM on\n", "a": "a"})
    assert "# Executing 2 build triggers\n" in based.output
    assert based.files(image)["a"] == "a"
    assert "X=1" in (image.config.defaults.env or [])
    assert not image.config.defaults.on_build


def test_shell_and_inherited_command(based: Bench) -> None:
    based.build({"Dockerfile": "FROM base\nCMD old\n"}, tags=["c"])
    image = based.build(
        {"Dockerfile": 'FROM c\nSHELL ["/bin/bash", "-ec"]\nRUN echo x\nENTRYPOINT run me\n'}
    )
    config = image.config.defaults
    assert (config.entrypoint, config.cmd) == (["/bin/bash", "-ec", "run me"], None)
    assert based.runner.steps[-1].argv == ["/bin/bash", "-ec", "echo x"]


def test_only_from_names_the_image_itself(based: Bench) -> None:
    base = based.images.get("base")
    assert based.build({"Dockerfile": "FROM base\n"}, tags=["same"]).id == base.id
    assert based.images.get("same").id == base.id


@pytest.mark.parametrize(
    ("files", "options", "kind", "message"),
    [
        ({}, {}, NotFound, "Cannot locate specified Dockerfile: Dockerfile"),
        ({"x": "FROM a"}, {"dockerfile": "y"}, NotFound, "Cannot locate specified Dockerfile: y"),
        ({"Dockerfile": "FROM base\nRUNN"}, {}, InvalidArgument, "Dockerfile:2: unknown instr"),
        ({"Dockerfile": "FROM base\nCOPY no /"}, {}, NotFound, "COPY failed: no: file not found"),
        (
            {"Dockerfile": "FROM base\nCOPY ../a /"},
            {},
            InvalidArgument,
            "Dockerfile:2: COPY failed",
        ),
        (
            {"Dockerfile": "FROM base\nCOPY a b /c", "a": "", "b": ""},
            {},
            InvalidArgument,
            "Dockerfile:2: When using COPY with more than one source file",
        ),
        (
            {"Dockerfile": "FROM base\nCOPY a /etc/passwd/x", "a": ""},
            {},
            InvalidArgument,
            "Dockerfile:2: cannot copy to non-directory: /etc/passwd",
        ),
        ({"Dockerfile": "FROM nowhere\n"}, {}, NotFound, "pull access denied for nowhere"),
        ({"Dockerfile": "FROM $X\n"}, {}, InvalidArgument, "Dockerfile:1: base name ($X)"),
        ({"Dockerfile": "FROM base\nEXPOSE x"}, {}, InvalidArgument, "Dockerfile:2: EXPOSE: inv"),
        ({"Dockerfile": "FROM base\nENV A=${B:?no}"}, {}, InvalidArgument, "Dockerfile:2: B: no"),
        ({"Dockerfile": "FROM base\nADD http://x /"}, {}, Unsupported, "Dockerfile:2: ADD of a U"),
        ({"Dockerfile": "FROM scratch\nRUN x"}, {}, InvalidArgument, "Dockerfile:2: RUN in an em"),
        ({"Dockerfile": "FROM base"}, {"tags": ["A:b"]}, InvalidArgument, "invalid reference"),
        (
            {"Dockerfile": "FROM --platform=linux/s390x base"},
            {},
            Unsupported,
            "Dockerfile:1: FROM --platform=linux/s390x: this host is",
        ),
    ],
)
def test_mistakes(
    based: Bench,
    files: dict[str, object],
    options: dict[str, object],
    kind: type[PannierError],
    message: str,
) -> None:
    with pytest.raises(kind) as caught:
        based.build(files, **options)
    assert caught.value.message.startswith(message)
    assert based.leftovers == []


@pytest.mark.parametrize("name", ["../evil", "a/../../evil"])
def test_contexts_that_lead_out_are_refused(bench: Bench, name: str) -> None:
    with pytest.raises(InvalidArgument, match="leads out of the archive"):
        bench.build({"Dockerfile": "FROM scratch\n", name: "x"})


def test_truncated_context(bench: Bench) -> None:
    with pytest.raises(InvalidArgument, match="unexpected end of file"):
        bench.build(tar({"Dockerfile": "FROM scratch\n"})[:600])


def test_links_in_a_context_stay_in_it(bench: Bench) -> None:
    files = {"Dockerfile": "FROM scratch\nCOPY l /\n", "l": "-> /etc/passwd"}
    with pytest.raises(NotFound, match="COPY failed: l: file not found"):
        bench.build(files)


def test_cancelling_kills_the_step_and_cleans_up(based: Bench) -> None:
    async def cancelled() -> None:
        text = {"Dockerfile": "FROM base\nRUN write /x 1; hang\n"}
        task = asyncio.ensure_future(based.build_async(text))
        while not based.runner.steps:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert based.runner.killed == 1
    assert based.leftovers == []


def test_quiet_build_speaks_only_when_it_fails(based: Bench) -> None:
    based.build({"Dockerfile": "FROM base\nRUN echo x\n"}, quiet=True)
    assert based.lines == []
    with pytest.raises(InvalidArgument):
        based.build({"Dockerfile": "FROM base\nRUN echo y; exit 1\n"}, quiet=True)
    assert "y\n" in based.output


def test_prune(based: Bench) -> None:
    image = based.build(dict(TEN), tags=["ten"])
    kept = {record.id for record in based.builder.cache_records()}

    async def prune(*, all_: bool) -> tuple[int, int]:
        keys, freed = await based.builder.prune({}, all_=all_, keep=0)
        return len(keys), freed

    asyncio.run(prune(all_=False))
    assert based.images.get("ten").id == image.id
    left = {record.id for record in based.builder.cache_records()}
    assert left < kept
    asyncio.run(prune(all_=True))
    assert based.builder.cache_records() == []
    assert "a" in based.files(image)


def test_filters_of_prune(based: Bench) -> None:
    count = len(based.builder.cache_records())
    asyncio.run(based.builder.prune({"until": ["1h"]}, all_=True, keep=0))
    assert len(based.builder.cache_records()) == count
    with pytest.raises(InvalidArgument, match="invalid filter 'x'"):
        asyncio.run(based.builder.prune({"x": ["1"]}, all_=True, keep=0))


def test_a_dockerfile_alone(based: Bench) -> None:
    options = BuildOptions(tags=["text"])
    image_id = asyncio.run(
        based.builder.build_text("FROM base\nENV A=1\n", options, lambda _: None)
    )
    assert based.images.get("text").id == image_id
    assert based.leftovers == []
