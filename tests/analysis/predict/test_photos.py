import cv2
import numpy as np
import pytest
from PIL import Image

from analysis import AnalysisError
from analysis.predict.photos import UnreadableError, find_photos, read_photo


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory, and a function that puts files of any content there."""
    monkeypatch.chdir(tmp_path)

    def put(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        return tmp_path

    return put


def names(place, *arguments, out="out"):
    return [photo.name for photo in find_photos([place / name for name in arguments], place / out)]


def test_folders_are_searched_with_all_below_and_keep_their_folders_in_names(place):
    here = place("in/b.JPG", "in/a.png", "in/deep/er/a.tiff", "in/notes.txt", "in/.hidden.jpg", "in/.trash/c.jpg")
    assert names(here, "in") == ["a", "b", "deep/er/a"]


def test_named_file_is_accepted_with_any_suffix_and_once(place):
    here = place("in/a.png", "in/notes.txt")
    assert names(here, "in/notes.txt", "in/a.png", "in/a.png", "in/../in/a.png") == ["notes", "a"]
    assert names(here, "in", "in/a.png") == ["a"]


def test_equal_stems_get_their_suffixes_then_their_whole_path(place):
    here = place("p/a.png", "p/a.jpg", "p/b.png", "q/b.png", "q/c.png")
    whole = here.as_posix()[1:]
    assert sorted(names(here, "p", "q")) == sorted(["a_png", "a_jpg", f"{whole}/p/b_png", f"{whole}/q/b_png", "c"])


def test_names_made_longer_do_not_meet_others(place):
    here = place("p/a.png", "p/A.jpg", "p/a_png.bmp")
    found = names(here, "p/a.png", "p/A.jpg", "p/a_png.bmp")
    assert len({name.lower() for name in found}) == 3  # files of either case may be one


def test_output_folder_is_not_searched(place):
    here = place("in/a.png", "in/out/a_mask.png", "in/outer/b.png")
    assert names(here, "in", out="in/out") == ["a", "outer/b"]


@pytest.mark.parametrize("out", ["in", ".", "in/deep"])
def test_photo_in_the_output_folder_is_refused(place, out):
    here = place("in/deep/a.png")
    with pytest.raises(AnalysisError, match=r"lies in the output folder|contains no images"):
        names(here, "in", out=out)


def test_place_without_photos_is_refused(place):
    here = place("in/notes.txt")
    with pytest.raises(AnalysisError, match="no such photo or folder"):
        names(here, "none")
    with pytest.raises(AnalysisError, match="it contains no images"):
        names(here, "in")


def test_photo_is_turned_upright(tmp_path):
    upright = Image.fromarray(np.repeat(np.arange(0, 240, 4, np.uint8)[:, None], 24, axis=1)).convert("RGB")
    upright.save(tmp_path / "upright.jpg", quality=95)
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    exif = lying.getexif()
    exif[0x0112] = 6  # the camera was turned
    lying.save(tmp_path / "lying.jpg", quality=95, exif=exif)
    photo = read_photo(tmp_path / "lying.jpg")
    assert photo.shape == (60, 24, 3)
    assert np.abs(photo.astype(int) - read_photo(tmp_path / "upright.jpg")).max() < 8


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_photo_of_any_mode_comes_as_rgb_bytes(tmp_path, mode):
    path = tmp_path / ("photo.jpg" if mode == "CMYK" else "photo.png")
    Image.new("RGB", (8, 6), (255, 0, 0) if mode in ("P", "RGBA", "CMYK") else (255, 255, 255)).convert(mode).save(path)
    photo = read_photo(path)
    assert photo.shape == (6, 8, 3) and photo.dtype == np.uint8
    assert photo[0, 0, 0] > 230 and (photo[0, 0, 2] < 60) == (mode in ("P", "RGBA", "CMYK"))


def test_sixteen_bits_become_eight(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((4, 5, 3), (0, 128 * 257, 65535), np.uint16))
    assert read_photo(tmp_path / "deep.png")[0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_incomplete_image_is_refused(tmp_path, keep):
    path = tmp_path / "broken.jpg"
    data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))[1].tobytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(UnreadableError, match="not a complete image"):
        read_photo(path)
    with pytest.raises(UnreadableError, match="cannot be read"):
        read_photo(tmp_path / "none.jpg")


def test_image_with_a_longer_side_than_a_jpeg_may_have_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "long.png"), np.zeros((1, 65_501, 3), np.uint8))
    with pytest.raises(UnreadableError, match="side of more than 65,500 px"):
        read_photo(tmp_path / "long.png")
