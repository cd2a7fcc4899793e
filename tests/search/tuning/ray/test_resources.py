import os

import pytest

from models.cost import Throughput
from search.tuning.ray.resources import Cluster, sum_up_nodes


def cluster(**changes):
    usual = {"cpus": 8, "node_cpus": 8, "gpus": 0, "node_memory_mib": 16000, "dashboard": "", "local": True}
    return Cluster(**(usual | changes))


def test_without_gpu_there_is_a_worker_a_core():
    assert cluster().workers == 8 and cluster().reserve(2) == {"CPU": 1} and cluster().devices == 8


def test_workers_option_limits_the_trials_at_once_and_each_gets_more_cores():
    assert cluster(limit=2).workers == 2 and cluster(limit=2).count_threads(2) == 4
    assert cluster(limit=20).workers == 8  # on a smaller machine than the one the run began on
    shared = cluster(cpus=16, gpus=1, limit=6)
    assert shared.workers == 6 and shared.reserve(6) == {"CPU": 1, "GPU": 0.1666}
    assert cluster(cpus=16, gpus=1, limit=2).workers == 2


def test_fewer_trials_get_more_cores_each():
    assert [cluster().count_threads(n) for n in (1, 2, 3, 8, 100)] == [8, 4, 2, 1, 1]
    assert cluster().count_devices_each(2) == 4.0


def test_a_trial_gets_no_more_cores_than_a_node_has():
    assert cluster(cpus=48, node_cpus=16).count_threads(1) == 16


@pytest.mark.parametrize(
    ("cores", "trials", "threads"),
    [
        ((4, 4), 2, 4),  # one on each node
        ((4, 4), 1, 4),
        ((5, 5), 3, 2),  # two of them on one node
        ((6, 6, 4), 4, 2),
        ((16, 4), 5, 4),
        ((16, 4), 1, 4),  # the other node may be lost
        ((8, 8, 0), 16, 1),  # a head node without cores trains nothing
    ],
)
def test_trials_on_cores_of_a_cluster_reserve_their_threads_and_all_fit(cores, trials, threads):
    machine = pretend(*((count, 0) for count in cores))
    assert machine.count_threads(trials) == threads and machine.reserve(trials) == {"CPU": threads}
    assert sum(count // threads for count in cores) >= trials


def test_trials_share_the_memory_of_a_node_with_little_for_its_cores():
    nodes = [{"CPU": 16, "memory": 2**34}, {"CPU": 4, "memory": 2**34}]
    machine = Cluster(**sum_up_nodes(nodes), dashboard="", local=False)
    assert machine.compute_memory_each(20) == pytest.approx(0.6 * 1024)  # sixteen of them on the first


IDLE = Throughput(1.4e13, 8e-6)  # a GPU that waits for operations to start
BUSY = Throughput(1e12, 1e-7)


def pretend(*nodes):
    """Return a cluster of nodes with so many cores and GPUs."""
    return Cluster(**sum_up_nodes([{"CPU": c, "GPU": g, "memory": 2**34} for c, g in nodes]), dashboard="", local=False)


@pytest.mark.parametrize(
    ("nodes", "throughput", "memory_mib", "each"),
    [
        (((32, 1),), IDLE, 140_000, 16),  # sixteen at the most
        (((16, 1),), IDLE, 140_000, 15),  # one core is left
        (((2, 1),), IDLE, 140_000, 1),
        (((64, 4),), IDLE, 140_000, 15),
        (((64, 1), (9, 2)), IDLE, 140_000, 4),  # as the node with the fewest cores for its GPUs allows
        (((32, 1),), IDLE, 8_000, 5),  # as fit into memory
        (((32, 1),), BUSY, 140_000, 1),  # a trial alone keeps it busy
        (((1, 1),), IDLE, 140_000, 1),
    ],
)
def test_gpu_is_shared_by_as_many_trials_as_keep_it_busy_and_fit(nodes, throughput, memory_mib, each):
    machine = pretend(*nodes).share_gpus(throughput, memory_mib)
    assert machine.trials_per_gpu == each and machine.workers == each * machine.gpus
    assert machine.reserve(machine.workers) == {"CPU": 1, "GPU": pytest.approx(1 / each, abs=1e-4)}


def test_shares_that_ray_rounds_fit_on_a_gpu():
    for each in range(1, 17):
        share = cluster(cpus=64, gpus=1, trials_per_gpu=each).reserve(each)["GPU"]
        assert 1 - 1e-3 * each < each * round(share, 4) <= 1


@pytest.mark.parametrize(
    ("trials", "share"), [(1, 1), (2, 1), (4, 1), (5, 1 / 2), (8, 1 / 2), (9, 1 / 3), (99, 1 / 15)]
)
def test_last_trials_have_whole_gpus_as_long_as_there_are_enough(trials, share):
    machine = pretend((32, 2), (32, 2)).share_gpus(IDLE, 140_000)
    assert machine.gpus == 4 and machine.count_devices_each(trials) == share
    assert machine.share(IDLE, trials) == Throughput(IDLE.macs_per_s * share, IDLE.launch_s)


def test_nodes_without_a_gpu_do_not_count_in_a_cluster_that_has_some():
    machine = pretend((64, 0), (8, 2), (16, 2))
    assert (machine.cpus, machine.node_cpus, machine.gpus, machine.cpus_per_gpu) == (24, 8, 4, 3.5)
    assert pretend((64, 0), (8, 0)).cpus == 72


@pytest.mark.parametrize(
    ("began_with", "now", "workers"),
    [
        ([(8, 0)], [(8, 0), (16, 1)], 24),  # a node with a GPU joins a run on cores
        ([(16, 2)], [(8, 0), (16, 2)], 2),
        ([(16, 2)], [(8, 0)], 1),  # the node with GPUs is lost
        ([(8, 0)], [], 1),
    ],
)
def test_workers_are_counted_on_nodes_of_the_kind_that_the_run_began_with(began_with, now, workers, monkeypatch):
    alive = [{"Alive": True, "Resources": {"CPU": float(cpu), "GPU": float(gpu)}} for cpu, gpu in now]
    monkeypatch.setattr("ray.nodes", lambda: alive)
    assert pretend(*began_with).count_workers() == workers


def test_trials_share_the_memory_of_a_node_and_leave_some():
    assert cluster().compute_memory_each(8) == pytest.approx(1200) and cluster().compute_memory_each(
        1
    ) == pytest.approx(9600)
    assert cluster(cpus=48).compute_memory_each(48) == pytest.approx(1200)
    assert cluster(gpus=1).compute_memory_each(4) is None and cluster(node_memory_mib=0).compute_memory_each(4) is None


def test_function_called_on_this_machine_runs_in_this_process():
    assert cluster().call(os.getpid) == os.getpid()
