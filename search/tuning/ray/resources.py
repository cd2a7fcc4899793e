"""The resources of the machine or the Ray cluster, and the share that each trial gets."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from models.cost import Throughput
from search.tuning.allocation import choose_trials_per_gpu

T = TypeVar("T")
TRAINING_SHARE = 0.6  # share of a node's memory for training; the remainder is for the processes and other programs


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Resources of the Ray cluster."""

    cpus: int  # total number of cores, in a cluster with GPUs only on nodes that have one
    node_cpus: int  # cores of the smallest node
    gpus: int  # total number of GPUs
    node_memory_mib: float  # memory in MiB for the cores of the smallest node; 0 if Ray does not report it
    dashboard: str  # address of the Ray dashboard, or ""
    local: bool  # True if Ray was started on this machine for this run
    # largest number of trials at the same time (--workers); None for one per core, or as many as share the GPUs
    limit: int | None = None
    trials_per_gpu: int = 1  # trials of the search that share one GPU
    cpus_per_gpu: float = 1.0  # cores for each GPU of the node that has the fewest
    slots: int = 1  # number of trials that fit on the nodes if each has as many cores as the smallest node
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
        used = [node for node in nodes if node.get("GPU")] if self.gpus else [node | {"GPU": 0} for node in nodes]
        return replace(self, **sum_up_nodes(used)).workers

    def share_gpus(self, throughput: Throughput, memory_mib: float) -> "Cluster":
        """Return this cluster with the number of trials of the search that share a GPU of that speed and memory.

        Each trial needs a core; one core of a node is left to the other processes.
        """
        each = min(choose_trials_per_gpu(throughput, memory_mib), int(self.cpus_per_gpu))
        return replace(self, trials_per_gpu=max(1, each))

    def count_devices_each(self, trials: int) -> float:
        """Return the cores, or the fraction of a GPU, of each of `trials` concurrent trials.

        Every GPU takes the same number of trials, so the last trials of a run get whole GPUs.
        """
        at_once = min(trials, self.workers)
        return 1 / -(-at_once // self.gpus) if self.gpus else float(self.count_threads(trials))

    def reserve(self, trials: int) -> dict[str, float]:
        """Return the resources that Ray reserves for each of `trials` concurrent trials.

        Ray rounds them to ten thousandths, and six times 0.1667 do not fit on a GPU. Without GPUs, the threads of a
        trial are reserved on a cluster only, where Ray would start several trials on one node and none on another.
        """
        if self.gpus:
            return {"CPU": 1, "GPU": int(10_000 * self.count_devices_each(trials)) / 10_000}
        return {"CPU": 1 if self.local else self.count_threads(trials)}

    def share(self, throughput: Throughput, trials: int) -> Throughput:
        """Return the throughput of each of `trials` concurrent trials, from that of one core or of a whole GPU."""
        return throughput.scale(self.count_devices_each(trials))

    def count_threads(self, trials: int) -> int:
        """Return the processor threads of each of `trials` concurrent trials, at most as many as any node has."""
        return max(1, self.node_cpus // -(-min(trials, self.workers) // self.slots))

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


def sum_up_nodes(nodes: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the fields of a Cluster that describe its nodes, given Ray's resources of each."""
    with_gpu = [node for node in nodes if node.get("GPU")]
    used = [node for node in with_gpu or nodes if node.get("CPU", 0) >= 1]
    cpus = [int(node["CPU"]) for node in used]
    smallest = min(cpus, default=1)
    core_memory = min((node["memory"] / node["CPU"] for node in used if node.get("memory")), default=0.0)
    return {
        "cpus": sum(cpus) or 1,
        "node_cpus": smallest,
        "slots": sum(count // smallest for count in cpus) or 1,
        "gpus": sum(int(node["GPU"]) for node in with_gpu),
        "cpus_per_gpu": min(((node.get("CPU", 0) - 1) / node["GPU"] for node in with_gpu), default=1.0),
        "node_memory_mib": smallest * core_memory / 2**20,
    }
