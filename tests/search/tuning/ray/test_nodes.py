"""What the nodes of a cluster are asked before a run begins."""

import subprocess
import sys

import pytest

from search.tuning.ray.nodes import find_faults, find_versions
from tests.waiting import HANG_S


def test_node_that_has_all_has_no_faults(tmp_path):
    mark = tmp_path / "mark"
    mark.touch()
    assert find_faults(find_versions(), {"the cache": mark}) == []


def test_what_a_node_lacks_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    marks = {"the cache": tmp_path / "open" / "mark", "the run folder's place": tmp_path / "closed" / "mark"}
    marks["the run folder's place"].touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    versions = {**find_versions(), "torch": "1.0", "jax": "0.9"}
    assert find_faults(versions, marks) == [
        f"torch {find_versions()['torch']} instead of 1.0",
        "jax is not installed instead of 0.9",
        f"does not see the cache {tmp_path / 'open'}",
        f"must not write to the run folder's place {tmp_path / 'closed'}",
    ]


TWO_NODES = """
import sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from search.run import main
from search.tuning.ray import nodes
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
out = Path(sys.argv[1])
nodes.check_nodes(out / "runs" / "one")
print("usable", [path.name for path in out.iterdir()])
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
    assert "usable []" in process.stdout and process.stdout.endswith("exit 2 []\n"), process.stdout + process.stderr
    lines = process.stderr.splitlines()[-3:]
    assert lines[0] == "error: 2 of 2 nodes cannot train trials; mend or remove them:"
    assert all(f"ray {find_versions()['ray']} instead of 1.0" in line for line in lines[1:])
