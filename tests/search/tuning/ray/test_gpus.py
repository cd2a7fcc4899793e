"""Placement of trials on GPUs that Ray is told of, though there are none."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from tests.waiting import HANG_S

EXPERIMENT = """
import dataclasses, json, sys, time
from pathlib import Path
import ray
from ray import cluster_utils, tune
from ray.tune.trainable import wrap_function
from search.config.stages import Stage
from search.config.recipes import build_recipe
from search.tuning.ray import tune as experiment
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.resources import Cluster, sum_up_nodes
from search.tuning.ray.searchers import ListSearcher, StageChain
from search.tuning.ray.trial_spec import StageContext, build_trial_spec

gpus = json.loads(sys.argv[2])  # of each node
nodes = cluster_utils.Cluster()
for count in gpus:
    nodes.add_node(num_cpus=2 * count + 1, num_gpus=count, include_dashboard=False)
ray.init(nodes.address, log_to_driver=False, logging_level="CRITICAL")
found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
machine = Cluster(**sum_up_nodes(found), dashboard="", local=True, trials_per_gpu=2)
assert machine.gpus == 2 and machine.workers == 4, machine
folder = Path(sys.argv[1])

def report_gpu(params):
    spec, began = params["spec"], time.time()
    while len(list(folder.glob(spec.trial_id[0] + "*"))) < params["spec"].context.threads - 1:
        (folder / spec.trial_id).touch()  # waits until all trials of its stage run at the same time
        time.sleep(0.05)
        if time.time() - began > 300: raise TimeoutError
    gpu = f"{ray.get_runtime_context().get_node_id()} {ray.get_gpu_ids()[0]}"
    tune.report({"score": 0.5, "epoch": 1, "last": True, "gpu": gpu, "trial": spec.trial_id})

class Worker(wrap_function(report_gpu)):
    def reset_config(self, new_config): return super().reset_config(new_config)

class Recorder(tune.Callback):
    checkpoints = CheckpointStore(folder / "ray", seed=0)
    def on_trial_complete(self, iteration, trials, trial, **info):
        print(json.dumps([trial.last_result["trial"], str(trial.last_result["gpu"])]), flush=True)
    def on_trial_error(self, iteration, trials, trial, **info):
        print("ERROR", trial)

def stage(name, count):
    settings = Stage(name=name, kind="promote", fraction=1.0, px=80, epochs=1)
    context = StageContext(stage=settings, data=None, deadline=None, limit_s=None, threads=count + 1, device="cuda",
                           devices=machine.count_devices_each(count), reserved=machine.reserve(count))
    return ListSearcher([build_trial_spec(context, i + 1, build_recipe("quick_unet"), seed=0) for i in range(count)])

experiment.Worker = Worker
chain = StageChain(iter([stage("explore", 4), stage("final", 2)]))
experiment.run_experiment(chain, experiment.StageScheduler(1, 4), Recorder(), name="1", workers=4)
ray.shutdown()
nodes.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("nodes", [[2], [1, 1]], ids=["one node", "two nodes"])
def test_search_fills_all_gpus_and_each_of_the_last_trials_has_one_of_its_own(nodes, tmp_path):
    command = [sys.executable, "-c", EXPERIMENT, str(tmp_path), json.dumps(nodes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    gpus = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    assert len(gpus) == 6, done.stdout + done.stderr[-3000:]
    assert sorted(Counter(gpu for trial, gpu in gpus.items() if trial.startswith("e")).values()) == [2, 2]
    assert len({gpu for trial, gpu in gpus.items() if trial.startswith("f")}) == 2
