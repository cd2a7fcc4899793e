"""What the nodes of a cluster are asked before a run begins."""

import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest
from ray._private.runtime_env.packaging import create_package
from ray.tune.search import ConcurrencyLimiter

from search.tuning.ray import nodes
from search.tuning.ray.nodes import find_faults, find_versions
from search.tuning.ray.resources import Cluster, sum_up_nodes
from search.tuning.ray.searchers import StageChain
from search.tuning.ray.session import SHIPPED, _ship_code
from tests.waiting import HANG_S


def test_node_that_has_all_has_no_faults_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "mark").touch()
    assert find_faults(find_versions(), {"the cache": tmp_path}, "mark") == []
    assert find_faults(find_versions(), {"the storage": f"file://{tmp_path}"}, "mark") == []
    assert [path.name for path in tmp_path.iterdir()] == ["mark"]


def test_what_a_node_lacks_is_named(tmp_path, monkeypatch):
    places = {"the cache": tmp_path / "unseen", "the run folder's place": tmp_path}
    (tmp_path / "mark").touch()

    def fail(place, name, content):
        raise PermissionError("Permission denied")

    monkeypatch.setattr("data.runtime.storage.Place.write", fail)
    versions = {**find_versions(), "torch": "1.0", "jax": "0.9"}
    assert find_faults(versions, places, "mark") == [
        f"torch {find_versions()['torch']} instead of 1.0",
        "jax is not installed instead of 0.9",
        f"cannot see the cache {tmp_path / 'unseen'}",
        f"is not allowed to write to the run folder's place {tmp_path} (Permission denied)",
    ]


@pytest.mark.parametrize("nodes_of_ray", [[], [{"Alive": True, "Resources": {"memory": 1.0}}]])
def test_cluster_without_a_core_is_an_error_and_still_counted(nodes_of_ray, tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path))
    monkeypatch.setattr("ray.nodes", lambda: nodes_of_ray)
    with pytest.raises(ConnectionError, match="no node of the cluster has a core"):
        nodes.check_nodes(tmp_path / "run")
    machine = Cluster(**sum_up_nodes([{"CPU": 2.0}]), dashboard="", local=False)
    assert machine.count_workers() == 1


def test_place_that_this_machine_must_not_write_to_is_named(tmp_path, monkeypatch):
    def fail(place, name, content):
        raise PermissionError("Permission denied")

    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}])
    monkeypatch.setattr("data.runtime.storage.Place.write", fail)
    with pytest.raises(ConnectionError, match=f"{tmp_path} cannot be used: Permission denied"):
        nodes.check_nodes(tmp_path / "run", f"file://{tmp_path}")


def test_other_code_of_the_project_is_another_version(tmp_path, monkeypatch):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "run.py").write_text("1")
    monkeypatch.setattr(nodes, "import_module", lambda name: SimpleNamespace(__path__=[str(tmp_path / "search")]))
    first = find_versions()
    (tmp_path / "search" / "notes.md").touch()
    assert find_versions() == first
    (tmp_path / "search" / "run.py").write_text("2")
    assert {name for name, version in find_versions().items() if first[name] != version} == {"the project's code"}


def test_python_files_and_what_they_read_are_shipped_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path))
    monkeypatch.setenv("ONE_LOOK_PLUGINS", '{"tiny.py": "0a1b"}')
    assert _ship_code()["py_modules"][len(SHIPPED) :] == [str(tmp_path / "plugins" / "0a1b")]
    for name in ("data/a.py", "data/set/images/x.jpg", "data/sub/b.py", "data/sub/c.json", "data/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    package = tmp_path / "package.zip"
    excluded = {"include_gitignore": True, "excludes": _ship_code()["excludes"]}
    create_package(str(tmp_path / "data"), package, include_parent_dir=True, **excluded)
    assert sorted(zipfile.ZipFile(package).namelist()) == ["data/a.py", "data/sub/b.py", "data/sub/c.json"]


def test_more_trials_run_at_once_when_a_node_has_joined_and_fewer_when_one_has_left(monkeypatch):
    monkeypatch.setattr(nodes, "LOOK_S", 0.0)
    resources = {"CPU": 4.0}
    alive = [{"Alive": True, "Resources": resources}, {"Alive": False, "Resources": resources}]
    monkeypatch.setattr("ray.nodes", lambda: alive)
    machine = Cluster(**sum_up_nodes([resources]), dashboard="", local=False)
    limiter, lines = ConcurrencyLimiter(StageChain(iter([])), max_concurrent=machine.workers), []
    watch = nodes.NodeWatch(limiter, machine.count_workers, lines.append)
    limits = []
    for joins, leave in ((0, 0), (2, 0), (0, 3)):
        alive += [{"Alive": True, "Resources": resources}] * joins
        del alive[:leave]
        watch.on_step_end(0, [])
        limits.append(limiter.max_concurrent)
    assert limits == [4, 12, 4]
    assert lines == ["  the cluster now has 12 workers (before: 4)", "  the cluster now has 4 workers (before: 12)"]


def test_nodes_are_counted_every_ten_seconds(clock):
    asked = []
    limiter = ConcurrencyLimiter(StageChain(iter([])), max_concurrent=1)
    watch = nodes.NodeWatch(limiter, lambda: asked.append(1) or 1, print)
    for _ in range(20):
        watch.on_step_end(0, [])
        clock.now += 1.0
    assert len(asked) == 2


TWO_NODES = """
import sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from search.run import main
from search.tuning.ray import nodes
from search.tuning.ray.resources import Cluster as Machine, sum_up_nodes
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
out = Path(sys.argv[1])
nodes.check_nodes(out / "runs" / "one")
print("usable", [path.name for path in out.iterdir()])
machine = Machine(**sum_up_nodes([{"CPU": 1}, {"CPU": 1}]), dashboard="", local=False)
found = machine.call_each(lambda: ray.get_runtime_context().get_node_id())
print("asked", len(found), all(name.endswith(node[:6]) for name, node in found.items()))
own = nodes.find_versions()
nodes.find_versions = lambda: own | {"ray": "1.0"}
ray.shutdown()
options = ["--budget", "60s", "--data", sys.argv[2], "--out", str(out / "run"), "--address", cluster.address]
print("exit", main(options), [path.name for path in out.iterdir()])
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_run_asks_every_node_before_it_begins_and_has_a_line_for_each_that_is_not_usable(tmp_path, tiny_dataset):
    words = [sys.executable, "-c", TWO_NODES, str(tmp_path), str(tiny_dataset)]
    process = subprocess.run(words, capture_output=True, text=True, timeout=HANG_S)
    assert "usable []\nasked 2 True\n" in process.stdout and process.stdout.endswith("exit 2 []\n"), (
        process.stdout + process.stderr
    )
    lines = process.stderr.splitlines()[-3:]
    assert lines[0] == "error: 2 of 2 nodes cannot train trials; repair or remove them:"
    assert all(f"ray {find_versions()['ray']} instead of 1.0" in line for line in lines[1:])
