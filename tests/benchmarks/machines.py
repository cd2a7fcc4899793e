"""A cluster of machines that share no file system: a run loses a node, then its head, and goes on on a third machine.

    python -m tests.benchmarks.machines          # as root on Linux, with an S3 server: pip install -e ".[test]"
    python -m tests.benchmarks.machines --budget 5m --lose-node 40 --losses 20 --lose-head 0

With --losses the node starts again after each loss but the last. The outcomes of all trials are counted at the end.
Each machine is a network namespace with its own /tmp, which has its home, cache and working directory.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tests.waiting import wait_until

NAMES = ("storage", "head", "node", "third")
ADDRESSES = {name: f"10.77.0.{i}" for i, name in enumerate(NAMES, start=1)}
S3, GCS = f"{ADDRESSES['storage']}:9000", f"{ADDRESSES['head']}:6379"
BUCKET = f"s3://bucket{{}}?scheme=http&endpoint_override={S3}"
RAY = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats", "--num-cpus=1", "--block"]
ENVIRONMENT = {
    **{
        "HOME": "/tmp/home",
        "ONE_LOOK_CACHE": "/tmp/cache",
        "RAY_TMPDIR": "/tmp",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0" * 32,
    },
    **{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"},
}


class Machine:
    """A network namespace in which every process sees the /tmp of the machine instead of the host's."""

    def __init__(self, name: str, disk: Path, code: Path) -> None:
        self.name, self.disk, self.code, self.space = name, disk / name, code, f"one-look-{name}"
        for folder in ("home", "work"):
            (self.disk / folder).mkdir(parents=True)
        call(f"ip netns add {self.space}")
        call(f"ip link add {name} netns one-look-net type veth peer name eth0 netns {self.space}")
        call(f"ip -n one-look-net link set {name} master bridge up")
        call(f"ip -n {self.space} address add {ADDRESSES[name]}/24 dev eth0")
        call(f"ip -n {self.space} link set eth0 up")
        call(f"ip -n {self.space} link set lo up")

    def start(self, words: Sequence[str], log: str) -> subprocess.Popen:
        """Start a process on this machine."""
        inside = f"mount --bind {self.disk} /tmp && cd /tmp/work && exec {shlex.join(words)}"
        command = ["ip", "netns", "exec", self.space, "unshare", "--mount", "sh", "-c", inside]
        environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(self.code)}
        with (self.disk / log).open("w") as file:
            return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def read(self, log: str) -> str:
        """Return what a process has printed."""
        return (self.disk / log).read_text()

    def lose(self) -> None:
        """Kill every process of this machine."""
        for process in subprocess.check_output(["ip", "netns", "pids", self.space], text=True).split():
            os.kill(int(process), signal.SIGKILL)


def call(command: str) -> None:
    """Run a command to its end."""
    subprocess.run(shlex.split(command), check=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--lose-node", type=float, default=25.0, metavar="S", help="seconds after the start")
    parser.add_argument("--losses", type=int, default=1, metavar="N", help="losses of the node (default %(default)s)")
    parser.add_argument("--every", type=float, default=12.0, metavar="S", help="seconds between them")
    parser.add_argument("--lose-head", type=float, default=40.0, metavar="S", help="0: never")
    parser.add_argument("--node-code", type=Path, help="another copy of the project, for the node")
    args = parser.parse_args()
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as folder:
        call("ip netns add one-look-net")
        call("ip -n one-look-net link add bridge type bridge")
        call("ip -n one-look-net link set bridge up")
        machines = {name: Machine(name, Path(folder), root) for name in NAMES}
        machines["node"].code = args.node_code or root
        try:
            follow(args, machines, root)
        finally:
            for machine in machines.values():
                machine.lose()
                call(f"ip netns delete {machine.space}")
            call("ip netns delete one-look-net")


def follow(args: argparse.Namespace, machines: dict[str, Machine], root: Path) -> None:
    """Start the run, lose its machines one after the other, and print what was seen."""
    storage, head, node, third = machines.values()
    run = [sys.executable, str(root / "search" / "run.py")]
    storage.start([sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", "9000"], "s3.log")
    data = "from data.scenes.scenes import make_scenes; from pathlib import Path; from data.runtime.storage import *\n"
    data += f"place = open_place({BUCKET.format('')!r}); place.filesystem.create_dir('bucket')\n"
    data += "root = make_scenes(Path('set'), 400, per_background=8, px=96, seed=1, workers=2)\n"
    data += "[place.upload(f, f'set/{f.relative_to(root)}') for f in root.rglob('*.*')]"
    time.sleep(3)
    assert (
        head.start([sys.executable, "-c", data.replace("&", "&allow_bucket_creation=true&", 1)], "data.log").wait() == 0
    ), head.read("data.log")
    head.start([*RAY, "--head", f"--node-ip-address={ADDRESSES['head']}", "--port=6379"], "ray.log")
    wait_until(lambda: "Ray runtime started" in head.read("ray.log"))
    join = [*RAY, f"--address={GCS}", f"--node-ip-address={ADDRESSES['node']}"]
    node.start(join, "ray.log")
    wait_until(lambda: "Ray runtime started" in node.read("ray.log"), or_until=lambda: "Error" in node.read("ray.log"))
    options = ["--budget", args.budget, "--data", BUCKET.format("/set"), "--storage", BUCKET.format("/runs")]
    began = time.monotonic()
    driver = head.start([*run, *options, "--out", "one", "--address", GCS], "run.log")
    losses = [(node, args.lose_node + args.every * i) for i in range(args.losses)]
    for victim, after_s in (*losses, (head, args.lose_head)):
        while driver.poll() is None and time.monotonic() - began < after_s:
            time.sleep(0.2)
        if driver.poll() is None and after_s:
            print(f"{time.monotonic() - began:.0f} s: {victim.name} is lost", flush=True)
            victim.lose()
            if (victim, after_s) in losses[:-1]:
                node.start(join, "ray.log")
    driver.wait()
    print(head.read("run.log"), flush=True)
    for machine in (head, node):
        print(machine.name, sorted(str(path.relative_to(machine.disk)) for path in machine.disk.glob("cache/*/*"))[:12])
    if driver.returncode:
        resumed = third.start([*run, "--resume", BUCKET.format("/runs/one")], "run.log")
        code = resumed.wait()
        print(f"third: exit code {code}\n{third.read('run.log')}", flush=True)
        print(sorted(path.name for path in third.disk.glob("work/runs/one/best/*")))
    show_outcomes(head, third)


def show_outcomes(*machines: Machine) -> None:
    """Print how many trials of each stage have ended in which way, by the records on each machine."""
    for machine in machines:
        for table in machine.disk.glob("work/**/one/trials.csv"):
            print(f"{machine.name}:", pd.read_csv(table).groupby(["stage", "status"]).size().to_dict())


if __name__ == "__main__":
    main()
