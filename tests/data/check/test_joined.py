"""Test the check and the fixed copy of joined folders: each by its own fields, and faults between folders."""

import csv
import json
import shutil

import pytest

from data.check.__main__ import main
from data.check.check import check_folder
from data.dataset import DataError
from data.reading.layout import read_dataset


@pytest.fixture
def join(tmp_path, add, write_manifest):
    """Write two folders of ten with named backgrounds, one bright and one dark where near, and one that joins them."""
    for name, first, near in (("one", 1, 1), ("two", 21, -1)):
        root = tmp_path / name
        for number in range(first, first + 10):
            add(root, number, stem=f"{number}", near=near)
        rename(root, write_manifest)
    root = tmp_path / "join"
    root.mkdir()
    (root / "dataset.json").write_text(json.dumps({"folders": ["../one", "../two"]}))
    return root


def rename(root, write_manifest, **more):
    names = sorted((path.name for path in (root / "images").iterdir()), key=lambda name: int(name[:-4]))
    rows = [{"image": n, "mask": n, "depth": n, "background": f"bg{i}"} | more for i, n in enumerate(names)]
    write_manifest(root, rows)


def again(join, number, of, add):
    """Draw a triplet of the second folder again, on the ground of one of the first."""
    add(join.parent / "two", number, stem=f"{number}", near=-1, ground=of)


def test_each_folder_is_checked_by_itself(join, capsys):
    (join.parent / "two" / "masks" / "25.png").write_bytes(b"x")
    report = check_folder(join)
    assert [fault.kind for fault in report.faults] == []
    assert [part.certain["near"] for part in report.parts] == ["bright", "dark"]
    assert [list(part.faulty) for part in report.parts] == [[], ["25"]]
    assert main([str(join), "--write", "--json", str(join.parent / "report.json")]) == 1
    out = capsys.readouterr().out
    assert f"{join.parent / 'two'}: 10 triplets, 1 with faults" in out
    assert f"{join}: 20 triplets, 0 with faults between the 2 folders that it joins" in out
    content = json.loads((join.parent / "report.json").read_text())
    assert [folder["faulty"] for folder in content["folders"]] == [0, 1] and content["triplets"] == 20
    assert json.loads((join.parent / "two" / "dataset.json").read_text())["near"] == "dark"
    assert json.loads((join / "dataset.json").read_text()) == {"folders": ["../one", "../two"]}


def test_clean_joined_folders_have_no_faults(join):
    assert main([str(join)]) == 0


def test_an_image_of_another_folder_is_a_duplicate(join):
    shutil.copy(join.parent / "one" / "images" / "3.png", join.parent / "two" / "images" / "24.png")
    report = check_folder(join)
    assert [(fault.kind, fault.detail) for fault in report.faults if fault.kind == "duplicate"] == [
        ("duplicate", "equals one/3")
    ]
    assert report.faulty.keys() == {"two/24"}


def test_a_background_of_another_folder_would_leak(join, add, write_manifest):
    again(join, 23, 6, add)
    faults = check_folder(join).faults
    assert [(fault.kind, fault.file, fault.detail) for fault in faults] == [
        ("shared background", str(join.parent / "two" / "images" / "23.png"), "two/bg2 looks like one/bg5")
    ]
    for name in ("one", "two"):
        rename(join.parent / name, write_manifest, split="train")
    assert check_folder(join).faults == (), "assigned to one part"
    rename(join.parent / "two", write_manifest, split="val")
    assert [fault.kind for fault in check_folder(join).faults] == ["shared background"]


def test_many_backgrounds_of_one_folder_leave_room_to_compare_the_next(join, add, monkeypatch):
    again(join, 23, 2, add)
    monkeypatch.setattr("data.check.duplicates.MAX_HASHES", 8)  # four of each folder
    assert "two/bg2 looks like one/bg1" in [fault.detail for fault in check_folder(join).faults]


def test_the_copy_joins_the_copies(join, add, tmp_path, capsys):
    again(join, 23, 6, add)
    (join.parent / "one" / "depth" / "2.png").write_bytes(b"x")
    out = tmp_path / "out"
    assert main([str(join), "--fix", str(out)]) == 1
    assert f"{out / 'one'}: 9 triplets" in capsys.readouterr().out
    assert json.loads((out / "dataset.json").read_text()) == {"folders": ["one", "two"]}
    dataset = read_dataset(out)
    assert [part.spec.near for part in dataset.folders] == ["bright", "dark"]
    assert {"one/2", "two/23"}.isdisjoint(triplet.id for triplet in dataset.triplets) and len(dataset.triplets) == 18
    with (out / "two" / "quarantine.csv").open() as file:
        assert [row["kind"] for row in csv.DictReader(file)] == ["shared background"]
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "one", "two"]
    whole = check_folder(out)
    assert not whole.faults and not any(part.faulty for part in whole.parts)


def test_folders_of_one_name_have_copies_of_their_own(join, tmp_path):
    (tmp_path / "other").mkdir()
    (join.parent / "two").rename(tmp_path / "other" / "one")
    shutil.copytree(join.parent / "one", tmp_path / "1_one")  # as a copy may be called
    (join / "dataset.json").write_text(json.dumps({"folders": ["../one", "../other/one", "../1_one"]}))
    assert main([str(join), "--fix", str(tmp_path / "out")]) == 1
    assert len(read_dataset(tmp_path / "out").triplets) == 20


def test_a_folder_without_sound_triplets_is_not_joined(join, tmp_path):
    for path in (join.parent / "two" / "images").iterdir():
        path.write_bytes(b"x")
    assert main([str(join), "--fix", str(tmp_path / "out")]) == 1
    assert len(read_dataset(tmp_path / "out").triplets) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--near", "dark"], "join: joins other folders; give --near for each of them"),
        (["--fix", "one/out"], "lies within"),
        (["--fix", "one"], "in use"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(join, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(join.parent)
    before = sorted(join.parent.rglob("*"))
    assert main(["join", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert sorted(join.parent.rglob("*")) == before


def test_a_missing_folder_is_reported_before_the_work(join):
    (join / "dataset.json").write_text(json.dumps({"folders": ["../one", "../nowhere"]}))
    calls = []
    with pytest.raises(DataError, match="nowhere: no such folder"):
        check_folder(join, progress=lambda *state: calls.append(state))
    assert calls == []


def test_progress_goes_on_over_the_folders(join):
    calls = []
    check_folder(join, progress=lambda *state: calls.append(state))
    assert calls == [(done, 20) for done in range(1, 21)]
