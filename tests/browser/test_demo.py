import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from analysis import load_model
from models.score import Score

pytestmark = pytest.mark.browser
EYE = "document.querySelector('.turning').layout.scene.camera.eye"
POLL_MS = 100  # a page that draws without a graphics card has few frames to ask at


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained model, as a run leaves its own."""
    import torch

    from data.pack.stats import Stats
    from models.architectures.registry import build_model
    from search.config.trial import TrialConfig
    from search.output.model_folder import TrainedModel, save_model

    config = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4, "stem_stride": 2, "levels": 3}})
    torch.manual_seed(1)
    weights = build_model(config.model).state_dict()
    stats = Stats(40, (0.4, 0.5, 0.6), (0.3, 0.25, 0.2), 0.1, 0.3, 0.4, 0.2, 1.0)
    folder = tmp_path_factory.mktemp("run")
    save_model(
        TrainedModel(config=config, weights=weights, stats=stats, score=Score(sigma=0.2), px=32, trial_id="f0001"),
        folder,
    )
    return folder


@pytest.fixture(scope="module")
def address(run, serve):
    return serve([sys.executable, "-m", "analysis.demo", str(run), "--port", "{port}", "--device", "cpu"])


@pytest.fixture
def photo():
    """A portrait that lies on its side in its file, left half blue and right half yellow."""
    upright = np.zeros((90, 60, 3), np.uint8)
    upright[:, :30], upright[:, 30:] = (20, 40, 200), (220, 200, 30)
    return upright


def as_file(photo, name="photo.png"):
    """Return a photo as a file to drop: rotated by 90 degrees with an EXIF orientation."""
    turned, file = Image.fromarray(np.rot90(photo).copy()), io.BytesIO()
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(file, format="PNG", exif=exif)
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


def drop(page, address, file):
    page.goto(address)
    page.locator("input[type=file]").first.set_input_files(file)


def shown(page):
    """Return the photo as its cut-out shows it."""
    return read_image(page, "cutout")[..., 2::-1].astype(int)


def read_image(page, name):
    """Return the pixels of an image of the page."""
    source = page.locator(f"#{name} img").get_attribute("src")
    return cv2.imdecode(np.frombuffer(page.request.get(source).body(), np.uint8), cv2.IMREAD_UNCHANGED)


def test_photo_that_is_dropped_is_seen_as_mask_depth_and_cutout(page, address, run, photo, elsewhere):
    drop(page, address, as_file(photo))
    page.get_by_text("60 by 90 px").wait_for()
    mask, _ = load_model(run, device="cpu").predict(photo)
    cutout = read_image(page, "cutout")
    assert np.abs(read_image(page, "mask").squeeze() / 255 - mask).max() < 0.01
    assert np.abs(cutout[..., 3] / 255 - mask).max() < 0.01
    assert np.abs(shown(page) - photo).max() < 2
    assert read_image(page, "depth").shape[:2] == (90, 60)
    assert elsewhere == []


def test_photo_turns_by_itself_and_by_hand(page, address, photo):
    drop(page, address, as_file(photo))
    page.wait_for_function(f"document.querySelector('.turning')?.layout && {EYE}", polling=POLL_MS)
    began = page.evaluate(EYE)
    page.wait_for_function(f"Math.abs({EYE}.x - {began['x']}) > 0.02", polling=POLL_MS)
    assert page.evaluate(EYE)["z"] == pytest.approx(began["z"])  # about the upright axis
    by_hand(page)
    page.wait_for_function(f"Math.abs({EYE}.z - {began['z']}) > 0.2", polling=POLL_MS)
    seen = cv2.imdecode(np.frombuffer(page.locator(".turning").screenshot(), np.uint8), cv2.IMREAD_COLOR_RGB)
    for colour in (photo[0, 0], photo[0, -1]):
        assert (np.abs(seen.astype(int) - colour).max(axis=2) < 12).sum() > 2000


def by_hand(page):
    """Drag the view from above to below."""
    box = page.locator(".turning").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 60, steps=4)
    page.mouse.up()


def test_photo_stays_still_for_who_wants_no_motion_and_goes_when_taken_away(page, address, photo):
    page.emulate_media(reduced_motion="reduce")
    drop(page, address, as_file(photo))
    page.wait_for_selector(".turning canvas")
    began = page.evaluate(EYE)
    page.wait_for_timeout(500)
    assert page.evaluate(EYE) == began
    page.get_by_label("Remove Image").click()
    page.wait_for_selector(".turning canvas", state="detached")
    page.wait_for_function("document.querySelectorAll('img').length == 0")


def test_broken_photo_is_refused_and_the_next_one_is_seen(page, address, photo):
    drop(page, address, {"name": "broken.png", "mimeType": "image/png", "buffer": b"not an image"})
    page.get_by_text("broken.png: not a whole image").wait_for()
    assert page.locator("#cutout img").count() == 0
    page.locator("input[type=file]").first.set_input_files(as_file(photo))
    page.get_by_text("60 by 90 px").wait_for()
    assert np.abs(shown(page) - photo).max() < 2
