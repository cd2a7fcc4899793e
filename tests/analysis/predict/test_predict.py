import json
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from analysis import load_model
from analysis.predict.__main__ import main
from analysis.predict.photos import find_photos
from analysis.predict.predictor import map_ahead


@pytest.fixture
def photos(tmp_path):
    """Three photos, one of them in a folder of its own and one portrait, and a file that is not an image."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in {"a.png": (48, 70), "b.jpg": (33, 21), "more/a.png": (40, 40)}.items():
        coarse = rng.integers(0, 256, (5, 5, 3), np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))
    return folder


def call(*arguments):
    return main([*map(str, arguments), "--device", "cpu"])


def read(path):
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, path
    return picture


def test_each_photo_gets_five_images_of_its_size_and_a_place_on_the_sheet(finished_run, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert call(finished_run, photos, "--out", out) == 0
    endings = ("mask.png", "depth.png", "depth_colour.jpg", "overlay.jpg", "cutout.png")
    names = {f"{name}_{ending}" for name in ("a", "b", "more/a") for ending in endings}
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.*")} == names | {"contact_sheet.jpg"}
    for name, size in {"a": (70, 48), "b": (21, 33), "more/a": (40, 40)}.items():
        assert {read(out / f"{name}_{ending}").shape[:2] for ending in endings} == {size}
    said = capsys.readouterr()
    assert said.err == "" and said.out.startswith(f"3 photos in {out} (")
    assert said.out.splitlines()[1:] == [load_model(finished_run).origin] and "one-look evaluate" in said.out


def test_help_has_a_line_for_each_file(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    files = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  NAME_")]
    endings = ("mask.png", "depth.png", "depth_colour.jpg", "overlay.jpg", "cutout.png", "depth_mm.png")
    assert files == [f"NAME_{ending}" for ending in endings]


def test_files_hold_what_the_model_predicts(finished_run, photos, tmp_path):
    call(finished_run, photos, "--out", tmp_path / "out")
    photo = read(photos / "a.png")
    mask, depth = load_model(finished_run, device="cpu").predict(np.ascontiguousarray(photo[..., ::-1]))
    kept_mask, kept_depth = read(tmp_path / "out" / "a_mask.png"), read(tmp_path / "out" / "a_depth.png")
    assert kept_mask.dtype == np.uint8 and np.abs(kept_mask / 255 - mask).max() < 0.51 / 255
    assert kept_depth.dtype == np.uint16 and np.abs(kept_depth / 65535 - depth).max() < 1e-4
    cutout = read(tmp_path / "out" / "a_cutout.png")
    assert (cutout[..., :3] == photo).all() and (cutout[..., 3] == kept_mask).all()


def test_distances_are_written_in_millimetres_where_the_data_had_a_scale(finished_run, photos, tmp_path, capsys):
    model = shutil.copytree(finished_run / "best", tmp_path / "model")
    about = json.loads((model / "config.json").read_text())
    for scale in ({"near_m": 0.5, "far_m": 8.0}, {"near_m": 30.0, "far_m": None}):
        (model / "config.json").write_text(json.dumps(about | {"depth_scale": scale}))
        assert call(model, photos / "a.png", "--out", tmp_path / "out", "--metres") == 0
        depth = load_model(model, device="cpu").predict(np.ascontiguousarray(read(photos / "a.png")[..., ::-1]))[1]
        far = 1 / scale["far_m"] if scale["far_m"] else 0
        expected = np.minimum(1000 / (depth * (1 / scale["near_m"] - far) + far), 65535)
        assert read(tmp_path / "out" / "a_depth_mm.png") == pytest.approx(expected, rel=1e-3, abs=1)
    (model / "config.json").write_text(json.dumps(about | {"depth_scale": None}))
    capsys.readouterr()
    assert call(model, photos, "--out", tmp_path / "none", "--metres") == 2
    assert "its depth is relative" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_file_whose_name_is_too_long_is_named_and_the_others_are_predicted(finished_run, photos, tmp_path, capsys):
    (photos / ("n" * 245 + ".png")).write_bytes((photos / "a.png").read_bytes())
    assert call(finished_run, photos, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "its name is too long" in said.err and "3 photos" in said.out and "1 file skipped" in said.out


def test_broken_file_is_named_and_the_others_are_predicted(finished_run, photos, tmp_path, capsys):
    (photos / "broken.jpg").write_bytes(b"no picture")
    assert call(finished_run, photos, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"skipped {photos / 'broken.jpg'}: not a whole image") and said.err.count("\n") == 1
    (photos / "broken.jpg").rename(photos / "a\x1b[2J.jpg")
    assert call(finished_run, photos, "--out", tmp_path / "again") == 0
    assert capsys.readouterr().err.startswith(f"skipped {photos}/a\\x1b[2J.jpg: not a whole image")
    assert "3 photos" in said.out and "1 file skipped" in said.out


def test_exit_code_is_1_where_nothing_could_be_predicted(finished_run, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("no picture")
    assert call(finished_run, tmp_path / "text.txt", "--out", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "skipped" in said.err and said.out == "no photo could be predicted: 1 file skipped\n"


def test_files_of_an_earlier_call_are_replaced(finished_run, photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a_mask.png").write_bytes(b"old")
    (out / "own.txt").write_text("stays")
    assert call(finished_run, photos, "--out", out) == 0
    assert read(out / "a_mask.png").shape == (70, 48) and (out / "own.txt").exists()
    assert not list(out.rglob("*.partial"))


def test_sheets_are_numbered_where_one_is_not_enough(finished_run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.predict.predictor.SHEET_ROWS", 2)
    assert call(finished_run, photos, "--out", tmp_path / "out") == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("contact*")) == ["contact_sheet.jpg", "contact_sheet_2.jpg"]


def test_large_photos_make_small_batches(finished_run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.predict.model.BATCH_PIXELS", 1)
    assert call(finished_run, photos, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").rglob("*_mask.png"))) == 3


def test_wrong_arguments_are_one_line_and_exit_code_2(finished_run, photos, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "going_on").mkdir()
    (tmp_path / "going_on" / "run.json").write_text('{"state": "running"}')
    calls = {
        "no such photo": (finished_run, tmp_path / "none.jpg"),
        "contains no images": (finished_run, tmp_path / "empty"),
        "no such file or folder": (tmp_path / "none", photos),
        "no model": (tmp_path / "going_on", photos),
        "is a file": (finished_run, photos, "--out", tmp_path / "file"),
        "lies in the output folder": (finished_run, photos, "--out", photos),
        "cannot be written": (finished_run, photos, "--out", tmp_path / "file" / "below"),
    }
    for reason, arguments in calls.items():
        place = [] if "--out" in arguments else ["--out", tmp_path / "out"]
        assert call(*arguments, *place) == 2, reason
        said = capsys.readouterr()
        assert said.err.startswith("error: ") and reason in said.err and said.err.count("\n") == 1 and not said.out


def test_few_photos_are_held_at_once_however_many_there_are(finished_run, tmp_path, monkeypatch):
    from analysis.predict.predictor import PhotoPredictor, read_photo

    alive, most = [], []

    def read_and_count(path):
        photo = read_photo(path)
        alive[:] = [ref for ref in alive if ref() is not None] + [weakref.ref(photo)]
        most.append(len(alive))
        return photo

    monkeypatch.setattr("analysis.predict.predictor.read_photo", read_and_count)
    monkeypatch.setattr("analysis.predict.model.BATCH", 4)
    monkeypatch.setattr("analysis.predict.predictor.count_cores", lambda: 2)
    (tmp_path / "many").mkdir()
    for number in range(100):
        cv2.imwrite(str(tmp_path / "many" / f"{number}.png"), np.full((8, 8, 3), number, np.uint8))
    predictor = PhotoPredictor(load_model(finished_run, device="cpu"), tmp_path / "out")
    predictor.write(find_photos([tmp_path / "many"], tmp_path / "out"))
    assert predictor.done == len(most) == 100 and max(most) <= 2 * 4 + 2 * 3
    assert len(list((tmp_path / "out").glob("contact_sheet*"))) == 3


def test_work_ahead_is_bounded_and_in_order():
    taken = []
    lock = threading.Lock()

    def items():
        for number in range(20):
            with lock:
                taken.append(number)
            yield number

    with ThreadPoolExecutor(3) as pool:
        for number, double in enumerate(map_ahead(pool, lambda x: 2 * x, items(), most=4)):
            assert double == 2 * number and len(taken) <= number + 4
