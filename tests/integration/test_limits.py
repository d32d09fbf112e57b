"""Limits hold: memory, CPU, processes, files, shared memory; and they change while it runs."""

from __future__ import annotations

import json

import pytest
from engine_under_test import EngineUnderTest
from waiting import until

IMAGE = "debian:12"
SLEEP = ("sleep", "infinity")
# Touches so many MB, then says so.
GREEDY = 'my $x = "x" x ($ARGV[0] << 20); print "got it\\n"'
# Burns CPU for a second of wall time and prints how much of one CPU it got.
BURN = """
use Time::HiRes qw(time);
my $end = time + 1; while (time < $end) {} my ($user, $system) = times; print $user + $system;
"""
# Forks children that stay until it is refused, and prints how many it got.
FORK = """
my @pids;
while (@pids < 200) { my $pid = fork // last; if (!$pid) { sleep 60; exit } push @pids, $pid }
kill 9, @pids;
print scalar @pids;
"""


def greedy(megabytes: int) -> tuple[str, ...]:
    return ("perl", "-e", GREEDY, str(megabytes))


def test_memory_cannot_be_exceeded(daemon: EngineUnderTest) -> None:
    limits = ("--memory", "32m", "--memory-swap", "32m")
    done = daemon.cli_try("run", "--name", "eater", *limits, IMAGE, *greedy(100))
    assert (done.code, done.out) == (137, "")
    state = daemon.inspect("eater")["State"]
    assert (state["OOMKilled"], state["ExitCode"], state["Status"]) == (True, 137, "exited")
    assert daemon.cli("run", "--rm", *limits, IMAGE, *greedy(10)) == "got it"


def test_a_kill_is_no_lack_of_memory(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "killed", "--memory", "64m", IMAGE, *SLEEP)
    daemon.cli("kill", "killed")
    state = daemon.inspect("killed")["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (False, 137)


def test_a_child_that_runs_out_of_memory_does_not_end_the_container(
    daemon: EngineUnderTest,
) -> None:
    limits = ("--memory", "32m", "--memory-swap", "32m")
    daemon.cli("run", "-d", "--name", "parent", *limits, IMAGE, *SLEEP)
    assert daemon.cli_try("exec", "parent", *greedy(100)).code == 137
    assert daemon.inspect("parent")["State"]["Running"] is True


def test_cpu_cannot_be_exceeded(daemon: EngineUnderTest) -> None:
    used = float(daemon.cli("run", "--rm", "--cpus", "0.2", IMAGE, "perl", "-e", BURN))
    assert used < 0.35


def test_processes_cannot_be_exceeded(daemon: EngineUnderTest) -> None:
    count = daemon.cli("run", "--rm", "--pids-limit", "20", IMAGE, "perl", "-e", FORK)
    assert int(count) == 19


def test_limits_change_while_it_runs(daemon: EngineUnderTest) -> None:
    daemon.cli(
        "run", "-d", "--name", "db", "--memory", "32m", "--memory-swap", "32m", IMAGE, *SLEEP
    )
    pid = daemon.inspect("db")["State"]["Pid"]
    assert daemon.cli_try("exec", "db", *greedy(50)).code == 137
    daemon.cli("update", "--memory", "128m", "--memory-swap", "128m", "db")
    assert daemon.cli("exec", "db", *greedy(50)) == "got it"
    daemon.cli("update", "--cpus", "0.2", "--pids-limit", "10", "db")
    assert float(daemon.cli("exec", "db", "perl", "-e", BURN)) < 0.35
    assert int(daemon.cli("exec", "db", "perl", "-e", FORK)) < 10
    seen = daemon.inspect("db")
    assert seen["State"]["Pid"] == pid
    assert seen["HostConfig"]["Memory"] == 128 << 20
    assert seen["HostConfig"]["NanoCpus"] == 200_000_000
    assert seen["HostConfig"]["PidsLimit"] == 10


def test_changed_limits_outlive_a_restart(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "kept", "--stop-signal", "KILL", IMAGE, *SLEEP)
    daemon.cli("update", "--pids-limit", "10", "kept")
    daemon.cli("restart", "kept")
    assert int(daemon.cli("exec", "kept", "perl", "-e", FORK)) < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "1m"], "Minimum memory limit allowed is 6MB"),
        (["--memory", "64m", "--memory-swap", "32m"], "memoryswap limit should be larger"),
        (["--cpus", "4000"], "Range of CPUs is from 0.01 to"),
        (["--memory", "many"], "many"),
        (["--ulimit", "nosuch=1"], "nosuch"),
        (["--cpuset-cpus", "900"], "900"),
    ],
)
def test_limits_that_cannot_be_given(
    daemon: EngineUnderTest, options: list[str], message: str
) -> None:
    done = daemon.cli_try("run", "--rm", *options, IMAGE, "true")
    assert done.code == 125
    assert message in done.err


def test_files_shared_memory_and_resource_limits(daemon: EngineUnderTest) -> None:
    script = "ulimit -n; ulimit -Hn; df --output=size -k /dev/shm /scratch | tail -2"
    options = ("--ulimit", "nofile=77:99", "--shm-size", "8m", "--tmpfs", "/scratch:size=4m")
    lines = daemon.cli("run", "--rm", *options, IMAGE, "bash", "-c", script).split()
    assert lines == ["77", "99", "8192", "4096"]
    words = ("head", "-c", "6M", "/dev/zero")
    done = daemon.cli_try(
        "run", "--rm", *options, IMAGE, "sh", "-c", f"{' '.join(words)} > /scratch/x"
    )
    assert "No space left on device" in done.err


def test_usage_is_shown_against_the_limit(daemon: EngineUnderTest) -> None:
    daemon.cli(
        "run", "-d", "--name", "shown", "--memory", "64m", "--pids-limit", "7", IMAGE, *SLEEP
    )
    line = daemon.cli("stats", "--no-stream", "--format", "json", "shown")
    row = json.loads(line)
    assert row["Name"] == "shown"
    assert row["MemUsage"].endswith("/ 64MiB")
    assert row["PIDs"] == "1"


def test_a_container_that_ran_out_of_memory_is_started_again(daemon: EngineUnderTest) -> None:
    limits = ("--memory", "16m", "--memory-swap", "16m", "--restart", "on-failure:2")
    daemon.cli("run", "-d", "--name", "again", *limits, IMAGE, *greedy(50))

    def given_up() -> bool:
        seen = daemon.inspect("again")
        return seen["State"]["Status"] == "exited" and seen["RestartCount"] == 2

    until(given_up, "two restarts and the end of them")
    assert daemon.inspect("again")["State"]["OOMKilled"] is True
