"""What the values of masks and depth mean: inferred from a sample of files, or asked for."""

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from data.check.__main__ import main as check
from data.check.check import check_folder
from data.data_module import DataModule, load_data_module
from data.dataset import DataError, DatasetSpec, MaskValues
from data.reading.layout import read_dataset
from data.runtime.files import hash_name
from data.values import sampling
from data.values.depth import decode_depth
from data.values.orientation import apply_orientation
from data.values.triplet import decode_triplet

PX, COUNT = 64, 10


def disc(number):
    """Return where the object is."""
    mask = np.zeros((PX, PX), np.uint8)
    cv2.circle(mask, (20 + number % 3 * 8, 34), 12, 1, -1)
    return mask > 0


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif isinstance(pixels, Image.Image):
        pixels.save(path)
    else:
        assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def make(tmp_path):
    """Write a folder whose masks and depth maps are functions of the place of the object and its number."""

    def write(mask=None, depth=None, *, spec=None, mask_suffix=".png", depth_suffix=".png"):
        root = tmp_path / "set"
        for number in range(COUNT):
            inside = disc(number)
            image = np.random.default_rng(number).integers(0, 150, (PX, PX, 3), np.uint8)
            image[inside] = 240
            save(root / f"images/s{number:02d}.png", image)
            if mask is not None:
                save(root / f"masks/s{number:02d}{mask_suffix}", mask(inside, number))
            if depth is not None:
                save(root / f"depth/s{number:02d}{depth_suffix}", depth(inside, number))
        (root / "dataset.json").write_text(json.dumps({"group_size": 1} | (spec or {})))
        return root

    return write


def binary(inside, _):
    return inside.astype(np.uint8) * 255


def palette(inside, number):
    """A palette image as VOC writes it: a class number, and 255 along its outline."""
    indices = np.where(inside, 15, 0).astype(np.uint8)
    outline = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    indices[outline > 0] = 255
    image = Image.fromarray(indices, "P")
    image.putpalette([(37 * i * c) % 256 for i in range(256) for c in (1, 3, 7)])
    return image


def decode(root):
    dataset = read_dataset(root)
    assert dataset.doubts == ()
    return dataset, [decode_triplet(triplet, dataset.spec, PX) for triplet in dataset.triplets]


def in_alpha(inside, _):
    return Image.fromarray(np.dstack([*[np.full_like(binary(inside, 0), 255)] * 3, binary(inside, 0)]), "RGBA")


@pytest.mark.parametrize(
    ("mask", "suffix"),
    [
        (binary, ".png"),
        (binary, ".tif"),
        (binary, ".jpg"),
        (binary, ".gif"),
        (binary, ".npy"),
        (lambda inside, _: inside.astype(np.uint8), ".png"),
        (lambda inside, _: inside.astype(np.uint16), ".png"),
        (lambda inside, _: inside.astype(np.uint16) * 65535, ".png"),
        (lambda inside, _: inside.astype(np.int32), ".tif"),
        (lambda inside, _: inside.astype(np.float32), ".tif"),
        (lambda inside, _: inside, ".npy"),
        (lambda inside, number: inside.astype(np.uint8) * (1 + number % 2), ".png"),
        (lambda inside, _: inside.astype(np.uint8) * 7, ".png"),
        (in_alpha, ".png"),
    ],
)
def test_masks_of_any_range_give_the_object(make, mask, suffix):
    if suffix == ".gif":
        found = decode(make(lambda inside, n: Image.fromarray(mask(inside, n)), mask_suffix=suffix))[1]
    else:
        found = decode(make(mask, mask_suffix=suffix))[1]
    for number, (_, foreground, _, known) in enumerate(found):
        assert ((foreground > 127) == disc(number)).mean() > 0.995 and known.all()


def test_mask_whose_alpha_and_values_differ_is_left_out(make):
    root = make(lambda inside, n: in_alpha(inside, n) if n < 4 else Image.fromarray(binary(inside, n)))
    dataset = read_dataset(root)
    assert not dataset.spec.mask_values.alpha
    for number, triplet in enumerate(dataset.triplets):
        if number >= 4:
            assert ((decode_triplet(triplet, dataset.spec, PX)[1] > 127) == disc(number)).mean() > 0.99
            continue
        with pytest.raises(DataError, match="alpha varies beside other values") as error:
            decode_triplet(triplet, dataset.spec, PX)
        assert error.value.kind == "channels"


def test_coloured_masks_are_named_though_one_of_them_has_an_alpha_channel(make):
    def mask(inside, number):
        values = binary(inside, number)
        if number == 0:
            return in_alpha(inside, number)
        return Image.fromarray(np.dstack([values, 0 * values, values // 2]))

    assert "9 of 10 masks are in colour" in read_dataset(make(mask)).doubts[0]


@pytest.mark.parametrize(
    ("factor", "type_", "suffix", "largest"),
    [(16, np.uint16, ".png", "3,840"), (16, np.uint16, ".tif", "3,840"), (1 / 255, np.float32, ".tif", "0.9412")],
)
def test_images_that_are_nearly_black_as_8_bits_are_doubted(make, factor, type_, suffix, largest):
    root = make(binary)
    for path in sorted((root / "images").iterdir()):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        path.unlink()
        save(path.with_suffix(suffix), (grey.astype(np.float64) * factor).astype(type_))
    found = read_dataset(root).doubts[0]
    assert f"10 of 10 images that were looked at have values up to {largest}, which is nearly black" in found
    for path in sorted((root / "images").iterdir())[:6]:
        path.unlink()
        save(path.with_suffix(".png"), np.full((PX, PX, 3), 65535, np.uint16))
    assert read_dataset(root).doubts == ()


def darken(folder):
    """Store the images of a folder in 16 bits, in values that are nearly black."""
    for path in sorted(folder.iterdir()):
        save(path, cv2.imread(str(path)).astype(np.uint16) * 16)


def test_search_and_check_agree_on_nearly_black_images_and_on_polarity_that_is_certain(make):
    root = make(binary, relative)
    darken(root / "images")
    dataset = read_dataset(root)
    assert len(dataset.doubts) == 1 and "nearly black" in dataset.doubts[0]
    assert dataset.description == "masks 0/255; depth 8-bit relative, near = bright"
    report = check_folder(root)
    assert report.certain["near"] == dataset.spec.near == "bright" and report.dataset.doubts == dataset.doubts


def test_outline_of_a_palette_mask_is_ignored(make):
    dataset, found = decode(make(palette))
    assert dataset.description == "masks 0/15, 255 ignored"
    for number, (_, foreground, _, known) in enumerate(found):
        assert ((foreground > 127) == disc(number))[known].all() and 0.85 < known.mean() < 0.98


def test_stated_values_are_foreground_and_ignored(make):
    def trimap(inside, _):
        border = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        return np.where(border, 3, np.where(inside, 1, 2)).astype(np.uint8)

    root = make(trimap)
    doubt = read_dataset(root).doubts[0]
    assert "values 1 (" in doubt and "2 (" in doubt and "3 (" in doubt and "--mask-foreground" in doubt
    with pytest.raises(DataError, match="--mask-ignored"):
        DataModule(root, seed=0)
    for how in ("file", "command line"):
        values = {"mask_values": {"foreground": [1], "ignored": [3]}}
        root = make(trimap, spec=values if how == "file" else None)
        dataset = read_dataset(root, fields=values if how == "command line" else None)
        assert not dataset.doubts
        _, foreground, _, known = decode_triplet(dataset.triplets[0], dataset.spec, PX)
        assert ((foreground > 127) == disc(0))[known].all() and not known.all()


def test_ignored_pixels_are_packed_as_unknown(make, monkeypatch, tmp_path):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    data_module = DataModule(make(palette), seed=0)
    pack = data_module.pack("train", PX)
    batch = pack.gather(np.arange(len(pack)))
    assert 0.85 < batch.mask_valid.mean() < 0.98 and not batch.mask[~batch.mask_valid].any()
    assert pack.stats.mask_known == pytest.approx(batch.mask_valid.mean())


def in_alpha_webp(inside, _):
    """A soft matte in alpha whose colour is 0 where nothing is shown, as WebP stores it."""
    alpha = cv2.GaussianBlur(binary(inside, 0), (5, 5), 0)
    return Image.fromarray(np.dstack([*[np.where(alpha > 0, 255, 0).astype(np.uint8)] * 3, alpha]), "RGBA")


def test_alpha_counts_where_only_what_it_shows_has_one_colour(make):
    dataset, found = decode(make(in_alpha_webp))
    assert dataset.description == "masks 0 to 255 in alpha" and ((found[0][1] > 127) == disc(0)).mean() > 0.99
    ramp = np.tile(np.arange(PX, dtype=np.uint8)[:, None], (1, PX))
    root = make(lambda inside, _: Image.fromarray(np.dstack([ramp, ramp, ramp, binary(inside, 0)]), "RGBA"))
    dataset = read_dataset(root)
    assert '"mask_values": {"alpha": true}' in dataset.doubts[0]
    assert dataset.description == "masks with alpha besides other values"
    assert decode(make(in_alpha_webp, spec={"mask_values": {"alpha": True}}))[0].spec.mask_values.alpha


def test_lossy_masks_are_greys_of_which_the_largest_value_is_known(make):
    def save_lossy(inside, _):
        return Image.fromarray(binary(inside, 0)).convert("RGB")

    assert decode(make(save_lossy, mask_suffix=".webp"))[0].description == "masks 0 to 255"
    shutil.rmtree(make())
    root = make(lambda inside, _: binary(inside, 0) // 2, mask_suffix=".jpg")
    assert "add the value of foreground" in read_dataset(root).doubts[0]


def test_inverted_masks_are_asked_about(make):
    def inverted(inside, _):
        return 255 - binary(inside, 0)

    assert "look inverted: in 10 of 10" in read_dataset(make(inverted)).doubts[0]
    found = decode(make(inverted, spec={"mask_values": {"foreground": [0]}}))[1]
    assert ((found[0][1] > 127) == disc(0)).all()
    found = decode(make(inverted, spec={"mask_values": {"foreground": [255]}}))[1]
    assert ((found[0][1] > 127) == ~disc(0)).all()


@pytest.mark.parametrize(("value", "words"), [(0, "are empty"), (255, "are full")])
def test_masks_without_object_or_ground_are_refused(make, value, words):
    root = make(lambda inside, _: np.full_like(binary(inside, 0), value), spec={"mask_values": {"full": 255}})
    with pytest.raises(DataError, match=words):
        DataModule(root, seed=0)


def test_a_mask_of_another_range_is_left_out(make):
    root = make(lambda inside, number: cv2.GaussianBlur(binary(inside, 0), (3, 3), 0))
    save(root / "masks/s03.png", disc(3).astype(np.uint8))
    dataset = read_dataset(root)
    with pytest.raises(DataError, match=r"s03\.png: holds 0 and 1, but the other masks reach 255") as error:
        decode_triplet(dataset.triplets[3], dataset.spec, PX)
    assert error.value.kind == "mask values"


def test_unknown_foreground_and_keys_are_named(make):
    with pytest.raises(DataError, match="foreground 9 is in none of 10 masks, which hold 0"):
        read_dataset(make(binary, spec={"mask_values": {"foreground": [9]}}))
    with pytest.raises(DataError, match="unknown key 'fg' in mask_values"):
        read_dataset(make(binary, spec={"mask_values": {"fg": [9]}}))


def floor(near=True):
    """Inverse depth in 0..1 that rises towards the bottom, or falls."""
    rise = np.tile(np.linspace(0.2, 0.6, PX)[:, None], (1, PX))
    return rise if near else 1 - rise


def relative(inside, _):
    return (255 * np.where(inside, 0.9, floor())).astype(np.uint8)


def millimetres(inside, _):
    z = np.where(inside, 700, 1000 / floor()).astype(np.uint16)
    z[:4, :20] = 0
    z[4, :20] = 65535
    return z


@pytest.mark.parametrize(("flip", "near"), [(False, "bright"), (True, "dark")])
def test_polarity_is_inferred_from_contours_and_ground(make, flip, near):
    dataset, found = decode(make(binary, lambda inside, n: 255 - relative(inside, n) if flip else relative(inside, n)))
    assert dataset.spec.near == near and dataset.description.endswith(f"depth 8-bit relative, near = {near}")
    depth = decode_depth(found[0][2])[0]
    assert depth[disc(0)].mean() > depth[~disc(0)].mean() + 0.2


def test_a_stated_polarity_that_the_files_contradict_is_reported(make, capsys):
    root = make(binary, relative, spec={"near": "dark"})
    data_module = DataModule(root, seed=0)
    expected = "depth: near is set to dark, but the depth maps show the opposite (foregrounds brighter than around: 10"
    assert expected in data_module.list_warnings()[0] and "may be chance" in data_module.list_warnings()[1]
    recorded = {"seed": 0, "data": json.loads(json.dumps(data_module.to_dict()))}
    assert load_data_module(recorded).to_dict()["warnings"] == data_module.list_warnings()
    check([str(root)])
    assert expected in capsys.readouterr().out
    assert not read_dataset(make(binary, relative, spec={"near": "bright"})).warnings


def test_polarity_that_cannot_be_told_is_asked_for(make):
    root = make(depth=relative)
    with pytest.raises(DataError, match=r"--near bright if near things are bright in it, or --near dark"):
        DataModule(root, seed=0)
    assert DataModule(root, seed=0, fields={"near": "dark"}).dataset.spec.near == "dark"
    with pytest.raises(DataError, match=r'dataset\.json sets near to "bright", the command line to "dark"'):
        read_dataset(make(depth=relative, spec={"near": "bright"}), fields={"near": "dark"})


def test_millimetres_are_recognised_and_holes_are_unknown(make):
    dataset = read_dataset(make(binary, millimetres))
    assert (
        dataset.doubts == ()
        and dataset.spec.depth_unit == "mm"
        and "depth 16-bit mm, 0 = unknown, near = small" in dataset.description
    )
    dataset = DataModule(dataset.root, seed=0).dataset
    packed = decode_triplet(dataset.triplets[0], DatasetSpec(depth_unit="mm", near_m=0.7), PX)
    depth, known = decode_depth(packed[2])
    assert not known[:5, :20].any() and known[5:].all() and depth[disc(0)].mean() == pytest.approx(1, abs=1e-3)


def test_a_scale_that_cannot_be_told_is_asked_for(make):
    def kitti(inside, n):
        z = (millimetres(inside, n) / 1000 * 2560).astype(np.uint16)
        z[np.random.default_rng(n).random((PX, PX)) < 0.9] = 0
        return z

    assert "--depth-scale 256 (KITTI)" in read_dataset(make(binary, kitti)).doubts[0]
    root = make(binary, kitti, spec={"depth_unit": "m", "depth_scale": 256})
    dataset = read_dataset(root)
    assert not dataset.doubts and "16-bit m / 256" in dataset.description
    assert DataModule(root, seed=0).depth_scale.near_m == pytest.approx(7, rel=0.05)


def test_types_that_mix_and_constant_maps_are_told(make):
    root = make(binary, lambda inside, n: relative(inside, n).astype(np.uint16) * 257 if n % 2 else relative(inside, n))
    assert "files of different types: uint16 in 5, uint8 in 5" in read_dataset(root).doubts[0]
    root = make(binary, lambda inside, _: np.full_like(binary(inside, 0), 128))
    assert "each of 10 depth maps that were looked at has at most one value" in read_dataset(root).doubts[0]


def painted(inside, n):
    return cv2.applyColorMap(relative(inside, n), cv2.COLORMAP_JET)


def test_files_that_are_not_read_are_not_taken_for_absent(make, tmp_path):
    root = make(binary)
    (root / "depth").mkdir()
    for number in range(COUNT):
        (root / f"depth/s{number:02d}.raw").write_bytes(b"1234")
    assert "depth: its 10 .raw files are not read as depth" in DataModule(root, seed=0).list_warnings()[0]
    (root / "images").rename(root / "photos")
    (root / "images").mkdir()
    for path in (root / "photos").iterdir():
        path.rename(root / "images" / f"{path.stem}.exr")
    shutil.rmtree(root / "photos")
    with pytest.raises(DataError, match="have endings of depth maps"):
        read_dataset(root)


def in_palette(inside, number):
    """Return painted depth with 255 colours and their indices, as tools that shrink files write it."""
    return Image.fromarray(painted(inside, number)[..., ::-1].copy()).quantize(255)


@pytest.mark.parametrize(("drawn", "suffix"), [(painted, ".png"), (painted, ".jpg"), (in_palette, ".png")])
def test_depth_in_colour_is_refused_and_a_single_map_of_it_left_out(make, drawn, suffix):
    root = make(binary, drawn, depth_suffix=suffix)
    assert "10 of 10 depth maps are in colour" in read_dataset(root).doubts[0]
    shutil.rmtree(root)
    root = make(binary, lambda inside, n: drawn(inside, n) if n == 2 else relative(inside, n), depth_suffix=suffix)
    dataset = read_dataset(root)
    with pytest.raises(DataError, match=rf"s02\{suffix}: is in colour") as error:
        decode_triplet(dataset.triplets[2], dataset.spec, PX)
    assert error.value.kind == "channels" and dataset.doubts == ()


@pytest.mark.parametrize(("suffix", "type_"), [(".png", np.uint16), (".npy", np.float32)])
def test_disparity_without_masks_is_not_taken_for_distances(make, suffix, type_):
    """Its range is that of a depth camera in millimetres, and 0 is unknown, but it is larger at the bottom."""

    def disparity(inside, n):
        values = (1600 * np.where(inside, 0.9, floor())).astype(type_)
        values[:4] = 0
        return values

    assert (
        "larger at the bottom, where near things are"
        in read_dataset(make(depth=disparity, depth_suffix=suffix)).doubts[0]
    )


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_distances_without_masks_are_recognised_by_their_holes(make, hole):
    def metres(inside, _):
        z = np.where(inside, 0.7, 1 / floor()).astype(np.float32)
        z[:4, :20] = hole
        return z

    dataset = read_dataset(make(depth=metres, depth_suffix=".npy"))
    assert dataset.doubts == () and dataset.description == "depth float32 m, 0 = unknown, near = small"


@pytest.mark.parametrize("odd", [500, np.nan])
def test_maps_without_different_values_count_neither_for_search_nor_for_check(make, odd):
    def metres(inside, number):
        z = np.where(inside, 0.7, 1 / floor()).astype(np.float32)
        z[:4, :20] = np.nan
        return np.full_like(z, odd) if number < 6 else z

    root = make(binary, metres, depth_suffix=".npy")
    dataset = read_dataset(root)
    assert dataset.doubts == () and dataset.spec.depth_unit == "m"
    assert check_folder(root).certain == {"depth_unit": "m"}


def test_one_constant_map_is_left_out(make):
    root = make(binary, relative)
    save(root / "depth/s02.png", np.full((PX, PX), 90, np.uint8))
    dataset = read_dataset(root)
    with pytest.raises(DataError, match=r"s02\.png: depth is 90 everywhere") as error:
        decode_triplet(dataset.triplets[2], dataset.spec, PX)
    assert error.value.kind == "constant depth"


def test_disparity_is_near_where_it_is_large(make):
    def disparity(inside, n):
        return (256 * np.where(inside, 60, 40 * floor())).astype(np.uint16)

    dataset = DataModule(make(binary, disparity, spec={"depth_unit": "disparity"}), seed=0).dataset
    spec = DatasetSpec(depth_unit="disparity", depth_max=60 * 256.0)
    depth, known = decode_depth(decode_triplet(dataset.triplets[0], spec, PX)[2])
    assert known.all() and depth[disc(0)].mean() == pytest.approx(1, abs=0.01)


def test_depth_in_numpy_files_and_lists_of_missing_values(make):
    spec = {"depth_unit": "m", "missing": [9, 8]}
    root = make(binary, lambda inside, _: np.where(inside, 1.0, 2.0 + 3 * floor()), spec=spec, depth_suffix=".npy")
    z = np.full((PX, PX), 2.0, np.float32)
    z[0], z[1], z[2], z[3], z[4] = 9, 8, np.nan, np.inf, 0
    save(root / "depth/s00.npy", z + disc(0))
    z[disc(0)] = 1
    save(root / "depth/s00.npy", z)
    dataset = read_dataset(root)
    spec = DatasetSpec(depth_unit="m", missing=(9.0, 8.0), near_m=1.0)
    assert dataset.spec.missing == (9.0, 8.0)
    _, known = decode_depth(decode_triplet(dataset.triplets[0], spec, PX)[2])
    assert not known[:5].any() and known[5:].all()


def test_a_run_s_meaning_is_restored_from_its_record(make, monkeypatch):
    data_module = DataModule(make(palette, relative, spec={"near": "bright"}), seed=0)
    recorded = json.loads(json.dumps(data_module.to_dict()))
    assert [DatasetSpec.from_dict(spec) for spec in recorded["specs"]] == [data_module.dataset.spec]
    assert data_module.dataset.spec.mask_values == MaskValues(full=1.0, ignored=(255.0,))
    assert recorded["meaning"] == "masks 0/15, 255 ignored; depth 8-bit relative, near = bright"


@pytest.mark.parametrize("orientation", [2, 6])
def test_a_label_without_a_tag_is_turned_with_the_image_if_another_has_one(tmp_path, orientation):
    exif, tall = Image.Exif(), np.zeros((32, 48), np.uint8)
    exif[0x0112] = orientation
    tall[:8, :16] = 255
    for name, tag in (("images", {"exif": exif}), ("masks", {"exif": exif}), ("depth", {})):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(tall).save(tmp_path / name / f"s{number}.png", **tag)
    (tmp_path / "dataset.json").write_text('{"near": "bright"}')
    dataset = read_dataset(tmp_path)
    _, mask, depth, _ = decode_triplet(dataset.triplets[0], dataset.spec, 32)
    assert ((mask > 127) == (decode_depth(depth)[0] > 0.5)).all() and mask[0, -1] == 255, "the corner is at the right"
    assert bool(dataset.warnings) == (orientation == 2), "sizes show it if the image is turned by a quarter"


@pytest.mark.parametrize("side", [48, 32])
@pytest.mark.parametrize(
    ("orientation", "turned"), [(6, "image only"), (6, "labels too"), (3, "labels too"), (3, "image only")]
)
def test_exif_turns_all_files_or_none(tmp_path, orientation, turned, side, capsys):
    root = tmp_path / "set"
    upright = np.zeros((32, side, 3), np.uint8)
    upright[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number in range(3):
        save(root / f"images/s{number}.jpg", upright)
        Image.fromarray(upright).save(root / f"images/s{number}.jpg", exif=exif, quality=100)
        (root / "masks").mkdir(exist_ok=True)
        tag = {"exif": exif} if turned == "labels too" else {}
        Image.fromarray(upright[..., 0]).save(root / f"masks/s{number}.jpg", quality=100, **tag)
    dataset = read_dataset(root)
    image, mask, _, _ = decode_triplet(dataset.triplets[0], dataset.spec, 32)
    assert ((mask > 127) == (image[..., 0] > 127)).all() and 0.02 < (mask > 127).mean() < 0.07
    assert (mask[0, 0] > 127) == (turned == "image only"), "stored as it is, or turned alike"
    unclear = turned == "image only" and (orientation == 3 or side == 32)
    assert ["EXIF data turn 3 of 3 images that were looked at" in line for line in dataset.warnings] == [True] * unclear
    check([str(root)])
    assert ("save the images upright" in capsys.readouterr().out) == unclear


@pytest.mark.parametrize(("orientation", "lies"), [(6, "as stored"), (6, "upright"), (6, "tagged"), (3, "as stored")])
def test_rare_exif_data_outside_the_sample_turn_image_mask_and_depth_alike(
    tmp_path, monkeypatch, orientation, lies, capsys
):
    """Three of 12 photos are turned and none of those is looked at before the search: each file decides by itself."""
    exif, upright = Image.Exif(), np.zeros((32, 48), np.uint8)
    exif[0x0112] = orientation
    upright[:8, :16] = 255
    monkeypatch.setattr(sampling, "SAMPLE", 5)
    names = sorted((f"s{number:02d}" for number in range(12)), key=hash_name)
    for rank, name in enumerate(names):
        stored = apply_orientation(upright, {6: 8}.get(orientation, orientation)) if rank >= 9 else upright
        label = upright if lies == "upright" else stored
        for folder, pixels in (("images", np.dstack([stored] * 3)), ("masks", label), ("depth", label)):
            tag = {"exif": exif} if rank >= 9 and (folder == "images" or lies == "tagged") else {}
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png", **tag)
    (tmp_path / "dataset.json").write_text('{"near": "bright"}')
    dataset = read_dataset(tmp_path)
    assert not dataset.warnings and len(dataset.triplets) == 12
    for triplet in dataset.triplets:
        image, mask, depth, _ = decode_triplet(triplet, dataset.spec, 48)
        assert (np.abs(image[..., 0] - mask.astype(int)) <= 1).all() and mask.max() == 255
        assert ((decode_depth(depth)[0] > 0.5) == (mask > 127)).all()
    check([str(tmp_path)])
    assert ("EXIF data turn 3 of 12 images" in capsys.readouterr().out) == (orientation == 3), "it looks at all files"


@pytest.mark.parametrize("role", ["masks", "depth"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"no", "not a whole image"),
    ],
)
def test_labels_none_of_which_can_be_read_are_the_reason_that_is_given(make, role, content, reason):
    root = make(binary, lambda inside, n: inside.astype(np.uint8) * 200 + np.uint8(n))
    for path in (root / role).iterdir():
        path.write_bytes(content)
    doubt = read_dataset(root).doubts[0]
    assert reason in doubt and f"none of 10 {role.removesuffix('s')} files that were looked at can be read" in doubt
    assert check([str(root)]) == 1


def test_negative_depth_is_asked_about_by_search_and_check(make, capsys):
    root = make(binary, lambda inside, n: np.where(inside, -1000, -2000 - n).astype(np.int32), depth_suffix=".npy")
    assert "cannot tell whether depth is distances" in read_dataset(root).doubts[0]
    assert check([str(root)]) == 1 and "cannot tell whether depth is distances" in capsys.readouterr().out


def test_images_of_depth_suffixes_are_the_same_error_for_search_and_check(make, capsys):
    root = make(binary)
    for path in (root / "images").iterdir():
        path.rename(path.with_suffix(".npy"))
    with pytest.raises(DataError, match="endings of depth maps"):
        read_dataset(root)
    assert check([str(root)]) == 2 and "endings of depth maps" in capsys.readouterr().err


def test_stated_missing_values_do_not_hide_the_unit(make):
    def metres(inside, number):
        depth = np.tile(np.linspace(4, 2, PX, dtype=np.float32)[:, None], (1, PX)) - 1.5 * inside
        depth[:, :6] = -9999
        return depth

    assert read_dataset(make(binary, metres, depth_suffix=".tif")).doubts
    dataset = read_dataset(make(binary, metres, depth_suffix=".tif", spec={"missing": -9999}))
    assert not dataset.doubts and dataset.spec.depth_unit == "m"


def test_distances_of_which_none_lies_in_the_stated_range_are_named(make):
    def metres(inside, number):
        return np.where(inside, 1.0, 2.0 + number).astype(np.float32)

    dataset = read_dataset(make(binary, metres, depth_suffix=".npy", spec={"depth_unit": "m", "near_m": 500.0}))
    with pytest.raises(DataError, match="no distance lies between near_m and far_m; correct them in"):
        decode_triplet(dataset.triplets[0], dataset.spec, PX)
