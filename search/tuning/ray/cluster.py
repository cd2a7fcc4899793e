"""Start and stop Ray, without log output and on loopback only, and describe the machine or cluster."""

import contextlib
import errno
import logging
import os
import platform
import shutil
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from data.runtime.cores import SPINNING, count_cores
from data.runtime.parallel import check_answer
from models.cost import Throughput
from search.config.plugins import VARIABLE
from search.records.disk import count_free_bytes, find_temporary_folder, format_bytes
from search.tuning.allocation import choose_trials_per_gpu

T = TypeVar("T")
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # no snapshots of the experiment: nothing reads them, and they grow
    "TUNE_ONLY_STORE_CHECKPOINT_SCORE_ATTRIBUTE": "1",  # no metrics of earlier epochs in memory
    "TUNE_RESULT_BUFFER_LENGTH": "2",  # more than 1: workers send reports together, see `Worker`
    "RAY_AIR_NEW_OUTPUT": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "RAY_worker_niceness": "5",  # Ray's 15 leaves a worker a thirtieth of a core that another program keeps busy
}
_LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # makes all servers of a single machine listen on 127.0.0.1 only
TRAINING_SHARE = 0.6  # share of a node's memory for training; the rest is for the processes and other programs
TEMPORARY_BYTES = 20 * 10**6  # size of the logs and sockets that Ray writes in its temporary folder
SOCKET_BYTES, MAX_SOCKET_BYTES = 69, 107  # length of the path below that folder; longest path of a socket in Linux
QUIET_S = 3600.0  # without a line in its logs, after which a Ray whose process is not found has ended
SHIPPED = ("search", "data", "models")  # packages that workers import
NOT_SHIPPED = ["?*.*", "!*.py", "!*.json", "!*.txt"]  # other files in their folders, in the form of .gitignore
OBJECT_STORE_BYTES = 200 * 2**20  # small: checkpoints are files and images are memory-mapped


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Resources of the Ray cluster."""

    cpus: int  # total number of cores, in a cluster with GPUs those of nodes that have one
    node_cpus: int  # cores of the largest node
    gpus: int  # total number of GPUs
    node_memory_mib: float  # memory of the smallest node in MiB; 0 if Ray does not report it
    dashboard: str  # address of the Ray dashboard, or ""
    local: bool  # True if Ray was started on this machine for this run
    # largest number of trials at the same time (--workers); None for one per core, or as many as share the GPUs
    limit: int | None = None
    trials_per_gpu: int = 1  # trials of the search that share one GPU
    cpus_per_gpu: float = 1.0  # cores for each GPU of the node that has the fewest
    # addresses (host:port) of the servers without which this process cannot use the cluster
    servers: tuple[str, ...] = ()

    @property
    def devices(self) -> int:
        """Number of GPUs, or of cores on a machine without GPUs."""
        return self.gpus or self.cpus

    @property
    def workers(self) -> int:
        """Number of trials of the search at the same time: `limit`, or one per core, or `trials_per_gpu`."""
        usual = self.gpus * self.trials_per_gpu if self.gpus else self.cpus
        return min(self.limit or usual, self.cpus)

    def count_workers(self) -> int:
        """Return the number of workers with the nodes that the cluster has now."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return replace(self, **sum_up_nodes(nodes)).workers

    def share_gpus(self, throughput: Throughput, memory_mib: float) -> "Cluster":
        """Return this cluster with the number of trials of the search that share a GPU of that speed and memory.

        Each trial needs a core; one core of a node is left to the other processes.
        """
        each = min(choose_trials_per_gpu(throughput, memory_mib), int(self.cpus_per_gpu))
        return replace(self, trials_per_gpu=max(1, each))

    def count_devices_each(self, trials: int) -> float:
        """Return the cores, or the fraction of a GPU, of each of `trials` concurrent trials.

        As many trials fit on each GPU as on the others, so the last ones of a run have whole GPUs.
        """
        at_once = min(trials, self.workers)
        return 1 / -(-at_once // self.gpus) if self.gpus else float(self.threads(trials))

    def reserve(self, trials: int) -> dict[str, float]:
        """Return the resources that Ray reserves for each of `trials` concurrent trials.

        Ray rounds them to ten thousandths, and six times 0.1667 do not fit on a GPU.
        """
        return {"CPU": 1, "GPU": int(10_000 * self.count_devices_each(trials)) / 10_000} if self.gpus else {"CPU": 1}

    def share(self, throughput: Throughput, trials: int) -> Throughput:
        """Return the throughput of each of `trials` concurrent trials, from that of one core or of a whole GPU."""
        return throughput.scale(self.count_devices_each(trials))

    def threads(self, trials: int) -> int:
        """Return the processor threads of each of `trials` concurrent trials."""
        return max(1, min(self.cpus // min(trials, self.workers), self.node_cpus))

    def compute_memory_each(self, trials: int) -> float | None:
        """Return the MiB that each of `trials` concurrent trials may use; None on a GPU, which raises errors itself."""
        at_once = min(trials, self.workers, self.node_cpus)
        return None if self.gpus or not self.node_memory_mib else TRAINING_SHARE * self.node_memory_mib / at_once

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on a worker, or in this process if the cluster is this machine."""
        if self.local:
            return function(*args)
        import ray

        result: T = ray.get(self._as_task(function).remote(*args))
        return result

    def call_each(self, function: Callable[..., T], *args: Any) -> dict[str, T]:
        """Call a function on a worker of each node that trains; return the results by name and id of the node.

        It is called in this process if the cluster is this machine.
        """
        if self.local:
            return {platform.node(): function(*args)}
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        kind, task = "GPU" if self.gpus else "CPU", self._as_task(function)
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(kind)]
        pins = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        results = ray.get([task.options(scheduling_strategy=pin).remote(*args) for pin in pins])
        names = [f"{node['NodeManagerHostname']} {node['NodeID'][:6]}" for node in nodes]
        return dict(zip(names, results, strict=True))

    def _as_task(self, function: Callable[..., T]) -> Any:
        import ray

        return ray.remote(num_cpus=1, num_gpus=min(self.gpus, 1))(function)


def start(address: str | None, workers: int | None = None) -> Cluster:
    """Start Ray with the cores of this process, or join the cluster at `address`; `workers` limits the trials at once.

    Raises:
        ConnectionError: There is no cluster at `address`, or Ray does not start on this machine.
    """
    if address:
        check_answer(address)
    configure()
    if not address:
        os.environ.setdefault(*_LOOPBACK)
        _choose_temporary_folder()
    import ray

    # without include_dashboard=True, a dashboard that does not start does not end the run
    own: dict[str, Any] = {"object_store_memory": OBJECT_STORE_BYTES, "num_cpus": count_cores()}
    where: dict[str, Any] = {"address": address} if address else {"address": "local", **own}
    if address:
        where["runtime_env"] = _ship_code()
    try:
        _protect_token()
        context = ray.init(**where, log_to_driver=False, logging_level=logging.CRITICAL)
        _protect_token()
    except ConnectionError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConnectionError(f"Ray does not start: {reason}; {_advise(error)}") from error
    url = context.dashboard_url or ""
    return Cluster(
        **sum_up_nodes([node["Resources"] for node in ray.nodes() if node["Alive"]]),
        dashboard=f"http://{url}" if url else "",
        local=address is None,
        limit=workers,
        servers=() if (address or "").startswith("ray://") else _list_servers(),
    )


def _ship_code() -> dict[str, Any]:
    """Return Ray's environment of a cluster, in which every node runs this process's code and finds its plugins."""
    variables = {name: os.environ[name] for name in (VARIABLE, SPINNING[0]) if name in os.environ}
    return {"py_modules": list(map(import_module, SHIPPED)), "excludes": NOT_SHIPPED, "env_vars": variables}


def configure() -> None:
    """Set the variables that Ray reads, unless the user has, and let it log nothing."""
    os.environ.update({name: value for name, value in _SETTINGS.items() if name not in os.environ})
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def sum_up_nodes(nodes: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the fields of a Cluster that describe its nodes, given Ray's resources of each."""
    with_gpu = [node for node in nodes if node.get("GPU")]
    used = with_gpu or nodes
    cpus = [int(node.get("CPU", 0)) for node in used]
    return {
        "cpus": sum(cpus) or 1,
        "node_cpus": max(cpus),
        "gpus": sum(int(node["GPU"]) for node in with_gpu),
        "cpus_per_gpu": min(((node.get("CPU", 0) - 1) / node["GPU"] for node in with_gpu), default=1.0),
        "node_memory_mib": min((node["memory"] for node in used if node.get("memory")), default=0.0) / 2**20,
    }


def _list_servers() -> tuple[str, ...]:
    """Return the addresses of Ray's control server and of the server on this node."""
    import ray

    here = ray.get_runtime_context()
    own = [node for node in ray.nodes() if node["NodeID"] == here.get_node_id()]
    return (here.gcs_address, *(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}" for node in own))


def _choose_temporary_folder() -> None:
    """Let Ray use a folder of this user alone, in /tmp where the usual one has too long a path for Ray's sockets.

    The processes that this one starts use that folder too, for those of Ray's dashboard have sockets there.

    Raises:
        ConnectionError: It is another user's, or has too little free space, with which Ray would wait for minutes.
    """
    temporary = find_temporary_folder()
    if chosen := "RAY_TMPDIR" not in os.environ:
        name = f"one-look-{os.getuid()}"
        too_long = len(os.fsencode(temporary / name)) + SOCKET_BYTES > MAX_SOCKET_BYTES and os.access("/tmp", os.W_OK)
        temporary = (Path("/tmp") if too_long else temporary) / name
    if (free := count_free_bytes(temporary)) < TEMPORARY_BYTES:
        raise ConnectionError(
            f"Ray does not start: its temporary folder {temporary} has {format_bytes(free)} free and needs "
            f"{format_bytes(TEMPORARY_BYTES)}; free some, or set RAY_TMPDIR to a folder on another disk"
        )
    if chosen:
        _make_private(temporary)
        os.environ.update(dict.fromkeys(["RAY_TMPDIR", "TMPDIR"] if too_long else ["RAY_TMPDIR"], str(temporary)))
        _clear_sessions(temporary)


def _make_private(folder: Path) -> None:
    """Make a folder that only this user can enter, unless it is there.

    Raises:
        ConnectionError: It cannot be made, or somebody else has made it.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise FileExistsError(errno.EEXIST, "it belongs to another user", str(folder))
        folder.chmod(0o700)
    except OSError as error:
        reason = f"{folder}: {error.strerror}"
        raise ConnectionError(f"Ray does not start: {reason}; set RAY_TMPDIR to a folder of your own") from error


def _clear_sessions(folder: Path) -> None:
    """Delete the logs and sockets of Rays that have ended.

    The last part of a name is the process of the Ray, which may be one of another container; it logs all the time.
    """
    for session in folder.glob("ray/session_*_*"):
        process = session.name.rpartition("_")[2]
        logged = max((file.stat().st_mtime for file in session.glob("logs/*")), default=session.stat().st_mtime)
        if process.isdigit() and not _is_running(int(process)) and time.time() - logged > QUIET_S:
            shutil.rmtree(session, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _protect_token() -> None:
    """Let only this user read the token with which Ray's dashboard is entered; Ray would let all read it."""
    with contextlib.suppress(OSError, RuntimeError):
        folder = Path.home() / ".ray"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "auth_token").chmod(0o600)


def _advise(error: Exception) -> str:
    """Return advice for the exception with which Ray failed to start."""
    path = Path(str(getattr(error, "filename", None) or "."))
    if "AF_UNIX path length" in str(error):
        return "set RAY_TMPDIR to a short path, such as /tmp"
    if isinstance(error, UnicodeError):
        return "set RAY_TMPDIR to a folder whose name is UTF-8"
    if isinstance(error, OSError) and ".ray" in path.parts:
        return f"Ray keeps its token in {path}: set HOME to a folder that can be written to"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space in {find_temporary_folder()}, or set RAY_TMPDIR to a folder on another disk"
    if isinstance(error, OSError) and path.is_relative_to(find_temporary_folder()):
        return f"{path} may belong to another user: set RAY_TMPDIR to a folder of your own"
    return "try again when the machine is less busy"  # Ray ends if it has not started within 30 s


def stop() -> None:
    """Stop Ray, or disconnect from the cluster."""
    import ray

    ray.shutdown()
