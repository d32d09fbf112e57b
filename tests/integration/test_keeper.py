"""Real containers by a real keeper: what they see, how they end, what is left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from keeperlab import BASE, PATH, KeeperLab, keeper_lab

from pannier.base.errors import Conflict, InvalidArgument, NotFound, PannierError
from pannier.base.instance import Instance
from pannier.kernel import _libc
from pannier.oci import defaults
from pannier.oci.runtime import Mount, Spec
from pannier.runtime.client import ExecRequest, LogPolicy, Rootfs, Stdio


@pytest.fixture
async def lab(instance: Instance) -> AsyncIterator[KeeperLab]:
    async with keeper_lab(instance) as made:
        yield made


def with_mounts(*mounts: Mount) -> Callable[[Spec], None]:
    return lambda spec: spec["mounts"].extend(mounts)


def bind(source: Path | str, target: str, *options: str) -> Mount:
    words = ["rbind", "nodev", "idmap", "rprivate", *options]
    return {"destination": target, "type": "bind", "source": str(source), "options": words}


# ------------------------------------------------------------------ isolation


async def test_what_a_container_sees(lab: KeeperLab) -> None:
    code, out = await lab.sh(
        "id -u; cat /proc/self/uid_map; cat /proc/1/comm; ls /proc | grep -c '^[0-9]';"
        " cat /proc/sys/kernel/hostname; cat /proc/self/cgroup; grep -c : /proc/net/dev;"
        " grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status; ls /"
    )
    assert code == 0
    assert out.startswith("0\n")
    assert re.search(rf"0\s+{BASE}\s+65536", out)
    assert "\nbox\n" in out
    assert lab.instance.name not in out  # its cgroups are the roots of what it sees
    assert "CapEff:\t00000000a80425fb" in out
    assert "Seccomp:\t2" in out
    assert "var" in out.split()


@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs x /tmp",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "echo x > /sys/kernel/mm/ksm/run",
        "mknod /n c 1 3 && : < /n",
        "chmod 0 /dev/null",
        "chroot /proc/1/root true && unshare -m true",
        "echo > /usr/intruder",
        "mkdir /sys/fs/cgroup/pids/x",
        "cat /proc/kcore | grep -q .",
    ],
)
async def test_what_a_container_cannot_do(lab: KeeperLab, script: str) -> None:
    code, _ = await lab.sh(f"({script}) 2>/dev/null")
    assert code != 0


async def test_files_on_disk_are_unshifted(lab: KeeperLab) -> None:
    assert (await lab.sh("echo x > /root/f; chown 33:33 /root/f; ls -ln /root/f"))[0] == 0
    facts = (lab.instance.container_data("c1") / "upper/root/f").stat()
    assert (facts.st_uid, facts.st_gid) == (33, 33)


async def test_devices_work(lab: KeeperLab) -> None:
    script = "head -c4 /dev/zero | wc -c; echo > /dev/null; ls /dev/full /dev/random /dev/ptmx"
    code, out = await lab.sh(script)
    assert (code, out) == (0, "4\n/dev/full\n/dev/ptmx\n/dev/random\n")


async def test_host_user_namespace(lab: KeeperLab) -> None:
    def privileged(spec: Spec) -> None:
        del spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]
        spec["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid"}]

    code, out = await lab.sh(
        "cat /proc/self/uid_map /proc/1/comm; echo > /dev/null", spec=privileged
    )
    assert code == 0
    assert re.match(r"\s*0\s+0\s+4294967295\nsh\n", out)


async def test_the_cgroup_namespace_of_the_host(lab: KeeperLab) -> None:
    def without(spec: Spec) -> None:
        own = [n for n in defaults.DEFAULT_NAMESPACES if n["type"] != "cgroup"]
        spec["linux"]["namespaces"] = own

    code, out = await lab.sh(
        "cat /sys/fs/cgroup/pids/cgroup.procs || ls /sys/fs/cgroup", spec=without
    )
    assert code == 0
    assert out.split()[0] == "1"


async def test_joined_namespaces(lab: KeeperLab) -> None:
    pid = await lab.start("c2", ["sleep", "60"])

    def join(spec: Spec) -> None:
        files = {"user": "user", "network": "net", "ipc": "ipc", "pid": "pid"}
        spec["linux"]["sysctl"] = {}
        spec["linux"]["namespaces"] = [
            {"type": "mount"},
            {"type": "uts"},
            {"type": "cgroup"},
            *({"type": k, "path": f"/proc/{pid}/ns/{f}"} for k, f in files.items()),  # type: ignore[list-item]
        ]

    code, out = await lab.sh(
        "cat /proc/1/comm; readlink /proc/self/ns/net /proc/1/ns/net", spec=join
    )
    first, own, theirs = out.split()
    assert (code, first) == (0, "sleep")
    assert own == theirs
    await lab.runtime.kill("c2", signal.SIGKILL)
    await lab.finish("c2")


# ------------------------------------------------------------------ exits


async def test_exit_codes(lab: KeeperLab) -> None:
    assert (await lab.sh("exit 3"))[0] == 3
    await lab.start("c1", ["sleep", "60"])
    await lab.runtime.kill("c1", signal.SIGKILL)
    ended, _ = await lab.finish("c1")
    assert (ended.exit_code, ended.signal) == (137, 9)


async def test_out_of_memory(lab: KeeperLab) -> None:
    def small(spec: Spec) -> None:
        spec["linux"]["resources"] = {"memory": {"limit": 24 << 20}}

    await lab.start("c1", ["sh", "-c", "head -c 99m /dev/zero | tail -c 99m"], spec=small)
    ended, _ = await lab.finish("c1")
    assert ended.oom_killed


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["nope"], 127, 'exec: "nope": executable file not found in $PATH'),
        (["/nope"], 127, 'exec: "/nope": stat /nope: no such file or directory'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        (["/etc"], 126, 'exec: "/etc": is a directory'),
    ],
)
async def test_commands_that_cannot_run(
    lab: KeeperLab, args: list[str], code: int, text: str
) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(text)) as caught:
        await lab.runtime.create(lab.launch("c1", args))
    assert caught.value.fields["exit_code"] == code
    assert await lab.runtime.list() == []


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [("#!/nope\n", 127, "no such file"), ("no script\n", 126, "exec format error")],
)
async def test_programs_that_the_kernel_refuses(
    lab: KeeperLab, content: str, code: int, text: str
) -> None:
    program = lab.layer / "program"
    program.write_text(content)
    program.chmod(0o755)
    await lab.runtime.create(lab.launch("c1", ["/program"]))
    with pytest.raises(InvalidArgument, match=text) as caught:
        await lab.runtime.start("c1")
    assert caught.value.fields["exit_code"] == code
    assert await lab.runtime.list() == []
    assert lab.exits == {}


async def test_discard_in_every_state(lab: KeeperLab) -> None:
    await lab.runtime.create(lab.launch("c1", ["true"]))
    await lab.runtime.discard("c1")
    await lab.start("c1", ["sleep", "60"])
    await lab.runtime.discard("c1")
    await lab.runtime.discard("c1")
    await lab.logger.remove("c1")
    assert await lab.runtime.list() == []
    assert (await lab.sh("echo again")) == (0, "again\n")


async def test_states(lab: KeeperLab) -> None:
    with pytest.raises(NotFound):
        await lab.runtime.start("c1")
    launch = lab.launch("c1", ["sleep", "60"])
    started = await lab.runtime.create(launch)
    with pytest.raises(Conflict):
        await lab.runtime.create(launch)
    (known,) = await lab.runtime.list()
    assert (known.state, known.pid) == ("created", started.pid)
    await lab.runtime.start("c1")
    with pytest.raises(Conflict):
        await lab.runtime.start("c1")
    with pytest.raises(Conflict):
        await lab.runtime.forget("c1")
    await lab.runtime.discard("c1")


# ------------------------------------------------------------------ streams


async def test_pipes_belong_to_the_user(lab: KeeperLab) -> None:
    def user(spec: Spec) -> None:
        spec["process"]["user"] = {"uid": 33, "gid": 33}
        spec["process"]["capabilities"] = {}

    script = "echo out > /dev/stdout; echo err > /dev/stderr; id -u; cat"
    await lab.start("c1", ["sh", "-c", script], spec=user, stdio=Stdio(stdin=True, uid=33, gid=33))
    fd = await lab.runtime.stdin("c1")
    os.write(fd, b"in\n")
    os.close(fd)
    await lab.runtime.close_stdin("c1")
    ended, out = await lab.finish("c1")
    assert ended.exit_code == 0
    assert sorted(out.split()) == ["33", "err", "in", "out"]


async def test_terminal(lab: KeeperLab) -> None:
    await lab.start("c1", ["sh"], stdio=Stdio(tty=True, rows=24, cols=80))
    fd = await lab.runtime.stdin("c1")
    await lab.runtime.resize("c1", None, 33, 99)
    os.write(fd, b"stty size; tty; echo on > /dev/console; exit 4\n")
    ended, out = await lab.finish("c1")
    os.close(fd)
    assert ended.exit_code == 4
    assert "33 99" in out
    assert "/dev/pts/0" in out
    assert "on\r" in out.splitlines(keepends=False) or "\non" in out


async def test_exec(lab: KeeperLab) -> None:
    await lab.start("c1", ["sleep", "60"])
    caps = list(defaults.DEFAULT_CAPABILITIES)
    code, out = await lab.exec(
        "c1",
        "cat /proc/1/comm; env; grep -E 'CapEff|Seccomp:' /proc/self/status;"
        " cat /proc/self/cgroup; ls /proc/self/fd; exit 7",
        capabilities=caps,
        cwd="/tmp",
    )
    assert code == 7
    assert "sleep\n" in out
    assert "CapEff:\t00000000a80425fb" in out
    assert "Seccomp:\t2" in out
    assert lab.instance.name not in out
    assert ".." not in out  # it is in the container's cgroups, not beside them
    assert set(re.findall(r"^(\w+)=", out, re.MULTILINE)) == {"PATH", "PWD"}
    with pytest.raises(InvalidArgument, match="not found"):
        await lab.runtime.exec_detached(ExecRequest("c1", "e2", ["nope"], [PATH]))
    with pytest.raises(NotFound):
        await lab.runtime.exec_detached(ExecRequest("c9", "e2", ["true"], [PATH]))
    await lab.runtime.discard("c1")


async def test_exec_with_terminal(lab: KeeperLab) -> None:
    await lab.start("c1", ["sleep", "60"])
    request = ExecRequest("c1", "e1", ["sh"], [PATH], tty=True, rows=7, cols=70)
    executed = await lab.runtime.exec(request)
    assert executed.tty_fd is not None
    os.write(executed.tty_fd, b"stty size; exit 5\n")
    await lab.until(lambda: "e1" in lab.exec_exits)
    assert lab.exec_exits["e1"] == 5
    assert b"7 70" in os.read(executed.tty_fd, 4096)
    os.close(executed.tty_fd)
    await lab.runtime.discard("c1")


# ------------------------------------------------------------------ mounts and limits


async def test_mounts(lab: KeeperLab, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("data")
    os.chown(tmp_path / "f", 33, 33)
    change = with_mounts(
        bind(tmp_path, "/new/deep"),
        bind(tmp_path, "/closed", "ro"),
        bind(tmp_path / "f", "/etc/one"),
        {"destination": "/t", "type": "tmpfs", "options": ["size=1m", "mode=1770", "nosuid"]},
        {"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup"]},
    )
    code, out = await lab.sh(
        "stat -c %u /new/deep/f; cat /new/deep/f; touch /new/deep/n; touch /closed/n2 || echo ro;"
        " stat -c %a /t; cat /etc/passwd | wc -l",
        spec=change,
    )
    assert code == 0
    assert out.split() == ["33", "data", "touch:", "ro", "1770", "1"] or "ro\n1770\n1" in out
    assert (tmp_path / "n").stat().st_uid == 0
    assert not (tmp_path / "n2").exists()


async def test_links_in_the_image_stay_inside(lab: KeeperLab, tmp_path: Path) -> None:
    (lab.layer / "escape").symlink_to("../../../../somewhere")
    (lab.layer / "proc").symlink_to("/tmp")
    with pytest.raises(InvalidArgument, match="/proc must be a directory"):
        await lab.runtime.create(lab.launch("c1", ["true"]))
    (lab.layer / "proc").unlink()
    change = with_mounts(bind(tmp_path, "/escape/x"))
    code, _ = await lab.sh("test -d /somewhere/x", spec=change)
    assert code == 0
    assert not Path("/somewhere").exists()


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (bind("/nonexistent", "/x"), "bind source path does not exist: /nonexistent"),
        (bind("/proc/sys", "/x"), "is on proc, whose owners cannot be mapped"),
        ({"destination": "/x", "type": "nofs"}, "mount nofs /x"),
        ({"destination": "/x", "type": "tmpfs", "options": ["bad=1"]}, "mount tmpfs /x"),
    ],
)
async def test_mounts_that_cannot_be(lab: KeeperLab, entry: Mount, text: str) -> None:
    with pytest.raises(PannierError, match=text):
        await lab.runtime.create(lab.launch("c1", ["true"], spec=with_mounts(entry)))
    assert await lab.runtime.list() == []


async def test_unmappable_sources_are_read_only(lab: KeeperLab) -> None:
    change = with_mounts(bind("/proc/sys", "/x", "ro"))
    code, _ = await lab.sh("test -d /x/kernel && ! echo 1 > /x/kernel/panic", spec=change)
    assert code == 0


def mounter(*mounts: Mount, caps: tuple[str, ...] = ("CAP_SYS_ADMIN",)) -> Callable[[Spec], None]:
    """As with ``--cap-add SYS_ADMIN``, and with a filter that lets it mount."""

    def change(spec: Spec) -> None:
        for names in spec["process"]["capabilities"].values():
            names.extend(caps)  # type: ignore[attr-defined]
        del spec["linux"]["seccomp"]
        spec["mounts"].extend(mounts)

    return change


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A directory with a read-only and a writable mount and one whose ids cannot be mapped."""
    (tmp_path / "file").write_text("data\n")
    os.chown(tmp_path / "file", 33, 33)
    points = [tmp_path / name for name in ("closed", "open", "proc")]
    for point, kind in zip(points, ("tmpfs", "tmpfs", "proc"), strict=True):
        point.mkdir()
        _libc.mount(kind, point, kind)
    (points[0] / "f").touch()
    _libc.mount(None, points[0], None, _libc.MS_REMOUNT | _libc.MS_BIND | _libc.MS_RDONLY)
    yield tmp_path
    for point in points:
        _libc.umount2(point, _libc.MNT_DETACH)


# Each of these would make something writable that was not, or reveal what a mount hides.
REMOUNTS = """
for at in /y /y/closed /y/open /v /f /rw/closed /rw/proc /exposed /z; do
    for how in rw,bind rw,bind,dev,nodev rw,bind,nodev,suid; do
        mount -o remount,$how $at 2>/dev/null && echo remounted $at $how
    done
    mkdir -p /tmp/m; [ -d $at ] || { rmdir /tmp/m; touch /tmp/m; }
    mount --rbind $at /tmp/m && mount -o remount,rw,bind /tmp/m && echo copied $at
    umount -l /tmp/m
    rm -r /tmp/m
done 2>/dev/null
for at in /v /rw; do
    mount -o remount,bind,dev $at 2>/dev/null && echo devices $at
done
for at in /y/closed /rw/closed /rw/proc; do
    umount -l $at 2>/dev/null && echo revealed $at
done
for file in /y/b /y/open/b /y/closed/b /v/b /f /rw/closed/b /rw/proc/sys/kernel/panic /exposed/b; do
    { echo 1 > $file; } 2>/dev/null && echo wrote $file
done
true
"""


async def test_nobody_inside_makes_a_read_only_mount_writable(lab: KeeperLab, tree: Path) -> None:
    volume = tree / "volume"
    volume.mkdir()
    change = mounter(
        bind(tree, "/y", "rro"),
        bind(volume, "/v", "ro", "nosuid"),
        bind(tree / "file", "/f", "ro"),
        bind(tree, "/rw"),
        bind(tree / "open", "/open"),
        bind(tree / "closed", "/exposed"),
        {"destination": "/z", "type": "bind", "source": str(volume), "options": ["bind", "ro"]},
    )
    await lab.start("c1", ["sleep", "60"], spec=change)
    caps = [*defaults.DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN"]
    for script in (REMOUNTS, f"unshare -m sh -c '{REMOUNTS}'", f"unshare -Urm sh -c '{REMOUNTS}'"):
        assert await lab.exec("c1", script, capabilities=caps) == (0, "")
    # it can mount at all, the map is right, and what is writable has stayed so
    script = """
        mount -t tmpfs x /tmp; mount --rbind /y /tmp; mount -o remount,bind,rw /rw; cat /f
        stat -c %u /f /y/file /rw/file; echo > /rw/made; echo > /open/made; echo > /y/made
    """
    _, out = await lab.exec("c1", script, capabilities=caps)
    assert "Read-only file system" in out
    assert out.startswith("data\n33\n33\n33\n")
    assert (tree / "made").stat().st_uid == 0
    assert (tree / "open/made").exists()
    await lab.runtime.discard("c1")


async def test_a_container_that_can_mount_and_joins_another(lab: KeeperLab, tmp_path: Path) -> None:
    pid = await lab.start("c2", ["sleep", "60"])

    def join(spec: Spec) -> None:
        mounter(bind(tmp_path, "/y", "ro"))(spec)
        spec["linux"]["sysctl"] = {}
        files = {"user": "user", "network": "net"}
        spec["linux"]["namespaces"] = [
            *({"type": kind} for kind in ("mount", "uts", "ipc", "pid", "cgroup")),  # type: ignore[list-item]
            *({"type": k, "path": f"/proc/{pid}/ns/{f}"} for k, f in files.items()),  # type: ignore[list-item]
        ]

    script = "stat -c %u /y; mount -t tmpfs x /tmp && ! mount -o remount,bind,rw /y 2>/dev/null"
    assert await lab.sh(script, spec=join) == (0, "0\n")
    await lab.runtime.kill("c2", signal.SIGKILL)
    await lab.finish("c2")


async def test_the_mode_of_a_shared_device_node_stays(lab: KeeperLab) -> None:
    def device(spec: Spec) -> None:
        mounter()(spec)
        node = {"path": "/dev/own", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}
        spec["linux"]["devices"].append(node)  # type: ignore[arg-type]

    script = "echo > /dev/own && ! mount -o remount,bind,rw /dev/own && ! chmod 0 /dev/own"
    assert (await lab.sh(f"{{ {script}; }} 2>/dev/null", spec=device))[0] == 0


async def test_read_only_root(lab: KeeperLab) -> None:
    launch = lab.launch("c1", [])
    rootfs = Rootfs(
        launch.rootfs.lowers, launch.rootfs.upper, launch.rootfs.work, volatile=True, readonly=True
    )

    def there(spec: Spec) -> None:
        spec["process"]["cwd"] = "/made/for/it"

    script = "pwd; touch x 2>&1 | grep -o Read-only"
    assert await lab.sh(script, rootfs=rootfs, spec=there) == (0, "/made/for/it\nRead-only\n")


async def test_resource_limits(lab: KeeperLab) -> None:
    def limit(hard: int) -> Callable[[Spec], None]:
        def change(spec: Spec) -> None:
            spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": hard}]

        return change

    assert await lab.sh("ulimit -n; ulimit -Hn", spec=limit(200)) == (0, "99\n200\n")
    ceiling = 1 << 30  # above the kernel's own maximum, which nobody may pass
    with pytest.raises(InvalidArgument, match="RLIMIT_NOFILE"):
        await lab.runtime.create(lab.launch("c1", ["true"], spec=limit(ceiling + 1)))


# ------------------------------------------------------------------ crashes


async def test_the_keeper_is_killed(lab: KeeperLab) -> None:
    await lab.start("c1", ["sh", "-c", "sleep 0.5; echo late; exit 9"])
    await lab.start("c2", ["sh"], stdio=Stdio(tty=True))
    await lab.start("c3", ["sh", "-c", "cat; exit 6"], stdio=Stdio(stdin=True))
    await lab.runtime.create(lab.launch("c4", ["true"]))
    await lab.kill("keeper")
    known = {entry.id: entry.state for entry in await lab.runtime.list()}
    assert known == {"c1": "running", "c2": "running", "c3": "running"}
    assert (await lab.finish("c1"))[0].exit_code == 9
    fd = await lab.runtime.stdin("c2")
    os.write(fd, b"exit 3\n")
    assert (await lab.finish("c2"))[0].exit_code == 3
    os.close(fd)
    fd = await lab.runtime.stdin("c3")
    os.write(fd, b"kept\n")
    os.close(fd)
    await lab.runtime.close_stdin("c3")
    ended, out = await lab.finish("c3")
    assert (ended.exit_code, out) == (6, "kept\n")


async def test_an_exit_while_the_keeper_is_gone(lab: KeeperLab) -> None:
    await lab.start("c1", ["sh", "-c", "sleep 0.2; exit 8"])
    pid = await lab.pid_of("keeper")
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    assert (await lab.finish("c1"))[0].exit_code == 8


async def test_the_daemon_is_away(lab: KeeperLab) -> None:
    await lab.start("c1", ["sh", "-c", "sleep 0.1; exit 5"])
    lab.runtime.close()
    await asyncio.sleep(0.4)
    await lab.runtime.connect()
    (known,) = await lab.runtime.list()
    assert known.exit is not None
    assert (known.state, known.exit.exit_code) == ("exited", 5)
    await lab.runtime.forget("c1")
    await lab.logger.remove("c1")


REBOOT = """
import ctypes, os, time
os.write(os.open("/root/count", os.O_CREAT | os.O_APPEND | os.O_WRONLY), b"x")
if os.path.getsize("/root/count") == 1:
    time.sleep(0.3)
    ctypes.CDLL(None).reboot(0x01234567)
closed = os.system("mount -o remount,bind,rw /y")
print("again", closed != 0, flush=True)
time.sleep(60)
"""


def may_reboot(spec: Spec) -> None:
    for names in spec["process"]["capabilities"].values():
        if "CAP_SYS_BOOT" not in names:  # type: ignore[operator]
            names.append("CAP_SYS_BOOT")  # type: ignore[attr-defined]
    spec["linux"].pop("seccomp", None)


async def test_reboot_with_the_daemon_there_is_an_exit(lab: KeeperLab) -> None:
    await lab.start("c1", ["python3", "-c", REBOOT], spec=may_reboot, replay=True)
    ended, _ = await lab.finish("c1")
    assert ended.signal == signal.SIGHUP


async def test_reboot_with_the_daemon_away_is_replayed(lab: KeeperLab, tmp_path: Path) -> None:
    def change(spec: Spec) -> None:
        mounter(bind(tmp_path, "/y", "ro"))(spec)
        may_reboot(spec)

    log = LogPolicy(str(lab.instance.data / "c1.log"), 0, 1)
    before = await lab.start("c1", ["python3", "-c", REBOOT], spec=change, replay=True, log=log)
    lab.runtime.close()
    async with asyncio.timeout(10):
        while b"again True" not in Path(log.path).read_bytes():
            await asyncio.sleep(0.05)
    await lab.runtime.connect()
    (known,) = await lab.runtime.list()
    assert (known.state, known.replayed) == ("running", True)
    assert known.pid != before
    await lab.runtime.discard("c1")
    await lab.logger.remove("c1")


async def test_many_at_once(lab: KeeperLab) -> None:
    names = [f"m{number}" for number in range(8)]
    await asyncio.gather(*(lab.start(name, ["sh", "-c", f"echo {name}"]) for name in names))
    results = await asyncio.gather(*(lab.finish(name) for name in names))
    assert [out for _, out in results] == [f"{name}\n" for name in names]
