import json
import shlex
import sys

from search.records.run_state import describe_process


def test_provenance_names_versions():
    assert describe_process()["versions"]["torch"][0].isdigit()


def test_package_that_is_not_installed_is_not_on_record(monkeypatch):
    monkeypatch.setattr("search.records.run_state._PACKAGES", ("numpy", "no-such-package"))
    assert list(describe_process()["versions"]) == ["numpy"]


def test_command_on_record_can_be_pasted(tmp_path, monkeypatch):
    out = tmp_path / "my runs [1]"
    arguments = ["search/run.py", "--data", str(out), "it's"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert shlex.split(json.loads(json.dumps(describe_process()))["command"])[1:] == arguments
