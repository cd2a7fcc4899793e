"""Tests of analysis.plots.images."""

import json
import shutil

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisError
from analysis.plots.images import (
    COLUMNS,
    CROP_PX,
    average_groups,
    measure_depth_range,
    measure_images,
    open_split,
    plot_errors_by,
    plot_fine_structure,
    plot_images,
)
from data.data_module import DataModule
from data.reading.layout import read_dataset


@pytest.fixture(scope="module")
def split(whole_runs):
    return open_split(whole_runs[0])


@pytest.fixture(scope="module")
def errors(split):
    return measure_images(split)


def test_means_over_images_are_the_metrics_of_the_run(whole_runs, errors):
    metrics = json.loads((whole_runs[0] / "best" / "metrics.json").read_text())["val"]
    assert len(errors) == metrics["images"]
    for name in set(metrics) - {"images", "of_images", "constant_guess"}:
        assert errors[name].mean() == pytest.approx(metrics[name], abs=1e-6), name


def test_each_image_has_its_name_and_its_content(split, errors):
    assert errors["image"].tolist() == list(split.pack.ids) and errors["image"].is_unique
    assert len(set(errors["background"])) == 1  # one of ten is held out
    raw = split.pack.gather(np.arange(len(errors)))
    assert errors["mask_share"].to_numpy() == pytest.approx((raw.mask > 127).mean(axis=(1, 2)), abs=1e-6)
    assert ((errors["depth_range"] > 0) & (errors["depth_range"] <= 1)).all()


def test_splits_are_those_of_the_run_and_no_larger_than_asked_for(whole_runs, split):
    other = open_split(whole_runs[0], "test")
    assert not set(other.pack.ids) & set(split.pack.ids) and not set(other.backgrounds) & set(split.backgrounds)
    assert len(open_split(whole_runs[0], "train", most=3).pack) == 3


def test_split_of_the_latest_run(whole_runs, split, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "only").symlink_to(whole_runs[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    assert open_split("latest").pack.ids == split.pack.ids


def test_depth_range_leaves_out_outliers_and_unknown_pixels():
    depth = np.full((10, 10), 0.5, np.float32)
    depth[0, 0], depth[5:] = 1, 0.25
    assert measure_depth_range(depth, np.ones((10, 10), bool)) == pytest.approx(0.25)
    assert measure_depth_range(depth, depth == 0.5) == 0
    assert np.isnan(measure_depth_range(depth, np.zeros((10, 10), bool)))


def test_metrics_are_empty_where_their_truth_is_unknown(split, monkeypatch):
    gather = type(split.pack).gather

    def blind(pack, indices):
        raw = gather(pack, indices)
        raw.depth[(indices == 0) | (indices == 2)] = 0
        raw.mask_known[(indices == 1) | (indices == 2)] = False
        return raw

    monkeypatch.setattr(type(split.pack), "gather", blind)
    mask_only, depth_only, nothing, *others = measure_images(split).to_dict("records")
    assert np.isnan(mask_only["rmse_depth"]) and np.isnan(mask_only["depth_range"])
    assert mask_only["score"] == mask_only["iou"]
    assert np.isnan(depth_only["iou"]) and np.isnan(depth_only["mask_share"]) and np.isnan(depth_only["study_mse_ssim"])
    assert depth_only["score"] == pytest.approx(1 - depth_only["rmse_depth"] / split.model.score.sigma)
    assert np.isnan(nothing["score"])
    assert others and not any(np.isnan(row["rmse_depth"]) or np.isnan(row["iou"]) for row in others)


def table(**columns):
    metrics = dict.fromkeys(("score", "boundary_f", "mae_mask", "rmse_depth", "abs_rel", "checkerboard"), 0.0)
    return pd.DataFrame({**metrics, **columns})


def test_groups_are_equal_and_in_order():
    errors = table(mask_share=[0.4, 0.1, 0.2, 0.3, np.nan], iou=[4, 1, 2, 3, 100])
    found = average_groups(errors, "mask_share", groups=2)
    assert found["images"].tolist() == [2, 2]
    assert found["least"].tolist() == [0.1, 0.3] and found["most"].tolist() == [0.2, 0.4]
    assert found["iou"].tolist() == [1.5, 3.5]


def test_images_that_are_all_alike_or_few_are_grouped_too():
    assert average_groups(table(mask_share=[0.2] * 4, iou=[1.0] * 4), "mask_share")["images"].tolist() == [1, 1, 1, 1]
    assert len(average_groups(table(mask_share=[0.1, 0.2], iou=[0, 1]), "mask_share")) == 2
    assert average_groups(table(mask_share=[np.nan], iou=[1.0]), "mask_share").empty


def test_missing_split_is_refused(whole_runs):
    with pytest.raises(AnalysisError, match="no split 'all'; it has train, val, test"):
        open_split(whole_runs[0], "all")


def test_backgrounds_are_those_of_the_images_behind_one_that_is_left_out(whole_runs, tiny_dataset, tmp_path):
    data = shutil.copytree(tiny_dataset, tmp_path / "data")
    data_module = DataModule(data, seed=0)
    data_module.splits.train[1].image.write_bytes(b"no picture")
    run = shutil.copytree(whole_runs[0], tmp_path / "run")
    state = json.loads((run / "run.json").read_text())
    state["data"] |= {"folder": str(data), "fingerprint": read_dataset(data).fingerprint}
    (run / "run.json").write_text(json.dumps(state))
    split = open_split(run, "train")
    background = {triplet.id: triplet.background for triplet in data_module.splits.train}
    assert len(split.pack) == len(data_module.splits.train) - 1
    assert split.backgrounds == tuple(background[name] for name in split.pack.ids)


def shown(ax):
    (picture,) = ax.get_images()
    return np.asarray(picture.get_array())


def test_images_are_shown_in_the_order_asked_for_with_truth_and_prediction(split, errors, tmp_path):
    rows = errors.nsmallest(2, "iou")
    figure = plot_images(split, rows)
    axes = np.reshape(figure.axes, (2, len(COLUMNS)))
    for line, (place, row) in zip(axes, rows.iterrows(), strict=True):
        image = split.image(place)
        assert (shown(line[0]) == image).all()
        assert row["image"] in line[0].get_title("left") and f"{row['iou']:.3f}" in line[0].get_title("left")
        mask, _ = split.model.predict_squares(image[None])[0]
        assert np.abs(shown(line[2])[..., 0] / 255 - mask).max() < 1 / 255
        difference = np.abs(shown(line[1])[..., 0] / 255 - mask)
        assert (shown(line[5])[..., 0] / 255 >= difference - 2 / 255).all()
    assert [ax.get_xlabel() for ax in axes[-1]] == list(COLUMNS)
    figure.savefig(tmp_path / "cases.png")
    assert matplotlib.image.imread(tmp_path / "cases.png").std() > 0.1


def test_every_image_and_the_means_of_groups_are_drawn(errors):
    axes = plot_errors_by(errors).axes
    assert len(axes) == 4
    assert all(len(ax.get_lines()[0].get_xdata()) == len(errors) for ax in axes)
    assert {ax.get_ylabel() for ax in axes} >= {"IoU of the mask", "RMSE of the depth"}


def test_a_pattern_is_found_and_magnified(split, monkeypatch):
    maps = np.zeros((1, 2, 128, 128), np.float32)
    maps[:, :, 80:120, 20:60] = np.indices((40, 40)).sum(axis=0) % 2
    monkeypatch.setattr(type(split.model), "predict_squares", lambda model, squares: maps)
    for whole, spot, pattern in np.reshape(plot_fine_structure(split, 0).axes, (2, 3)):
        assert shown(whole).shape == (128, 128) and shown(spot).shape == (CROP_PX, CROP_PX)
        assert np.abs(shown(pattern)).mean() == pytest.approx(0.5, abs=0.05)
