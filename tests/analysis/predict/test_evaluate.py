import dataclasses
import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from analysis.predict.evaluate import BASELINE, align_depth, evaluate, main, measure_prediction, summarise_metrics
from analysis.predict.model import load_model
from data.data_module import DataModule
from data.dataset import DataError
from data.reading.layout import read_dataset
from data.values.triplet import read_triplet
from models.score import Score
from search.config.trial import TrialConfig

SIDE = 40

SCORE = Score(sigma=0.25)


def write_folder(folder, count=3, *, masks=True, depth=True, near="bright"):
    """Write images of a light square on a dark background, with masks and depth, which does not show the square."""
    rng = np.random.default_rng(0)
    for number in range(count):
        image = rng.integers(0, 90, (SIDE, SIDE + 8, 3), dtype=np.uint8)
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[10 : 20 + number, 8:24] = 255
        image[mask > 0] = 230
        planes = {"images": image, "masks": mask, "depth": np.repeat(np.arange(SIDE)[:, None] * 6, SIDE + 8, axis=1)}
        for name in ("images", *["masks"] * masks, *["depth"] * depth):
            (folder / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name / f"{number:03d}.png"), planes[name].astype(np.uint8))
    (folder / "dataset.json").write_text(json.dumps({"near": near} if near else {}))
    return folder


def truth_of(folder, number=0):
    dataset = read_dataset(folder)
    return read_triplet(dataset.triplets[number], dataset.spec)


def test_scale_and_shift_are_taken_out():
    rng = np.random.default_rng(1)
    truth, known = rng.random((8, 9), dtype=np.float32), rng.random((8, 9)) < 0.7
    assert align_depth(0.2 + 0.3 * truth, truth, known) == pytest.approx(truth, abs=1e-5)
    seen = np.where(known, 0.2 + 0.3 * truth, np.float32(9))  # what is not known has no say
    assert align_depth(seen, truth, known)[known] == pytest.approx(truth[known], abs=1e-5)


def test_far_taken_for_near_is_no_better_than_the_mean():
    truth = np.linspace(0, 1, 50, dtype=np.float32).reshape(5, 10)
    everywhere = np.ones(truth.shape, bool)
    assert align_depth(1 - truth, truth, everywhere) == pytest.approx(np.full(truth.shape, truth.mean()), abs=1e-6)


def test_correct_prediction_has_the_best_metrics(tmp_path):
    truth = truth_of(write_folder(tmp_path / "data"))
    found = measure_prediction(truth.mask, 0.5 * truth.depth, truth, SCORE)
    assert found["iou"] == found["boundary_f"] == found["delta1"] == 1
    own = Score(sigma=0.5, weights={"boundary_f": 0.75, "rmse_depth": 0.25})
    assert measure_prediction(truth.mask, 0.5 * truth.depth, truth, own)["score"] == pytest.approx(1, abs=1e-3)
    assert found["explained_depth"] == pytest.approx(1, abs=1e-4) and found["rmse_depth"] < 1e-3
    nothing = measure_prediction(np.zeros_like(truth.depth), np.zeros_like(truth.depth), truth, SCORE)
    assert nothing["iou"] == 0 and nothing["explained_depth"] == pytest.approx(0, abs=1e-5)


def test_masks_alone_have_no_depth_metrics(tmp_path):
    truth = truth_of(write_folder(tmp_path / "data", depth=False))
    ones = np.ones(truth.depth_known.shape, np.float32)
    found = measure_prediction(ones, ones, truth, SCORE)
    assert found.keys() == {"score", "iou", "dice", "boundary_f", "mae_mask"} and found["score"] == found["iou"]


def test_ignored_pixels_of_the_mask_are_not_measured(tmp_path):
    folder = write_folder(tmp_path / "data", 1, depth=False)
    mask = cv2.imread(str(folder / "masks" / "000.png"), cv2.IMREAD_UNCHANGED)
    mask[:10] = 128
    cv2.imwrite(str(folder / "masks" / "000.png"), mask)
    values = {"mask_values": {"foreground": [255], "ignored": [128]}}
    (folder / "dataset.json").write_text(json.dumps(values))
    truth = truth_of(folder)
    predicted = truth.mask.copy()
    predicted[:10] = 1
    perfect = {"score": 1, "iou": 1, "dice": 1, "boundary_f": 1, "mae_mask": 0}
    assert measure_prediction(predicted, predicted, truth, SCORE) == perfect


def test_empty_mask_that_is_predicted_empty_is_no_success(tmp_path):
    folder = write_folder(tmp_path / "data", 1, depth=False)
    truth = truth_of(folder)
    empty = np.zeros_like(truth.mask)
    assert measure_prediction(empty, empty, dataclasses.replace(truth, mask=empty), SCORE) == {"mae_mask": 0}


def test_every_image_is_measured_beside_the_baseline(tmp_path, finished_run):
    dataset = read_dataset(write_folder(tmp_path / "data", 18))
    calls = []
    table = evaluate(load_model(finished_run, device="cpu"), dataset, progress=lambda *state: calls.append(state))
    assert len(table) == 36 and set(table["by"]) == {"model", BASELINE} and calls[-1] == (18, 18)
    guess = table[table["by"] == BASELINE]
    assert guess["explained_depth"].to_numpy() == pytest.approx(1, abs=1e-3)  # depth is the ramp here
    assert guess["iou"].iloc[0] == pytest.approx(160 / (SIDE * (SIDE + 8)))
    summary = summarise_metrics(table)
    low, mean, high = (summary.loc["model", ("iou", part)] for part in ("low", "mean", "high"))
    assert low <= mean <= high and mean == pytest.approx(table.loc[table["by"] == "model", "iou"].mean())


def test_command_line_writes_a_table_and_leaves_out_broken_images(tmp_path, finished_run, capsys):
    folder = write_folder(tmp_path / "data")
    (folder / "masks" / "001.png").write_bytes(b"")
    assert main([str(finished_run), str(folder), "--table", str(tmp_path / "t.csv"), "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert "2 images" in out and BASELINE in out and "001.png" in err
    table = pd.read_csv(tmp_path / "t.csv")
    assert len(table) == 4 and table["folder"].unique().tolist() == [str(folder)]


def test_folder_that_the_model_was_trained_on_is_noted(tmp_path, finished_run, capsys):
    run, folders = shutil.copytree(finished_run, tmp_path / "run"), [write_folder(tmp_path / name) for name in "ab"]
    (folders[1] / "masks" / "000.png").unlink()
    about = json.loads((run / "best" / "config.json").read_text())
    about["trained_on"] = {"fingerprints": [read_dataset(folders[0]).fingerprint], "data": "a", "train_images": 3}
    (run / "best" / "config.json").write_text(json.dumps(about))
    assert main([str(run), *map(str, folders), "--device", "cpu"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "note:" in line] == [
        "  note: the model was trained on images of this folder, so these metrics are too optimistic"
    ]


def test_polarity_can_be_set(tmp_path, finished_run, capsys):
    folder = write_folder(tmp_path / "data", near=None)
    metrics = []
    for near in ("bright", "dark"):
        assert main([str(finished_run), str(folder), "--near", near, "--table", str(tmp_path / "t.csv")]) == 0
        table = pd.read_csv(tmp_path / "t.csv")
        metrics.append(table.loc[table["by"] == BASELINE, "explained_depth"].mean())
    assert metrics[0] == pytest.approx(1, abs=1e-3) and metrics[1] == pytest.approx(0, abs=1e-3)


def test_polarity_of_an_image_is_its_own_and_otherwise_that_of_the_command_line(tmp_path, finished_run, capsys):
    folder = write_folder(tmp_path / "data")
    lines = [f"{n:03d}.png,{n:03d}.png,{near}" for n, near in enumerate(("bright", "dark", ""))]
    (folder / "manifest.csv").write_text("\n".join(["image,depth,near", *lines]))
    for more, expected in (((), [1, 0, 1]), (("--near", "dark"), [1, 0, 0])):
        (folder / "dataset.json").write_text("{}" if more else '{"near": "bright"}')
        assert main([str(finished_run), str(folder), *more, "--table", str(tmp_path / "t.csv")]) == 0
        table = pd.read_csv(tmp_path / "t.csv")
        assert table.loc[table["by"] == BASELINE, "explained_depth"].round(3).to_list() == expected


def test_joined_folders_keep_their_settings(tmp_path, finished_run):
    for name, near in (("bright", "bright"), ("dark", "dark")):
        write_folder(tmp_path / name)
        (tmp_path / name / "dataset.json").write_text(json.dumps({"near": near, "group_size": 1}))
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "dataset.json").write_text(json.dumps({"folders": ["../bright", "../dark"]}))
    table = evaluate(load_model(finished_run, device="cpu"), read_dataset(tmp_path / "both"))
    explained = table.loc[table["by"] == BASELINE, "explained_depth"].round(3).to_list()
    assert explained == [1, 1, 1, 0, 0, 0]


def test_model_predicts_at_its_own_size_and_is_measured_at_the_images_size(tmp_path, finished_run):
    config = json.loads((finished_run / "best" / "config.json").read_text())
    assert config["px"] != SIDE and TrialConfig.from_dict(config["config"])
    table = evaluate(load_model(finished_run, device="cpu"), read_dataset(write_folder(tmp_path / "data")))
    assert table.loc[table["by"] == "model", "iou"].between(0, 1).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing", "{data}"), "no such file or folder"),
        (("{run}", "missing"), "no such folder"),
        (("{run}", "{data}", "--table", "{data}"), "data: is a folder; name a file"),
    ],
)
def test_unmeasurable_input_is_one_line(arguments, says, tmp_path, finished_run, capsys):
    places = {"run": finished_run, "data": write_folder(tmp_path / "data")}
    assert main([argument.format(**places) for argument in arguments]) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_values_whose_meaning_is_unclear_are_asked_for_as_the_search_does(tmp_path, finished_run, capsys):
    folder = write_folder(tmp_path / "data", near=None)
    with pytest.raises(DataError) as asked:
        DataModule(folder, seed=0)
    assert main([str(finished_run), str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == f"error: {asked.value}\n" and "use --near bright" in err
    assert main([str(finished_run), str(folder), "--near", "bright", "--mask-foreground", "255"]) == 0
    assert "masks with foreground 255; depth 8-bit relative, near = bright" in capsys.readouterr().out


def test_refused_data_set_is_named_and_the_others_are_measured(tmp_path, finished_run, capsys):
    unclear, folder = write_folder(tmp_path / "unclear", near=None), write_folder(tmp_path / "data", depth=False)
    broken = write_folder(tmp_path / "broken", 1)
    (broken / "images" / "000.png").write_bytes(b"no picture")
    folders = [str(path) for path in (unclear, broken, folder)]
    assert main([str(finished_run), *folders, "--table", str(tmp_path / "t.csv")]) == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and str(unclear) in errors[0] and "no image could be measured" in errors[1]
    assert pd.read_csv(tmp_path / "t.csv")["folder"].unique().tolist() == [str(folder)]
    assert "  score: IoU of the mask (no depth is known): 0 for a constant guess, 1 for a perfect prediction\n" in out
    assert out.endswith("evenly from the bottom to the top.\n") and "95 % interval of the mean" in out


def test_metric_depth_is_measured_without_a_near_distance(tmp_path, finished_run, capsys):
    folder = write_folder(tmp_path / "data")
    for path in (folder / "depth").iterdir():
        depth = 5000 - 80 * cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.uint16)[::2, ::2].repeat(2, 0).repeat(
            2, 1
        )
        depth[:2] = 0
        cv2.imwrite(str(path), np.minimum(depth, 5000))
    (folder / "dataset.json").write_text(json.dumps({"depth_unit": "mm", "missing": 0}))
    table = evaluate(load_model(finished_run), read_dataset(folder))
    assert len(table) == 6 and table["explained_depth"].notna().all()
