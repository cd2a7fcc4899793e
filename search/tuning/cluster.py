"""Starting and ending Ray, quietly, on loopback, with its token on; what the machine or cluster offers."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from data.runtime.ray_map import check_answer

T = TypeVar("T")
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}
# Ray's switch for a single machine: with it, all its servers listen on 127.0.0.1 instead of the whole network.
_LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
TRAINING_SHARE = 0.6  # of a node's memory
OBJECT_STORE_BYTES = 200 * 2**20  # configurations and checkpoints pass through files; images are memory-mapped


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What Ray offers.

    Attributes:
        cpus: Cores in all.
        node_cpus: Cores of the largest node.
        gpus: GPUs in all.
        node_memory_mib: Memory of the smallest node, in MiB; 0 if Ray does not say.
        dashboard: Address of the Ray dashboard, or "".
        local: Whether it was started on this machine for this run.
    """

    cpus: int
    node_cpus: int
    gpus: int
    node_memory_mib: float
    dashboard: str
    local: bool

    @property
    def devices(self) -> int:
        """GPUs, or cores on a machine without."""
        return self.gpus or self.cpus

    @property
    def workers(self) -> int:
        """How many trials of the search run at once: one a core, or four a GPU."""
        return min(4 * self.gpus, self.cpus) if self.gpus else self.cpus

    @property
    def resources(self) -> dict[str, float]:
        """What Ray reserves for each worker."""
        return {"cpu": 1, "gpu": 0.25} if self.gpus else {"cpu": 1}

    def devices_each(self, trials: int) -> float:
        """Return what one of `trials` trials at the same time occupies: cores, or its part of a GPU."""
        at_once = min(trials, self.workers)
        return min(1.0, self.gpus / at_once) if self.gpus else float(self.threads(trials))

    def threads(self, trials: int) -> int:
        """Return the processor threads of one of `trials` trials at the same time; fewer trials get more each."""
        return max(1, min(self.cpus // min(trials, self.workers), self.node_cpus))

    def memory_each(self, trials: int) -> float | None:
        """Return the MiB that one of `trials` trials at the same time may fill; None on a GPU, which says itself.

        A share is left for the workers themselves and for what else the machine does.
        """
        at_once = min(trials, self.workers, self.node_cpus)
        return None if self.gpus or not self.node_memory_mib else TRAINING_SHARE * self.node_memory_mib / at_once

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Return what a function returns on a worker: in this process where the cluster is this machine."""
        if self.local:
            return function(*args)
        import ray

        task = ray.remote(num_cpus=self.resources["cpu"], num_gpus=self.resources.get("gpu", 0))(function)
        result: T = ray.get(task.remote(*args))
        return result


def start(address: str | None) -> Cluster:
    """Start Ray on this machine, or join the cluster at `address`.

    Raises:
        ConnectionError: There is no cluster at `address`, or Ray does not come up here.
    """
    if address:
        check_answer(address)
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    if not address:
        os.environ.setdefault(*_LOOPBACK)
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    # include_dashboard=True would end the run where the dashboard does not come up; without it, it is there or not
    own: dict[str, Any] = {"object_store_memory": OBJECT_STORE_BYTES}
    where: dict[str, Any] = {"address": address} if address else {"address": "local", **own}
    try:
        context = ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        raise
    except Exception as error:  # Ray's own word for a machine too busy to start it within half a minute
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConnectionError(f"Ray does not start: {reason}; try again when the machine is less busy") from error
    resources, nodes = ray.cluster_resources(), [node["Resources"] for node in ray.nodes()]
    url = context.dashboard_url or ""
    return Cluster(
        cpus=int(resources.get("CPU", 1)),
        node_cpus=max(int(node.get("CPU", 0)) for node in nodes),
        gpus=int(resources.get("GPU", 0)),
        node_memory_mib=min((node["memory"] for node in nodes if node.get("memory")), default=0.0) / 2**20,
        dashboard=f"http://{url}" if url else "",
        local=address is None,
    )


def stop() -> None:
    """End Ray, or leave the cluster."""
    import ray

    ray.shutdown()
