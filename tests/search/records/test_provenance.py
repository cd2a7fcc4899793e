import json
import shlex
import sys

from search.records.provenance import describe_process


def test_provenance_names_versions():
    assert describe_process()["versions"]["torch"][0].isdigit()


def test_command_on_record_can_be_pasted(tmp_path, monkeypatch):
    out = tmp_path / "my runs [1]"
    arguments = ["search/run.py", "--data", str(out), "it's"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert shlex.split(json.loads(json.dumps(describe_process()))["command"])[1:] == arguments
