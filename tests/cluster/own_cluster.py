"""Three hosts with a cluster launched by `ray up cluster/onprem.yaml`, a desk and an S3 server.

The commands of the file run on the desk, with its addresses, user and paths.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hosts import BIN, ROOT, Network, serve_ssh
from patience import until

HEAD, WORKERS, STORE, DESK = "10.0.0.1", ("10.0.0.2", "10.0.0.3"), "10.0.0.4", "10.0.0.5"
URL = "http://127.0.0.1:8265"
#: Bytes of a worker's object store, in place of a quarter of the machine's memory.
OBJECTS = 150_000_000
#: Seconds without a word from a node after which the autoscaler starts it again; 30 by default.
MISSED = 15
#: Prints the number of alive nodes on the dashboard of a URL every second, in one process because tests ask often.
COUNT_NODES = """
import json, os, sys, time, urllib.request as r
token = open(os.path.expanduser("~/.prefrec/token")).read().strip()
asked = r.Request(f"{sys.argv[1]}/nodes?view=summary", headers={"Authorization": "Bearer " + token})
while True:
    try:
        shown = json.load(r.urlopen(asked, timeout=10))["data"]["summary"]
    except Exception:
        shown = []
    print(sum(node.get("raylet", {}).get("state") == "ALIVE" for node in shown), flush=True)
    time.sleep(1)
"""


class OwnCluster:
    """`folder`: an empty one, for the bucket `bucket` and logs. Nothing runs on the hosts before `up`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bucket = folder / "store" / "bucket"
        self.bucket.mkdir(parents=True)
        self.network = Network()
        try:
            self.head = self.network.add("head", HEAD)
            self.workers = [self.network.add(f"worker{number}", ip) for number, ip in enumerate(WORKERS, 1)]
            self.store = self.network.add("store", STORE, [folder])
            self.desk = self.network.add("desk", DESK, [folder])
            self._serve()
            self._make_keys()
        except BaseException:
            self.stop()
            raise

    def _serve(self) -> None:
        tests = str(ROOT / "tests")
        script = str(Path(__file__).with_name("store.py"))
        self.server = self.store.start(
            *(f"{BIN}/python", script, str(self.folder / "store"), STORE),
            log=str(self.folder / "store.log"),
            PYTHONPATH=tests,
        )
        until(self._store_says, 60)
        access: dict[str, str] = json.loads(self._store_says()[0])
        self.keys = {name: access.pop(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        self.access = access

    def _store_says(self) -> list[str]:
        return (self.folder / "store.log").read_text().splitlines()

    def refused(self) -> int:
        """Number of requests that the store answered with 503."""
        return max((int(line) for line in self._store_says() if line.isdigit()), default=0)

    def _make_keys(self) -> None:
        """Create the token and the wheel as in the file, and an ssh key that the hosts accept.

        The constraints are the installed versions, because the hosts reach no index. The nodes have the store's keys in
        a file, so that no job contains a secret.
        """
        wheels = self.folder / "wheels"
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)]
        subprocess.run(build, check=True)
        here = [sys.executable, "-m", "pip", "list", "--format=freeze", "--exclude-editable"]
        (wheels / "constraints.txt").write_bytes(subprocess.check_output(here))
        script = r"""
        set -e
        mkdir -p ~/.prefrec ~/.ssh && (umask 077; openssl rand -hex 32 > ~/.prefrec/token)
        cp "$1"/*.whl "$1"/constraints.txt ~/.prefrec
        ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
        cat ~/.ssh/id_ed25519.pub
        """
        done = self.desk.run("bash", "-c", script, "bash", str(wheels))
        assert done.returncode == 0, done.stdout
        keys = "".join(f"{name.lower()} = {value}\n" for name, value in self.keys.items())
        write = 'umask 077; mkdir -p ~/.aws; printf "[default]\n%s" "$1" > ~/.aws/credentials'
        for host in (self.head, *self.workers):
            serve_ssh(host, done.stdout.strip())
            assert host.run("bash", "-c", write, "bash", keys).returncode == 0

    def up(self) -> None:
        """`ray up`, and the tunnel to the dashboard."""
        text = (ROOT / "cluster" / "onprem.yaml").read_text("utf-8")
        quarter = """$(awk '/MemTotal/ {printf "%.0f", $2 * 1024 / 4}' /proc/meminfo)"""
        assert text.count(quarter) == 1
        text = text.replace(quarter, str(OBJECTS))
        head = "RAY_enable_autoscaler_v2=0;"
        assert text.count(head) == 1
        # A node that is gone is missed after half of the usual time.
        text = text.replace(head, f"AUTOSCALER_HEARTBEAT_TIMEOUT_S={MISSED} {head}")
        access = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.access.items())
        text = text.replace("export RAY_AUTH_MODE=token", f"export {access} RAY_AUTH_MODE=token")
        (self.folder / "onprem.yaml").write_text(text, "utf-8")
        done = self.ask("ray", "up", "-y", str(self.folder / "onprem.yaml"))
        assert done.returncode == 0, done.stdout
        tunnel = ["ssh", "-o", "StrictHostKeyChecking=no", "-N", "-L", "8265:127.0.0.1:8265", f"prefrec@{HEAD}"]
        self.desk.start(*tunnel, log=str(self.folder / "tunnel.log"))
        self.desk.start("python", "-c", COUNT_NODES, URL, log=str(self.folder / "nodes.log"))

    def down(self) -> None:
        """`ray down`."""
        done = self.ask("ray", "down", "-y", str(self.folder / "onprem.yaml"))
        assert done.returncode == 0, done.stdout

    def ask(self, *command: str, timeout: float = 3000) -> subprocess.CompletedProcess[str]:
        """A command on the desk, by who has the token."""
        return self.desk.run(*_with_token(command), timeout=timeout, RAY_AUTH_MODE="token", **self.access)

    def begin(self, *command: str, log: str) -> subprocess.Popen[str]:
        """Like `ask`, without waiting. The output goes to `folder`/`log`."""
        path = str(self.folder / log)
        return self.desk.start(*_with_token(command), log=path, RAY_AUTH_MODE="token", **self.access)

    def nodes(self) -> int:
        """Number of alive nodes on the dashboard, at most a second old."""
        *_, last = ["0", *(self.folder / "nodes.log").read_text().split()]
        return int(last)

    def stop(self) -> None:
        """Ends the hosts."""
        self.network.stop()


def submit(command: str, config: str, *arguments: str) -> list[str]:
    """The line of `prefrec submit`."""
    return ["prefrec", "submit", config, "--address", URL, "--command", command, *arguments]


def _with_token(command: Sequence[str]) -> tuple[str, str, str]:
    """Only a shell on the desk can expand the home of its user."""
    return "bash", "-c", f"export RAY_AUTH_TOKEN_PATH=~/.prefrec/token; exec {shlex.join(command)}"
