import json

import pytest

from search.records.run_dir import RunDirError, append_line, read_lines, write_json


def test_failed_write_leaves_the_old_file_whole(tmp_path):
    write_json(tmp_path / "run.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "run.json", {"a": object()})
    assert json.loads((tmp_path / "run.json").read_text()) == {"a": 1}


def test_line_behind_an_incomplete_one_is_kept(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"b": ')
    append_line(path, {"c": 3})
    assert list(read_lines(path)) == [{"a": 1}, {"c": 3}]
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_line_that_is_not_an_object_is_refused(tmp_path):
    (tmp_path / "lines.jsonl").write_text("[1]\n")
    with pytest.raises(RunDirError, match="not a JSON object"):
        list(read_lines(tmp_path / "lines.jsonl"))
