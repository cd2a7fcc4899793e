"""Test polarity by triplet, in folders whose triplets come from several makers."""

import csv
import json
from pathlib import Path

import pytest

from data.check.__main__ import main
from data.check.check import check_folder
from data.dataset import Triplet
from data.reading.layout import read_dataset
from data.values.alignment import DepthStep
from data.values.infer_depth import Votes, measure_polarity


@pytest.fixture
def makers(tmp_path, add):
    """Write twelve triplets of a near-bright maker and six of a near-dark one; one of each has no step."""
    root = tmp_path / "set"
    for number in range(1, 13):
        add(root, number, stem=f"ann_{number:02d}", near=int(number != 5))
    for number in range(1, 7):
        add(root, 100 + number, stem=f"bob_{number}", near=-int(number != 2))
    return root


def read_near(root):
    return {triplet.id: triplet.near for triplet in read_dataset(root).triplets}


def rows_of(root, **cells):
    names = sorted(path.name for path in (root / "images").iterdir())
    return [{"image": n, "mask": n, "depth": n} | {key: of(n) for key, of in cells.items()} for n in names]


def test_makers_are_separated_by_name_and_foreground(makers, capsys):
    assert main([str(makers), "--write"]) == 1
    out = capsys.readouterr().out
    assert "ann_*: bright, certain (11 brighter, 0 darker, 1 neither)" in out
    assert "bob_*: dark, likely (0 brighter, 5 darker, 1 neither)" in out
    assert f"check {makers} --fix OUT" in out and "--near" not in out
    assert json.loads((makers / "dataset.json").read_text()) == {"depth_unit": "relative"}


def test_the_copy_has_near_in_every_line(makers, tmp_path):
    assert main([str(makers), "--fix", str(tmp_path / "out")]) == 1
    near = read_near(tmp_path / "out")
    assert near == {name: "bright" if name < "b" else "dark" for name in near} and len(near) == 16
    again = check_folder(tmp_path / "out")
    assert again.mixed is None and not again.faulty and "near" not in {field.key for field in again.inferred}


def test_triplets_of_unknown_polarity_are_left_out_with_the_reason(makers, tmp_path, add, write_manifest, capsys):
    add(makers, 200, stem="carl", near=1)
    rows = rows_of(makers, mask=lambda name: "" if name == "carl.png" else name)
    write_manifest(makers, [row for row in rows if row["image"] not in ("ann_05.png", "bob_2.png")])
    main([str(makers), "--fix", str(tmp_path / "out"), "--json", str(tmp_path / "report.json")])
    assert "unknown for 1, which --fix leaves out" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["near"]["carl"] is None
    with (tmp_path / "out" / "quarantine.csv").open() as file:
        assert [(row["id"], row["kind"]) for row in csv.DictReader(file)] == [("carl", "polarity")]
    assert "carl" not in read_near(tmp_path / "out")


def test_configured_polarity_is_respected_and_not_inferred(makers, write_manifest):
    write_manifest(makers, rows_of(makers, near=lambda name: "" if name < "b" else "dark"))
    report = check_folder(makers)
    assert report.mixed is None
    assert {field.key: field.value for field in report.inferred if field.certain}["near"] == "bright"
    assert report.faulty.keys() == {"ann_05", "bob_2"}
    write_manifest(makers, rows_of(makers, near=lambda name: "bright"))  # wrong for the second maker
    assert {name for name in check_folder(makers).faulty if name.startswith("bob")} == {f"bob_{n}" for n in range(1, 7)}


def test_the_copy_keeps_configured_fields_and_adds_certain_ones(tmp_path, add):
    for number in range(1, 13):
        add(tmp_path / "set", number, near=-1)
    (tmp_path / "set" / "dataset.json").write_text(json.dumps({"group_size": 3}))
    assert main([str(tmp_path / "set"), "--fix", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert content == {"group_size": 3, "depth_unit": "relative", "near": "dark"}


def test_configured_polarity_of_a_folder_is_not_doubted(makers):
    (makers / "dataset.json").write_text(json.dumps({"near": "bright"}))
    report = check_folder(makers)
    assert report.mixed is None and len([name for name in report.faulty if name.startswith("bob")]) == 6


def triplet(name):
    image = Path(f"images/{name}.png")
    return Triplet(id=name, image=image, mask=image, depth=image, background="unknown", foreground="")


def measure(steps):
    """Measure the polarity of triplets given by name and the sign of a clear step, or 0."""
    return measure_polarity(
        [triplet(name) for name in steps], [DepthStep(s * 0.1, s * 4.0, 3.0) for s in steps.values()]
    )


def test_names_without_a_pattern_decide_nothing():
    found = measure({"a1": 1, "a2": 1, "a3": 0, "b1": 1, "b2": -1, "b3": -1, "b4": 0, "b5": -1})
    assert found.mixed
    assert found.near["a3"] is None, "another series has both, so two that agree may do so by chance"
    assert [found.near[f"b{n}"] for n in (1, 2, 3, 4)] == ["bright", "dark", "dark", None]
    assert found.unclear == ["a3", "b4"]


def test_a_small_maker_among_many_triplets_is_seen():
    many = {f"a{n}": 1 for n in range(200)}
    assert not measure(many | {f"b{n}": -1 for n in range(7)}).mixed, "too few for a mixed folder"
    found = measure(many | {f"b{n}": -1 for n in range(8)})
    assert found.mixed and found.near["b0"] == found.certain["b0"] == "dark"


def test_few_wrong_votes_do_not_make_a_folder_mixed():
    found = measure({f"a{n}": 1 if n else -1 for n in range(20)})
    assert not found.mixed and found.votes.decide(8) == "bright"


def test_votes_agree_by_number_and_share():
    assert Votes(7, 0, 9).decide(8) is None
    assert Votes(0, 8, 0).decide(8) == "dark"
    assert Votes(8, 1, 0).decide(8) is None
    assert Votes(9, 1, 0).decide(8) == "bright"
    assert Votes(0, 0, 3).decide(0) is None


def test_real_triplets_of_three_makers_have_their_polarity(shared_data):
    with (shared_data / "triplets" / "meta.csv").open() as file:
        truth = {row["name"]: row["near_is"] for row in csv.DictReader(file)}
    report = check_folder(shared_data / "triplets")
    assert report.mixed.near == truth
