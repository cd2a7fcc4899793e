"""Start and stop Ray, without log output and on loopback only, or join a cluster."""

import contextlib
import errno
import logging
import os
import shlex
import shutil
import stat
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from data.runtime.parallel import check_answer
from data.runtime.process import SPINNING, count_cores
from search.config.plugins import VARIABLE, find_copy, list_plugins
from search.records.disk import count_free_bytes, find_temporary_folder, format_bytes
from search.records.run_dir import is_running
from search.tuning.ray.resources import Cluster, sum_up_nodes

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
    "RAY_worker_niceness": "5",  # with Ray's 15, a worker gets a thirtieth of a core that another program keeps busy
}
_LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # makes all servers of a single machine listen on 127.0.0.1 only
TEMPORARY_BYTES = 20 * 10**6  # size of the logs and sockets that Ray writes in its temporary folder
SOCKET_BYTES, MAX_SOCKET_BYTES = 69, 107  # length of the path below that folder; longest path of a socket in Linux
QUIET_S = 3600.0  # seconds without a log line after which a Ray session without a process counts as ended
SHIPPED = ("search", "data", "models")  # packages that workers import
NOT_SHIPPED = ["?*.*", "!*.py", "!*.json", "!*.txt"]  # other files in their folders, in the form of .gitignore
OBJECT_STORE_BYTES = 200 * 2**20  # small: checkpoints are files and images are memory-mapped


def start(address: str | None, workers: int | None = None) -> Cluster:
    """Start Ray with the cores of this process, or join the cluster at `address`; `workers` limits concurrent trials.

    Raise ConnectionError if there is no cluster at `address`, or Ray does not start on this machine.
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
    if (quoted := shlex.quote(sys.executable)) != sys.executable:  # Ray passes this path to a shell without quotes
        own["runtime_env"] = {"py_executable": quoted}
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
    """Return Ray's environment of a cluster, in which every node runs this process's code and its plugins."""
    variables = {name: os.environ[name] for name in (VARIABLE, SPINNING[0]) if name in os.environ}
    plugins = [str(find_copy(name, sha256).parent) for name, sha256 in list_plugins().items()]
    return {"py_modules": [*map(import_module, SHIPPED), *plugins], "excludes": NOT_SHIPPED, "env_vars": variables}


def configure() -> None:
    """Set the variables that Ray reads, unless the user has set them, and switch its log off."""
    os.environ.update({name: value for name, value in _SETTINGS.items() if name not in os.environ})
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def _list_servers() -> tuple[str, ...]:
    """Return the addresses of Ray's control server and of the server on this node."""
    import ray

    here = ray.get_runtime_context()
    own = [node for node in ray.nodes() if node["NodeID"] == here.get_node_id()]
    return (here.gcs_address, *(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}" for node in own))


def _choose_temporary_folder() -> None:
    """Let Ray use a folder of this user alone, in /tmp where the usual one has too long a path for Ray's sockets.

    Child processes use that folder too, because the processes of Ray's dashboard have sockets there. Raise
    ConnectionError if it has too little free space, because Ray would then wait for minutes.
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
    """Make a folder that only this user can enter, unless it exists; raise ConnectionError if that fails."""
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
    """Delete the logs and sockets of Ray sessions that have ended.

    The last part of a name is the id of Ray's process, which may run in another container; a running Ray logs all the
    time.
    """
    for session in folder.glob("ray/session_*_*"):
        process = session.name.rpartition("_")[2]
        with contextlib.suppress(FileNotFoundError):  # another process may delete them meanwhile
            logged = max((file.stat().st_mtime for file in session.glob("logs/*")), default=session.stat().st_mtime)
            if process.isdigit() and not is_running(int(process)) and time.time() - logged > QUIET_S:
                shutil.rmtree(session, ignore_errors=True)


def _protect_token() -> None:
    """Let only this user read the token for Ray's dashboard; Ray would let all users read it."""
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
