"""What a container sees of the host and of its neighbours, asked from inside: nothing.

Each question is a command run in a container, since only the kernel's answer counts. Base Debian
has Perl, which makes system calls that no program offers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from engine_under_test import Done, EngineUnderTest

IMAGE = "debian:12"
SLEEP = ("sleep", "infinity")
# Docker's 14 default capabilities as a bit mask (`capsh --decode`).
DEFAULT_CAPABILITIES = 0x00000000A80425FB

Inside = Callable[..., Done]


@pytest.fixture
def inside(daemon: EngineUnderTest) -> Inside:
    """Runs commands in one plain container, as its root."""
    daemon.cli("run", "-d", "--name", "plain", "--hostname", "plainhost", IMAGE, *SLEEP)

    def run(*command: str) -> Done:
        return daemon.cli_try("exec", "plain", *command)

    return run


def run(daemon: EngineUnderTest, *words: str) -> str:
    return daemon.cli("run", "--rm", *words)


def status(text: str) -> dict[str, str]:
    """/proc/PID/status as a dictionary."""
    return {k: v.strip() for k, v in (line.split(":", 1) for line in text.splitlines())}


def system_call(number: int, *arguments: int) -> tuple[str, ...]:
    """A command that makes one system call and prints its error."""
    words = ", ".join(str(argument) for argument in (number, *arguments))
    return ("perl", "-e", f'print syscall({words}) == -1 ? "$!\\n" : "worked\\n"')


def test_sees_only_its_own_processes(inside: Inside, daemon: EngineUnderTest) -> None:
    listed = inside("sh", "-c", "ls -d /proc/[0-9]*").out.split()
    commands = inside("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").out
    assert "/proc/1" in listed
    assert len(listed) <= 4, listed
    assert commands.startswith("sleep infinity ")
    assert "pannier" not in commands
    pid = daemon.inspect("plain")["State"]["Pid"]
    assert inside("sh", "-c", f"kill -0 {os.getpid()} || kill -0 {pid}").code != 0


def test_sees_only_its_own_mounts(inside: Inside, daemon: EngineUnderTest) -> None:
    targets = [line.split()[4] for line in inside("cat", "/proc/self/mountinfo").out.splitlines()]
    allowed = ("/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    assert targets[0] == "/"
    assert [t for t in targets[1:] if not t.startswith(allowed)] == []
    assert str(daemon.instance.layers) not in inside("cat", "/proc/self/mountinfo").out
    assert inside("ls", "/var/lib/pannier", str(daemon.instance.data)).code != 0


def test_sees_only_its_own_addresses(inside: Inside, daemon: EngineUnderTest) -> None:
    endpoint = daemon.inspect("plain")["NetworkSettings"]["Networks"]["bridge"]
    names = inside("ls", "/sys/class/net").out.split()
    local = inside("sh", "-c", "grep -B1 'host LOCAL' /proc/net/fib_trie | grep -o '[0-9.]*$'").out
    assert names == ["eth0", "lo"]
    addresses = {word for word in local.split() if word.count(".") == 3}
    assert addresses == {"127.0.0.0", "127.0.0.1", endpoint["IPAddress"]}


def test_has_its_own_host_name_and_ipc(inside: Inside) -> None:
    assert inside("hostname").out.strip() == "plainhost"
    assert inside("cat", "/etc/hostname").out.strip() == "plainhost"
    assert "plainhost" in inside("cat", "/etc/hosts").out
    assert inside("sh", "-c", "wc -l < /proc/sysvipc/shm").out.strip() == "1"
    assert inside("hostname", "other").code != 0


def test_each_container_has_a_range_of_ids_of_its_own(
    inside: Inside, daemon: EngineUnderTest
) -> None:
    daemon.cli("run", "-d", "--name", "second", IMAGE, *SLEEP)
    starts = []
    for name in ("plain", "second"):
        zero, start, size = daemon.cli("exec", name, "cat", "/proc/self/uid_map").split()
        groups = daemon.cli("exec", name, "cat", "/proc/self/gid_map").split()
        assert (zero, size) == ("0", "65536")
        assert groups[1] == start
        pid = daemon.inspect(name)["State"]["Pid"]
        assert os.stat(f"/proc/{pid}").st_uid == int(start)
        starts.append(int(start))
    assert abs(starts[0] - starts[1]) >= 65536
    assert min(starts) > 65536
    assert inside("setpriv", "--reuid", "70000", "true").code != 0


def test_files_belong_to_its_own_users(inside: Inside, daemon: EngineUnderTest) -> None:
    owners = inside("stat", "-c", "%u:%g", "/", "/etc/passwd", "/root", "/usr/bin/passwd").out
    assert set(owners.split()) == {"0:0"}
    assert inside("sh", "-c", "touch /etc/new && chown www-data:www-data /etc/new").code == 0
    assert inside("stat", "-c", "%U", "/etc/new").out.strip() == "www-data"


FORBIDDEN_COMMANDS = [
    "mount -t tmpfs none /mnt",
    "mount -t proc none /mnt",
    "mount --bind /etc /mnt",
    "mount -o remount,rw /sys",
    "mount -o remount,rw /proc/sys",
    "umount /proc/sys",
    "umount /etc/hosts",
    "unshare --mount true",
    "unshare --user --map-root-user mount -t tmpfs none /mnt",
    "unshare --net true",
    "nsenter --target 1 --mount --net true",
    "mknod /dev/disk b 8 0",
    "mknod /tmp/memory c 1 1",
    "dmesg",
    "echo x > /proc/sys/kernel/hostname",
    "echo 1 > /proc/sys/vm/drop_caches",
    "echo /tmp/x > /proc/sys/kernel/core_pattern",
    "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "echo b > /proc/sysrq-trigger",
    "echo x > /sys/kernel/uevent_helper",
    "echo 0 > /sys/class/net/lo/mtu",
    "echo $$ > /sys/fs/cgroup/memory/cgroup.procs || echo $$ > /sys/fs/cgroup/cgroup.procs",
    "mkdir /sys/fs/cgroup/memory/mine || mkdir /sys/fs/cgroup/mine",
    "head -c1 /proc/kcore | grep -q .",
    "head -c1 /dev/mem | grep -q .",
    "head -c1 /dev/kmsg | grep -q .",
    "ls /proc/acpi/* /proc/scsi/* /sys/firmware/*",
    "date --set @0",
    "chroot /proc/1/root/../../.. ls /var/tmp/pannier-tests",
    "nice -n -5 true 2>&1 | grep -q . && false",
    "chattr +i /etc/passwd",
]


def test_what_root_inside_may_not_do(inside: Inside) -> None:
    done = {command: inside("sh", "-c", command) for command in FORBIDDEN_COMMANDS}
    # 126 and 127 would say that the test asks for a program that is not there.
    wrong = {c: (d.code, d.out, d.err) for c, d in done.items() if d.code in {0, 125, 126, 127}}
    assert wrong == {}


# Numbers for x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
FORBIDDEN_CALLS = {
    "init_module": (175, 0, 0, 0),
    "finit_module": (313, 0, 0, 0),
    "delete_module": (176, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "swapon": (167, 0, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "open_by_handle_at": (304, -100, 0, 0),
    "setns": (308, 0, 0),
    "unshare(CLONE_NEWUSER)": (272, 0x10000000),
    "clone(CLONE_NEWUSER)": (56, 0x10000011, 0, 0, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "fsopen": (430, 0, 0),
    "open_tree": (428, -100, 0, 0),
    "keyctl": (250, 0, 0, 0, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "ptrace(PTRACE_SEIZE, 1)": (101, 0x4206, 1 << 22, 0, 0),
    "acct": (163, 0),
    "quotactl": (179, 0, 0, 0, 0),
    "settimeofday": (164, 0, 0),
    "userfaultfd": (323, 0),
    "io_uring_setup": (425, 1, 0),
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_system_calls_that_are_forbidden(inside: Inside) -> None:
    refused = ("Operation not permitted", "No such process", "Function not implemented")
    results = {
        name: inside(*system_call(*arguments)).out.strip()
        for name, arguments in FORBIDDEN_CALLS.items()
    }
    assert {n: r for n, r in results.items() if not r.startswith(refused)} == {}


def test_capabilities_and_filter_are_dockers(inside: Inside) -> None:
    for text in (inside("cat", "/proc/self/status").out, inside("cat", "/proc/1/status").out):
        facts = status(text)
        for field in ("CapBnd", "CapEff", "CapPrm"):
            assert int(facts[field], 16) == DEFAULT_CAPABILITIES, field
        for field in ("CapInh", "CapAmb"):
            assert int(facts[field], 16) == 0, field
        assert facts["Seccomp"] == "2"
        assert facts["NoNewPrivs"] == "0"


def test_capabilities_added_and_dropped(daemon: EngineUnderTest) -> None:
    shown = ("grep", "CapEff", "/proc/self/status")
    none = run(daemon, "--cap-drop", "ALL", IMAGE, *shown)
    assert int(none.split()[1], 16) == 0
    one = run(daemon, "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", IMAGE, *shown)
    assert int(one.split()[1], 16) == 1 << 12
    words = ("sh", "-c", "mount -t tmpfs none /mnt && grep -c ' /mnt ' /proc/mounts")
    assert run(daemon, "--cap-add", "SYS_ADMIN", IMAGE, *words) == "1"


def test_no_new_privileges(daemon: EngineUnderTest) -> None:
    """A set-user-id program runs without its privilege."""
    script = (
        "cp /usr/bin/id /usr/bin/suid-id && chmod u+s /usr/bin/suid-id && "
        "setpriv --reuid 1000 --clear-groups suid-id -u"
    )
    assert run(daemon, IMAGE, "sh", "-c", script) == "0"
    option = ("--security-opt", "no-new-privileges")
    assert run(daemon, *option, IMAGE, "sh", "-c", script) == "1000"
    daemon.cli("run", "-d", "--name", "nnp", *option, IMAGE, *SLEEP)
    assert status(daemon.cli("exec", "nnp", "cat", "/proc/self/status"))["NoNewPrivs"] == "1"


def test_seccomp_can_be_switched_off(daemon: EngineUnderTest) -> None:
    text = run(daemon, "--security-opt", "seccomp=unconfined", IMAGE, "cat", "/proc/self/status")
    assert status(text)["Seccomp"] == "0"


def test_a_profile_of_ones_own(daemon: EngineUnderTest, tmp_path) -> None:
    profile = tmp_path / "profile.json"
    call = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call]}))
    option = ("--security-opt", f"seccomp={profile}")
    done = daemon.cli_try("run", "--rm", *option, IMAGE, "mkdir", "/new")
    assert done.code == 1
    assert "Function not implemented" in done.err


def test_a_read_only_root(daemon: EngineUnderTest) -> None:
    done = daemon.cli_try("run", "--rm", "--read-only", IMAGE, "touch", "/new")
    assert (done.code, "Read-only file system" in done.err) == (1, True)
    words = ("--read-only", "--tmpfs", "/tmp", IMAGE, "sh", "-c", "echo x > /tmp/x; cat /tmp/x")
    assert run(daemon, *words) == "x"


def test_privileged_differs(daemon: EngineUnderTest) -> None:
    script = """
        grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; cat /proc/self/uid_map
        mount -t tmpfs none /mnt && echo mounted; test -w /proc/sys/kernel/hostname && echo writable
        test -e /dev/kmsg && echo devices
    """
    lines = run(daemon, "--privileged", IMAGE, "sh", "-c", script).splitlines()
    assert int(lines[0].split()[1], 16) == int(status_of_host("CapBnd"), 16)
    assert lines[1].split() == ["Seccomp:", "0"]
    assert lines[2].split() == ["0", "0", "4294967295"]
    assert lines[3:] == ["mounted", "writable", "devices"]


def status_of_host(field: str) -> str:
    with open("/proc/self/status") as file:
        return status(file.read())[field]


def test_no_file_of_the_engine_is_open_inside(inside: Inside, daemon: EngineUnderTest) -> None:
    shown = ("sh", "-c", "cd /proc/self/fd && echo * && ls /proc/1/fd | tr '\\n' ' '")
    for text in (inside(*shown).out, run(daemon, IMAGE, *shown), run(daemon, "-t", IMAGE, *shown)):
        own, first = text.replace("\r", "").splitlines()[:2]
        # The shell's own look at the directory takes one more for itself.
        assert own.split()[:3] == ["0", "1", "2"]
        assert len(own.split()) <= 4, own
        assert first.split()[:3] == ["0", "1", "2"]
        assert first.split()[3:] in ([], ["3"])
    assert inside("ls", "/proc/1/fd").out.split() == ["0", "1", "2"]


@pytest.mark.parametrize("options", [[], ["-t"]], ids=["pipes", "tty"])
def test_a_plain_user_may_open_its_own_output_again(
    daemon: EngineUnderTest, options: list[str]
) -> None:
    """nginx and Apache log to /dev/stdout and /dev/stderr, by name."""
    script = "echo out > /dev/stdout; echo err > /dev/stderr; echo three >> /proc/self/fd/1"
    words = ("--user", "www-data", IMAGE, "sh", "-c", script)
    done = daemon.cli_try("run", "--rm", *options, *words)
    assert done.code == 0, done
    assert sorted((done.out + done.err).split()) == ["err", "out", "three"]
    daemon.cli("run", "-d", *options, "--name", "quiet", IMAGE, *SLEEP)
    done = daemon.cli_try("exec", *options, "--user", "www-data", "quiet", "sh", "-c", script)
    assert done.code == 0, done
    assert sorted((done.out + done.err).split()) == ["err", "out", "three"]


def test_user_directory_and_environment(daemon: EngineUnderTest) -> None:
    script = "id -u; id -g; id -G; pwd; echo $HOME; echo $A-$B"
    words = ("-e", "A=1", "-e", "B=2", "-w", "/srv/new", IMAGE, "sh", "-c", script)
    assert run(daemon, *words).split() == ["0", "0", "0", "/srv/new", "/root", "1-2"]
    got = run(daemon, "--user", "www-data", *words).split()
    assert got == ["33", "33", "33", "/srv/new", "/var/www", "1-2"]
    got = run(daemon, "--user", "1234:5678", "--group-add", "audio", *words).split()
    assert got == ["1234", "5678", "5678", "29", "/srv/new", "/", "1-2"]
    environment = run(daemon, IMAGE, "env").splitlines()
    assert {line.split("=")[0] for line in environment} == {"PATH", "HOSTNAME", "HOME"}


def test_users_are_looked_up_in_the_containers_own_files(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "users", IMAGE, *SLEEP)
    daemon.cli("exec", "users", "useradd", "--uid", "4321", "--create-home", "fresh")
    got = daemon.cli("exec", "--user", "fresh", "users", "sh", "-c", "id -u; echo $HOME").split()
    assert got == ["4321", "/home/fresh"]
    done = daemon.cli_try("exec", "--user", "nosuch", "users", "true")
    assert done.code == 126
    assert "unable to find user nosuch" in done.err + done.out


def test_a_shared_namespace_is_shared_and_no_other(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "first", IMAGE, *SLEEP)
    shown = ("sh", "-c", "readlink /proc/self/ns/net /proc/self/ns/user /proc/self/ns/pid")
    first = daemon.cli("exec", "first", *shown).split()
    second = run(daemon, "--network", "container:first", IMAGE, *shown).split()
    assert second[:2] == first[:2]
    assert second[2] != first[2]
    assert run(daemon, "--pid", "container:first", IMAGE, "cat", "/proc/1/comm") == "sleep"


def test_host_namespaces_only_when_asked_for(daemon: EngineUnderTest) -> None:
    shown = ("readlink", "/proc/self/ns/net")
    assert run(daemon, "--network", "host", IMAGE, *shown) == os.readlink("/proc/self/ns/net")
    assert run(daemon, IMAGE, *shown) != os.readlink("/proc/self/ns/net")
    assert run(daemon, "--network", "none", IMAGE, "ls", "/sys/class/net") == "lo"
    assert run(daemon, "--pid", "host", IMAGE, "readlink", "/proc/self/ns/pid") == os.readlink(
        "/proc/self/ns/pid"
    )
    assert run(daemon, "--uts", "host", IMAGE, "hostname") == os.uname().nodename
