"""Hosts on one machine, made from namespaces: each has an address, processes, /tmp, /dev/shm, Python of its own.

They are joined by a bridge that lies in a namespace too, and each lives as long as a pipe to the test is open. So
nothing outside is touched, and nothing is left, however the test ends. Needs root and `TOOLS`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = "/tmp/home"
#: Environment of this Python. A host may install into it and only changes its own copy.
VENV = sys.prefix
BIN = f"{VENV}/bin"
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
TOOLS = ("unshare", "nsenter", "ip", "mount", "ssh", "ssh-keygen", "rsync")

_FIRST_PROCESS = Path(__file__).with_name("host.sh")


def missing() -> str | None:
    """Return the reason why hosts cannot be created here; None if they can."""
    if os.geteuid() != 0:
        return "not root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None] + ([] if SSHD else ["sshd"])
    if absent:
        return f"not installed: {', '.join(absent)}"
    try:
        Host("trial", None).stop()
    except (OSError, RuntimeError) as error:
        return f"no namespaces here ({error})"
    return None


class Host:
    """`run` and `start` execute commands in it; `outside`: folders under /tmp that stay visible there."""

    def __init__(self, name: str, address: str | None, outside: Sequence[Path] = ()) -> None:
        self.name, self.address = name, address
        self.environment = {
            "PATH": f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": HOME,
            "USER": "prefrec",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "2",  # the result of `nproc`, on a machine of any size
        }
        arguments = [name, address or "127.0.0.1", VENV, sys.base_prefix, str(ROOT), *map(str, outside)]
        kinds = ("--net", "--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")
        self._outer = subprocess.Popen(
            ["unshare", *kinds, "bash", str(_FIRST_PROCESS), *arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._outer.stdout is not None
        assert self._outer.stderr is not None
        if self._outer.stdout.readline() != "stands\n":
            self.stop()
            raise RuntimeError(self._outer.stderr.read().strip())
        (self.pid,) = map(int, Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split())
        self._only_its_own()

    def _only_its_own(self) -> None:
        """`ray up` ends every process of Ray that it sees: here it must see none but the host's."""
        seen = self.run("bash", "-c", "cd /proc && echo [0-9]*").stdout.split()
        assert 1 <= len(seen) <= 3, f"{self.name} sees processes of others: {seen}"

    def _command(self, command: Sequence[str], folder: str) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--all", f"--wdns={folder}", "--", *command]

    def start(self, *command: str, folder: str = "/tmp", log: str | None = None, **env: str) -> subprocess.Popen[str]:
        """A process that goes on. Its output goes to a pipe, or to the file `log` outside."""
        out = open(log, "w") if log else subprocess.PIPE  # noqa: SIM115
        return subprocess.Popen(
            self._command(command, folder),
            env=self.environment | env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, folder: str = "/tmp", timeout: float = 600, **env: str) -> subprocess.CompletedProcess:
        """Runs to the end; its output and errors are together in `stdout`."""
        return subprocess.run(
            self._command(command, folder),
            env=self.environment | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def processes(self, pattern: str) -> list[int]:
        """Return the pids (on the host) of processes whose command line matches `pattern`, a regular expression.

        It reads /proc from outside, because a new process for each of the many looks would be slow.
        """
        numbers = []
        for file in Path(f"/proc/{self.pid}/root/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if re.search(pattern, file.read_text().replace("\0", " ")):
                    numbers.append(int(file.parent.name))
        return sorted(numbers)

    def kill(self, pattern: str) -> int:
        """SIGKILL to those processes; how many there were. When this returns they are gone."""
        numbers = self.processes(pattern)
        if numbers:
            self.run("bash", "-c", f"kill -KILL {' '.join(map(str, numbers))}")
            while set(numbers) & set(self.processes(pattern)):
                time.sleep(0.05)
        return len(numbers)

    def stop(self) -> None:
        """Ends the host with all that runs on it."""
        assert self._outer.stdin is not None
        self._outer.stdin.close()
        try:
            self._outer.wait(10)
        except subprocess.TimeoutExpired:
            self._outer.send_signal(signal.SIGKILL)
            self._outer.wait(10)


class Network:
    """A switch, and the hosts that are plugged into it."""

    def __init__(self) -> None:
        self.switch = Host("switch", None)
        self.hosts: list[Host] = []
        self._ip("link add bridge0 type bridge")
        self._ip("addr add 10.0.0.254/24 dev bridge0")
        self._ip("link set bridge0 up")

    def add(self, name: str, address: str, outside: Sequence[Path] = ()) -> Host:
        """A host with its address in 10.0.0.0/24."""
        host = Host(name, address, outside)
        self.hosts.append(host)
        # From outside, with the pid of the host's first process.
        inside = ["nsenter", "--target", str(self.switch.pid), "--net", "--"]
        line = f"ip link add {name} type veth peer name eth0 netns {host.pid}"
        subprocess.run([*inside, *line.split()], check=True)
        self._ip(f"link set {name} master bridge0 up")
        for line in (f"addr add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            _check(host.run("ip", *line.split()))
        _check(host.run("ip", "route", "add", "default", "via", "10.0.0.254"))
        return host

    def plug(self, host: Host, there: bool) -> None:
        """Takes the host's cable out of the switch, or puts it back."""
        self._ip(f"link set {host.name} {'up' if there else 'down'}")

    def stop(self) -> None:
        """Ends all hosts."""
        for host in (*reversed(self.hosts), self.switch):
            host.stop()

    def _ip(self, line: str) -> None:
        _check(self.switch.run("ip", *line.split()))


def serve_ssh(host: Host, public_key: str) -> subprocess.Popen[str]:
    """An ssh server on `host` that lets the owner of `public_key` in."""
    assert SSHD is not None
    script = r"""
    set -e
    mkdir -p -m 700 "$HOME/.ssh"
    echo "$KEY" > "$HOME/.ssh/authorized_keys"
    ssh-keygen -q -t ed25519 -N '' -f /run/host_key
    printf '%s\n' 'HostKey /run/host_key' 'PidFile none' 'UsePAM no' 'UseDNS no' 'StrictModes no' \
        'AuthorizedKeysFile .ssh/authorized_keys' 'PasswordAuthentication no' 'MaxSessions 100' > /run/sshd_config
    exec "$SSHD" -D -e -f /run/sshd_config
    """
    server = host.start("bash", "-c", script, KEY=public_key, SSHD=SSHD)
    ends = time.monotonic() + 30
    while host.run("bash", "-c", f"exec 3<>/dev/tcp/{host.address}/22").returncode:
        assert server.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.2)
    return server


def _check(done: subprocess.CompletedProcess) -> None:
    if done.returncode:
        raise RuntimeError(f"{' '.join(done.args)}: {done.stdout.strip()}")
