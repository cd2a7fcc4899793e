"""Packed arrays: what they hold, and how they come about."""

import json
import os
import pickle
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.dataset import DataError
from data.pack import shards
from data.pack.__main__ import main
from data.pack.pack import pack_split
from data.pack.shards import list_shard_bounds
from data.reading.layout import read_dataset
from data.reading.splits import sort_nested
from data.runtime.storage import StorageError
from data.values.depth import decode_depth
from data.values.triplet import decode_triplet


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of 4, 4, 8 samples and so on: a few samples fill several."""
    monkeypatch.setattr(shards, "FIRST_SHARD", 4)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def packed(root, cache, px=16, **options):
    dataset = read_dataset(root)
    return pack_split(dataset, sort_nested(dataset.triplets), px, cache=cache, **options)


def written(cache):
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}


def test_shards_cover_everything_once_and_double():
    assert list_shard_bounds(21) == [(0, 4), (4, 8), (8, 16), (16, 21)]


def test_gather_returns_what_decoding_gives_in_the_order_asked(make_dataset, cache):
    root = make_dataset(12)
    dataset = read_dataset(root)
    triplets = sort_nested(dataset.triplets)
    pack = packed(root, cache)
    asked = np.array([11, 0, 5, 5])
    batch = pack.gather(asked)
    for row, position in enumerate(asked):
        image, mask, depth, _ = decode_triplet(triplets[position], dataset.spec, 16)
        assert (batch.image[row] == image).all() and (batch.mask[row] == mask).all()
        assert (batch.depth[row] == depth).all()
    assert pack.ids == tuple(triplet.id for triplet in triplets)
    assert (len(pack), pack.px, len(batch)) == (12, 16, 4)


@pytest.mark.parametrize("positions", [[12], [-1], [0, 99]])
def test_gather_outside_the_pack_is_an_error(make_dataset, cache, positions):
    pack = packed(make_dataset(12), cache)
    with pytest.raises(IndexError, match="outside a pack of 12"):
        pack.gather(np.array(positions))


def test_prefix_is_extended_without_redoing_it(make_dataset, cache):
    root = make_dataset(12)
    first = packed(root, cache, count=5)
    before = written(cache)
    assert len(first) == 5 and len(before) == 4
    whole = packed(root, cache)
    assert len(whole) == 12
    assert {path: time for path, time in written(cache).items() if path in before} == before
    assert (first.gather(np.arange(5)).image == whole.gather(np.arange(5)).image).all()


def test_packing_again_decodes_nothing(make_dataset, cache, monkeypatch):
    root = make_dataset(6)
    packed(root, cache)
    monkeypatch.setattr(shards, "decode_triplet", None)
    assert len(packed(root, cache)) == 6


@pytest.mark.parametrize("suffix", [".npy", ".sums.npy"])
@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize(
    "damage", [lambda content: content[:-7], lambda content: content[:-7] + bytes(7), lambda content: b""]
)
def test_damaged_shard_is_named_and_packed_anew(suffix, restarted, damage, make_dataset, cache, monkeypatch, capsys):
    root = make_dataset(12)
    pack = packed(root, cache)
    before, stats, at = pack.gather(np.arange(12)), pack.stats, np.arange(12)
    path = shards.build_shard_path(pack.folder, 4, suffix)
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(damage(content))
    if restarted:  # after a power failure the times of a file may be as they were
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        found = shards._describe_state
        monkeypatch.setattr(shards, "_describe_state", lambda stat: [*found(stat)[:2], "another start"])
    elif suffix != ".npy":
        path.with_name("0000004.npy").touch()
    kept = shards.build_shard_path(pack.folder, 0).stat().st_mtime_ns
    again = packed(root, cache)
    assert capsys.readouterr().err == f"{pack.folder}/0000004.npy: damaged; packed again\n"
    assert path.read_bytes() == content and shards.build_shard_path(pack.folder, 0).stat().st_mtime_ns == kept
    assert (again.gather(at).image == before.image).all() and again.stats == stats
    monkeypatch.setattr(shards, "_compute_crc32", None)  # checked once for each start of the machine
    packed(root, cache)
    assert not capsys.readouterr().err


def test_faults_of_a_damaged_shard_do_not_outlast_it(make_dataset, cache):
    root = make_dataset(12)
    pack = packed(root, cache)
    shards.build_shard_path(pack.folder, 4).write_bytes(b"")
    shards.build_shard_path(pack.folder, 4, ".faults.json").write_text('{"0": ["broken file", "once"]}')
    assert len(packed(root, cache)) == 12 and not list(pack.folder.glob("*.faults.json"))


def test_shard_without_a_check_is_packed_anew_and_a_read_only_one_is_checked(make_dataset, cache, monkeypatch, capsys):
    root = make_dataset(6)
    pack = packed(root, cache)
    shards.build_shard_path(pack.folder, 4, ".check.json").write_bytes(bytes(30))
    packed(root, cache)
    assert "0000004.npy: damaged" in capsys.readouterr().err
    monkeypatch.setattr(shards, "_describe_state", lambda stat: [stat.st_size, stat.st_mtime_ns, "another start"])
    monkeypatch.setattr(shards, "_write_check", lambda *_: Path("/no such file").stat())
    packed(root, cache)
    assert not capsys.readouterr().err


def test_polarity_of_a_line_wins_over_that_of_the_folder(make_dataset, cache, write_manifest):
    root = make_dataset(2, spec={"near": "bright"})
    names = [{"image": f"fgbg00000{n}.png", "depth": f"fgbg00000{n}.png"} for n in (1, 2)]
    bright = packed(root, cache)
    write_manifest(root, [names[0] | {"near": ""}, names[1] | {"near": "dark"}])
    mixed = packed(root, cache)
    assert mixed.folder != bright.folder
    first, second = (mixed.gather(np.array([mixed.ids.index(f"fgbg00000{n}")])).depth for n in (1, 2))
    was = bright.gather(np.array([bright.ids.index("fgbg000001")])).depth
    assert (first == was).all()
    assert decode_depth(first)[0] + decode_depth(second)[0] == pytest.approx(1, abs=1e-4)


def test_changed_folder_is_packed_anew(make_dataset, cache):
    root = make_dataset(6)
    old = packed(root, cache)
    cv2.imwrite(str(root / "images" / "fgbg000001.png"), np.zeros((32, 32, 3), np.uint8))
    new = packed(root, cache)
    position = np.array([new.ids.index("fgbg000001")])
    assert new.folder != old.folder and new.gather(position).image.max() == 0 < old.gather(position).image.max()


def test_other_sizes_and_specs_have_their_own_pack(make_dataset, cache):
    root = make_dataset(4)
    folders = {packed(root, cache).folder, packed(root, cache, px=8).folder}
    (root / "dataset.json").write_text('{"near": "dark"}')
    assert len(folders | {packed(root, cache).folder}) == 3


def test_threads_give_the_same_arrays_as_one(make_dataset, tmp_path):
    root = make_dataset(12)
    one, three = (packed(root, tmp_path / str(n), workers=n).gather(np.arange(12)) for n in (1, 3))
    assert (one.image == three.image).all() and (one.depth == three.depth).all()


def test_deadline_leaves_the_first_shard_and_a_later_call_the_rest(make_dataset, cache):
    root = make_dataset(12)
    assert len(packed(root, cache, deadline=time.monotonic() - 1)) == 4
    assert not list(cache.rglob("*.part"))
    assert len(packed(root, cache)) == 12


def test_triplets_that_cannot_be_used_are_left_out_with_their_reasons(make_dataset, cache):
    root = make_dataset(12)
    clean = packed(root, cache)
    bad = {"fgbg000003": "unreadable", "fgbg000007": "size"}
    (root / "images" / "fgbg000003.png").write_bytes(b"no image")
    cv2.imwrite(str(root / "masks" / "mask000007.png"), np.zeros((20, 30), np.uint8))
    for workers in (1, 3):
        pack = packed(root, cache.parent / str(workers), workers=workers)
        assert {name: kind for name, (kind, _) in pack.faults.items()} == bad
        assert "fgbg000003.png: not a whole image" in pack.faults["fgbg000003"][1]
        assert (len(pack), pack.decoded) == (10, 12) and pack.ids == tuple(i for i in clean.ids if i not in bad)
        same = np.array([clean.ids.index(name) for name in pack.ids])
        assert (pack.gather(np.arange(10)).image == clean.gather(same).image).all()
        assert pack.stats.images == 10 and pack.stats.mask_mean == pytest.approx(clean.stats.mask_mean)
        pickled = pickle.dumps(pack)
        for path in pack.folder.glob("*.faults.json"):  # which another machine may not see yet
            path.unlink()
        assert pickle.loads(pickled).ids == pack.ids == pack.prefix(10).ids  # noqa: S301


def test_as_many_samples_as_wanted_are_found_behind_those_that_cannot_be_used(make_dataset, cache):
    root = make_dataset(12)
    for name in packed(root, cache).ids[:3]:  # of the first shard of four
        (root / "images" / f"{name}.png").write_bytes(b"no image")
    pack = packed(root, cache, count=4)
    assert (len(pack), pack.decoded, len(pack.faults)) == (4, 8, 3)
    assert len(packed(root, cache, count=12)) == 9


def test_nothing_usable_is_an_error_that_names_a_file(make_dataset, cache):
    root = make_dataset(3)
    for path in (root / "masks").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 3 triplets decoded can be used; .*mask\d+\.png"):
        packed(root, cache)


def test_image_that_the_system_withholds_is_an_error_and_leaves_no_partial_shard(make_dataset, cache, monkeypatch):
    root = make_dataset(6)
    read = Path.read_bytes

    def withheld(path):
        if path.name == "fgbg000003.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", withheld)
    with pytest.raises(DataError, match=r"fgbg000003\.png: cannot be read \(Permission denied\)"):
        packed(root, cache, workers=2)
    assert not list(cache.rglob("*.part"))
    assert len([path for path in written(cache) if "sums" not in path.name]) <= 1


def test_progress_counts_up_to_what_is_wanted(make_dataset, cache, monkeypatch):
    monkeypatch.setattr(shards, "STEP", 2)
    calls = []
    packed(make_dataset(12), cache, count=6, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 6), (4, 6), (6, 6), (6, 6)]


def test_no_triplets_is_an_error(make_dataset, cache):
    dataset = read_dataset(make_dataset(1))
    with pytest.raises(DataError, match="no triplets to pack"):
        pack_split(dataset, (), 16, cache=cache)


def test_unwritable_cache_is_an_error_that_says_what_to_set(make_dataset, tmp_path):
    root = make_dataset(1)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="ONE_LOOK_CACHE"):
        packed(root, tmp_path / "file")


def test_pack_survives_pickling_and_its_prefix_is_bounded(make_dataset, cache):
    pack = packed(make_dataset(6), cache)
    pack.gather(np.arange(6))
    again = pickle.loads(pickle.dumps(pack))  # noqa: S301
    assert len(pickle.dumps(pack)) < 1000
    assert (again.gather(np.arange(6)).image == pack.gather(np.arange(6)).image).all()
    assert len(pack.prefix(2)) == 2
    with pytest.raises(ValueError, match="holds 1 to 6"):
        pack.prefix(7)


@pytest.mark.parametrize("count", [3, 12])
def test_stats_are_those_of_the_samples_in_the_pack(make_dataset, cache, count):
    pack = packed(make_dataset(12, spec={"missing": 0}), cache, count=count)
    batch = pack.gather(np.arange(count))
    depth, valid = decode_depth(batch.depth)
    stats = pack.stats
    assert stats.images == count
    assert stats.image_mean == pytest.approx((batch.image / 255).mean(axis=(0, 1, 2)))
    assert stats.image_std == pytest.approx((batch.image / 255).std(axis=(0, 1, 2)))
    assert (stats.mask_mean, stats.mask_std) == pytest.approx(((batch.mask / 255).mean(), (batch.mask / 255).std()))
    assert (stats.depth_mean, stats.depth_std) == pytest.approx((depth[valid].mean(), depth[valid].std()), rel=1e-5)
    assert stats.depth_known == valid.mean()
    assert type(stats).from_dict(json.loads(json.dumps(stats.to_dict()))) == stats


def test_mask_only_data_packs_with_depth_unknown(make_dataset, cache):
    root = make_dataset(3)
    (root / "depth").rename(root.parent / "away")
    pack = packed(root, cache)
    assert not pack.gather(np.arange(3)).depth.any()
    assert pack.stats.depth_mean is None and pack.stats.depth_std is None and pack.stats.depth_known == 0


def test_depth_only_data_packs_with_masks_unknown(make_dataset, cache):
    root = make_dataset(3)
    (root / "masks").rename(root.parent / "away")
    pack = packed(root, cache)
    batch = pack.gather(np.arange(3))
    assert not batch.mask.any() and not batch.mask_known.any() and batch.depth.any()
    assert pack.stats.mask_mean is None and pack.stats.mask_std is None and pack.stats.mask_known == 0


def test_mixture_packs_with_what_each_sample_has(partial_datasets, cache):
    dataset = read_dataset(partial_datasets["mixed"])
    triplets = sort_nested(dataset.triplets)
    pack = pack_split(dataset, triplets, 16, cache=cache)
    batch = pack.gather(np.arange(len(pack)))
    assert batch.mask_known.tolist() == [triplet.mask is not None for triplet in triplets]
    assert batch.depth.any(axis=(1, 2)).tolist() == [triplet.depth is not None for triplet in triplets]
    masks = batch.mask[batch.mask_known] / 255
    assert (pack.stats.mask_mean, pack.stats.mask_std) == pytest.approx((masks.mean(), masks.std()))
    assert pack.stats.mask_known == 0.5 and pack.stats.depth_known == pytest.approx(0.75)


def test_statistics_on_record_from_before_masks_could_lack_say_that_all_are_known(make_dataset, cache):
    stats = packed(make_dataset(3), cache).stats
    before = {name: value for name, value in stats.to_dict().items() if name != "mask_known"}
    assert type(stats).from_dict(before) == stats


def test_command_prints_the_statistics_of_each_part(make_dataset, cache, monkeypatch, capsys):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(cache))
    root = make_dataset(8, spec={"near": "bright"})
    assert main([str(root), "--stats", "--px", "16", "--workers", "1", "--group-size", "2"]) == 0
    out = capsys.readouterr().out
    assert "train: 4 samples" in out and "val: 2 samples" in out and "test: 2 samples" in out
    assert "image red" in out and "depth" in out


def test_command_packs_folders_of_other_names(make_dataset, cache, monkeypatch, capsys):
    root = make_dataset(6)
    (root / "masks").rename(root / "things")
    (root / "depth").rename(root / "far")
    arguments = [str(root), "--px", "16", "--group-size", "2"]
    assert main(arguments) == 2
    capsys.readouterr()
    assert main([*arguments, "--images", "images", "--masks", "things", "--depth", "far"]) == 0
    assert "train: " in capsys.readouterr().out


def test_command_reports_a_fault_in_one_line_with_code_2(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no such folder" in err
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--px", "0"])
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("px", [80, 160])
def test_real_triplets_pack(shared_data, cache, px):
    pack = packed(shared_data / "triplets", cache, px=px)
    assert len(pack) == 29
    assert 0.05 < pack.stats.mask_mean < 0.3 and pack.stats.depth_known == 1


def test_pack_is_fetched_by_a_machine_without_it_and_holds_the_same(make_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    storage, root = f"file://{tmp_path}/storage", make_dataset(20)
    pack = packed(root, tmp_path / "cache", count=6).publish(storage)
    stored = {path.name for path in (tmp_path / "storage").rglob("*.npy") if "sums" not in path.name}
    assert stored == {"0000000.npy", "0000004.npy"}  # the shards of six samples
    sent = pickle.dumps(pack.prefix(5))
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "other"))
    found = pickle.loads(sent)  # noqa: S301
    assert found.folder.is_relative_to(tmp_path / "other") and len(found) == 5
    assert (found.gather(np.arange(5)).image == pack.gather(np.arange(5)).image).all()
    assert found.stats == pack.prefix(5).stats


def test_pack_that_a_storage_has_damaged_is_refused(make_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    sent = pickle.dumps(packed(make_dataset(8), tmp_path / "cache").publish(f"file://{tmp_path}/storage"))
    (shard,) = (tmp_path / "storage").rglob("0000004.npy")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "other"))
    with pytest.raises(StorageError, match=r"file://.*/packs/.*: 1 shards are damaged"):
        pickle.loads(sent)  # noqa: S301
