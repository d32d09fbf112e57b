"""The same cgroup tests on a host with version 2 alone: a User Mode Linux kernel (Debian's package
``user-mode-linux``) with this host's own file tree, read-only, as its root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = ("tests/integration/kernel/test_cgroup.py", "tests/unit/kernel/test_seccomp_compile.py")

# Its kernel panics when init ends, hence the power switch. "sleep" waits for that to happen.
INIT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
for directory in /tmp /run /var/tmp; do mount -t tmpfs none $directory; done
mount -t cgroup2 none /sys/fs/cgroup
# The checkout may lie below one of these directories: show it again.
[ -d {root} ] || mkdir -p {root}
mount -t hostfs -o {root} none {root}
cd {root}
{python} -m pytest -q -p no:cacheprovider --run-root {tests}
echo o >/proc/sysrq-trigger
sleep 60
"""


@pytest.mark.skipif(
    shutil.which("linux.uml") is None,
    reason="no user-mode-linux",
)
def test_cgroups_of_version_2_alone(tmp_path: Path) -> None:
    init = tmp_path / "init"
    init.write_text(INIT.format(root=ROOT, python=sys.executable, tests=" ".join(TESTS)))
    init.chmod(0o755)
    memory = tmp_path / "memory"
    memory.mkdir()
    done = subprocess.run(
        [
            "linux.uml",
            *("root=none", "rootfstype=hostfs", "rootflags=/", "ro", "mem=1024M"),
            *(f"init={init}", "con=null", "con0=null,fd:1"),
        ],
        # It keeps its memory in a file in TMPDIR, its sockets below HOME, and crashes without one.
        env={"PATH": os.environ["PATH"], "TMPDIR": str(memory), "HOME": str(memory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=150,
        check=False,
    )
    # It exits with 0 whatever happened inside.
    closing = re.findall(r"^.*\d+ passed.*$", done.stdout, re.MULTILINE)
    assert closing, done.stdout[-5000:]
    assert "failed" not in closing[0], done.stdout[-5000:]
    assert int(re.findall(r"(\d+) passed", closing[0])[0]) >= 20
