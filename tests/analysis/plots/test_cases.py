import matplotlib.image
import numpy as np
import pytest

from analysis.plots.cases import CROP_PX, PANELS, plot_errors_by, plot_fine_structure, plot_images
from analysis.plots.image_errors import measure_images, open_part


@pytest.fixture(scope="module")
def part(whole_runs):
    return open_part(whole_runs[0])


@pytest.fixture(scope="module")
def errors(part):
    return measure_images(part)


def shown(ax):
    (picture,) = ax.get_images()
    return np.asarray(picture.get_array())


def test_images_are_shown_in_the_order_asked_for_with_truth_and_prediction(part, errors, tmp_path):
    rows = errors.nsmallest(2, "iou")
    figure = plot_images(part, rows)
    axes = np.reshape(figure.axes, (2, len(PANELS)))
    for line, (place, row) in zip(axes, rows.iterrows(), strict=True):
        image = part.image(place)
        assert (shown(line[0]) == image).all()
        assert row["image"] in line[0].get_title("left") and f"{row['iou']:.3f}" in line[0].get_title("left")
        mask, _ = part.model.predict(image)
        assert np.abs(shown(line[2])[..., 0] / 255 - mask).max() < 1 / 255
        difference = np.abs(shown(line[1])[..., 0] / 255 - mask)
        assert (shown(line[5])[..., 0] / 255 >= difference - 2 / 255).all()
    assert [ax.get_xlabel() for ax in axes[-1]] == list(PANELS)
    figure.savefig(tmp_path / "cases.png")
    assert matplotlib.image.imread(tmp_path / "cases.png").std() > 0.1


def test_every_image_and_the_means_of_groups_are_drawn(errors):
    axes = plot_errors_by(errors).axes
    assert len(axes) == 4
    assert all(len(ax.get_lines()[0].get_xdata()) == len(errors) for ax in axes)
    assert {ax.get_ylabel() for ax in axes} >= {"IoU of the mask", "RMSE of the depth"}


def test_a_pattern_is_found_and_magnified(part, monkeypatch):
    maps = np.zeros((1, 2, 128, 128), np.float32)
    maps[:, :, 80:120, 20:60] = np.indices((40, 40)).sum(axis=0) % 2
    monkeypatch.setattr(type(part.model), "predict_squares", lambda model, squares: maps)
    for whole, spot, pattern in np.reshape(plot_fine_structure(part, 0).axes, (2, 3)):
        assert shown(whole).shape == (128, 128) and shown(spot).shape == (CROP_PX, CROP_PX)
        assert np.abs(shown(pattern)).mean() == pytest.approx(0.5, abs=0.05)
