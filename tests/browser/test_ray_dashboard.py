"""The Ray dashboard and the metrics of a running run."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from search.records.prometheus import GAUGES
from tests.browser.screenshots import log_in, ray_token
from tests.waiting import HANG_S, wait_for_report

pytestmark = [pytest.mark.browser, pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def live(tiny_dataset, tmp_path_factory):
    """Folder and output of a running run whose first trial has reported; ended by Ctrl-C."""
    folder = tmp_path_factory.mktemp("live")
    out, output = folder / "out", folder / "output"
    command = ["nice", "-n", "15", sys.executable, str(ROOT / "search" / "run.py"), "--budget", "10m"]
    with output.open("w") as log:
        process = subprocess.Popen(
            [*command, "--data", str(tiny_dataset), "--out", str(out)], stdout=log, stderr=log, env=os.environ
        )
    wait_for_report(out, process)
    yield out, output.read_text()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=HANG_S) == 130, output.read_text()


@pytest.fixture(scope="module")
def address(live):
    """Address of the Ray dashboard that the run prints."""
    return re.search(r"http://127\.0\.0\.1:\d+", live[1])[0]


def test_run_prints_the_three_commands(live):
    out, output = live
    assert f"tensorboard --logdir {out}/tensorboard" in output
    assert f"optuna-dashboard {out}/study.journal --artifact-dir {out}/artifacts" in output
    assert "ray get-auth-token" in output


def test_workers_bear_the_name_of_their_trial_and_its_architecture(live, address, page):
    log_in(page, f"{address}/#/cluster", ray_token())
    page.get_by_text(re.compile(r"^ray::e\d{4}_\w+$")).first.wait_for()
    shown = set(re.findall(r"ray::(e\d{4}_\w+)", page.locator("body").inner_text()))
    started = {line["trial_id"]: line["config"] for line in lines(live[0] / "trials.jsonl") if "config" in line}
    assert shown and shown <= {f"{trial_id}_{config['model/arch']}" for trial_id, config in started.items()}


def read(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return answer.read().decode()


def read_gauges(address, token):
    """Return the samples of the run by name; none as long as Ray's server of metrics is not known or not up."""
    try:
        found = json.loads(read(f"{address}/api/prometheus/sd", Authorization=f"Bearer {token}"))
        text = "\n".join(read(f"http://{target}/metrics") for group in found[:1] for target in group["targets"])
    except OSError:
        return {}
    samples = re.findall(r'^ray_(one_look_\w+)\{.*run="out".*\} (\S+)$', text, re.MULTILINE)
    return {name: [float(value) for other, value in samples if other == name] for name, _ in samples}


def test_metrics_of_the_run_are_those_of_its_records(live, address):
    token, until = ray_token(), time.monotonic() + HANG_S
    while (found := read_gauges(address, token)).keys() != GAUGES.keys():
        assert time.monotonic() < until, found
        time.sleep(0.5)
    scores = [line["score"] for line in lines(live[0] / "reports.jsonl")]
    assert any(found["one_look_best_score"][0] == pytest.approx(score) for score in scores)
    assert 0 < found["one_look_budget_spent"][0] < 1
    assert 0 < sum(found["one_look_trials"]) <= len({line["trial_id"] for line in lines(live[0] / "trials.jsonl")})
