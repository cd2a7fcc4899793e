"""Test that no two files of a fixed copy become one."""

import unicodedata

import cv2
import pytest

from data.check.__main__ import main
from data.check.fix import MAX_LINES, Source, choose_names
from data.reading.layout import read_dataset


def choose(tmp_path, *names, triplet=""):
    sources = [Source(tmp_path / name, triplet) for name in names]
    chosen = choose_names(tmp_path, sources)
    return [str(chosen.chosen[source]) for source in sources], chosen.describe_renamed()


@pytest.mark.parametrize(
    ("first", "second", "renamed"),
    [
        ("images/a.png", "images/A.png", "images/A_2.png"),
        ("images/é.png", "images/" + unicodedata.normalize("NFD", "é") + ".png", "images/e\u0301_2.png"),
        ("images/straße.png", "Images/STRASSE.PNG", "Images/STRASSE_2.PNG"),
        ("images/a.png", "../images/a.png", "images/a_2.png"),
    ],
)
def test_names_that_some_file_system_does_not_distinguish(tmp_path, first, second, renamed):
    names, lines = choose(tmp_path, first, second)
    assert names == [first, renamed]
    assert str(tmp_path / first) in lines and str(tmp_path / second) in lines and len(lines.splitlines()) == 2


def test_other_names_are_kept_and_a_file_of_two_triplets_is_copied_once(tmp_path):
    names = ["images/a.jpg", "images/a.png", "masks/a.png", "images/a_2.png"]
    assert choose(tmp_path, *names, *names) == (names * 2, "")


def test_rewritten_files_make_room_for_each_other_and_for_those_that_are_copied(tmp_path):
    names, _ = choose(tmp_path, "x.jpg", "x.bmp", "X.tif", triplet="x")
    assert names == ["x", "x_2", "X_3"]
    rewritten, copied = Source(tmp_path / "x.jpg", "x"), Source(tmp_path / "x.png")
    chosen = choose_names(tmp_path, [rewritten, copied])
    assert [str(chosen.chosen[source]) for source in (copied, rewritten)] == ["x.png", "x_2"]
    assert chosen.renamed == {rewritten: copied}


def test_many_renamed_files_are_counted(tmp_path):
    names, lines = choose(tmp_path, *(f"{folder}/a.png" for folder in ["a", *["../" * n + "a" for n in range(1, 31)]]))
    assert len({name.casefold() for name in names}) == 31
    assert len(lines.splitlines()) == MAX_LINES + 2 and "20 more" in lines


def test_a_copy_has_a_file_for_each_that_is_copied_or_fixed(tmp_path, add, pictures, write_manifest, capsys):
    root, out = tmp_path / "set", tmp_path / "out"
    for number in range(1, 13):
        add(root, number)
    for number, px in ((1, 80), (4, 96)):  # other sizes than that of the mask that they share
        cv2.imwrite(str(root / f"images/fgbg{number:06d}.png"), cv2.resize(pictures(number)[0], (px, px)))
    (root / "images/fgbg000003.png").rename(root / "images/FGBG000002.png")
    names = [{"image": f"fgbg{n:06d}.png", "mask": f"mask{n:06d}.png", "depth": f"fgbg{n:06d}.png"} for n in range(13)]
    names[3]["image"], names[4]["mask"] = "FGBG000002.png", names[1]["mask"]
    write_manifest(root, names[1:])
    assert main([str(root), "--fix", str(out)]) == 1
    said, copies = capsys.readouterr().out, read_dataset(out).triplets
    assert f"{root}/images/fgbg000002.png is images/fgbg000002_2.png in the copy: {root}/images/FGBG000002.png" in said
    assert len({str(triplet.image).casefold() for triplet in copies}) == len(copies) == 12
    assert {cv2.imread(str(triplet.mask)).shape[0] for triplet in copies} == {64, 80, 96}
