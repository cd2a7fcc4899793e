"""--encoder-weights: what is read, what is refused before Ray starts, and what a run records."""

import hashlib
import json
import sys

import optuna
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.architectures.registry import build_model
from models.config import ConfigError
from search.config.budget import parse_budget
from search.config.encoder_weights import read_encoder_weights
from search.config.options import RunOptions
from search.config.recipes import PORTFOLIO, build_recipe
from search.run import main
from search.study.search_space import build_first_points, build_space, limit_space, suggest
from search.study.space_settings import read_space
from tests.published import LITE0, RESNET18, published_lite, published_resnet18


class Malicious:
    """Creates a file when it is unpickled without weights_only."""

    def __reduce__(self):
        return (open, ("executed", "w"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory and cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path


def refused(capsys, *arguments):
    """Return the line with which the command refuses its arguments."""
    assert main(["--budget", "5m", "--out", "run", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


@pytest.mark.parametrize("name", ["gewichte-ä.pth", "resnet18.safetensors"])
def test_file_is_converted_once_and_its_hash_is_known(folder, name):
    weights = published_resnet18()
    (save_file if name.endswith(".safetensors") else torch.save)(weights, folder / name)
    found = read_encoder_weights(name)
    assert found.sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest() and found.model == RESNET18
    tensors = load_file(found.path)
    assert found.path.is_relative_to(folder / "cache") and torch.equal(
        tensors["stem.0.0.weight"], weights["conv1.weight"]
    )
    (folder / name).unlink()
    assert found.restore() == found


def test_lost_cache_is_filled_from_the_source_unless_it_has_changed(folder):
    torch.save(published_lite(0), "lite.pth")
    found = read_encoder_weights("lite.pth")
    found.path.unlink()
    assert found.restore() == found and found.path.is_file()
    found.path.unlink()
    torch.save(published_lite(0), "lite.pth")
    with pytest.raises(ConfigError, match=r"lite.pth is not the file that the run began with \(sha256 [0-9a-f]{12}\)"):
        found.restore()


def test_command_names_the_tensor_that_does_not_fit(folder, capsys):
    torch.save({**published_resnet18(), "layer3.0.conv2.weight": torch.zeros(256, 256, 1, 1)}, "wrong.pth")
    said = refused(capsys, "--encoder-weights", "wrong.pth")
    assert (
        "wrong.pth: layer3.0.conv2.weight of the weights is (256, 256, 1, 1); the encoder needs (256, 256, 3, 3)"
        in said
    )
    assert not (folder / "run").exists() and not (folder / "cache" / "encoders").exists()


def test_command_does_not_execute_a_malicious_file(folder, capsys):
    torch.save({**published_resnet18(), "extra": Malicious()}, "evil.pth")
    assert "evil.pth: not a file of tensors only" in refused(capsys, "--encoder-weights", "evil.pth")
    assert not (folder / "executed").exists()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "cannot be read (No such file or directory)"),
        (lambda path: path.mkdir(), "cannot be read (Is a directory)"),
        (lambda path: path.write_bytes(b""), "not a file of tensors only"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "not a file of tensors only"),
        (lambda path: path.write_bytes(b"(abc\n"), "not a file of tensors only"),
        (lambda path: torch.save({"state_dict": published_resnet18()}, path), "not a state dict"),
        (lambda path: torch.save(torch.zeros(2), path), "not a state dict"),
        (lambda path: torch.save({"a": torch.zeros(2)}, path), "no tensor has a name and shape of timm's"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_command_says_what_is_wrong_with_a_file(folder, capsys, write, message, suffix):
    path = folder / f"weights{suffix}"
    write(path)
    said = refused(capsys, "--encoder-weights", path.name)
    assert path.name in said and (message in said or (suffix == ".safetensors" and "not a file of tensors" in said))


def test_repository_needs_a_package_and_a_connection(folder, capsys, monkeypatch):
    def fail(repository, name):
        raise OSError(f"{repository} cannot be reached\nmore lines")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    said = refused(capsys, "--encoder-weights", "hf:timm/resnet18")
    assert (
        "hf:timm/resnet18: cannot be downloaded: timm/resnet18 cannot be reached; download the file elsewhere" in said
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install -e '.[hub]'" in refused(capsys, "--encoder-weights", "hf:timm/resnet18")


def test_repository_gives_its_file(folder, monkeypatch):
    def download(repository, name):
        if name == "model.safetensors":
            raise huggingface_hub.errors.RemoteEntryNotFoundError("404", response=httpx.Response(404, request=request))
        torch.save(published_lite(1), name)
        return str(folder / name)

    huggingface_hub, httpx = pytest.importorskip("huggingface_hub"), pytest.importorskip("httpx")
    request = httpx.Request("GET", "https://huggingface.co")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    found = read_encoder_weights("hf:timm/tf_efficientnet_lite1.in1k")
    assert found.model == {**LITE0, "variant": 1} and found.source == "hf:timm/tf_efficientnet_lite1.in1k"


def test_command_wants_weights_and_configurations_that_need_each_other(folder, capsys):
    torch.save(published_resnet18(), "resnet18.pth")
    said = refused(capsys, "--encoder-weights", "resnet18.pth", "--recipe", "unet")
    assert "resnet18.pth: no configuration uses resnet18_ed" in said
    said = refused(capsys, "--encoder-weights", "resnet18.pth", "--arch", "unet")
    assert "resnet18.pth: the search has no resnet18_ed; add it to --arch, or leave out --encoder-weights" in said
    (folder / "grid.json").write_text(json.dumps([{"model/arch": "efficientnet_lite", "model/weights": "file"}]))
    said = refused(capsys, "--grid", "grid.json")
    assert "efficientnet_lite with weights 'file' needs --encoder-weights" in said


def limit(name, **options):
    return limit_space(1000, narrow=True, configured=read_space({}, read_encoder_weights(name)), **options)


def test_search_tries_the_encoder_of_the_weights_and_nothing_else_of_its_architecture(folder):
    torch.save(published_resnet18(), "resnet18.pth")
    limits = limit("resnet18.pth")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [(trial := study.ask(), suggest(trial, limits)) for _ in range(60)]
    own = [(trial.params, config.model) for trial, config in trials if config.model.arch == "resnet18_ed"]
    assert own and {(m.width, m.stem_stride, m.weights) for _, m in own} == {(64, 2, "file")}
    assert len({params["resnet18_ed/encoder_lr"] for params, _ in own}) == len(own)
    assert {config.model.weights for _, config in trials if config.model.arch == "efficientnet_lite"} == {"imagenet"}
    assert "resnet18_ed/encoder_lr" not in build_space()


def test_what_is_stated_of_the_encoder_s_training_is_kept(folder):
    torch.save(published_resnet18(), "resnet18.pth")
    read = read_space({"resnet18_ed.encoder_lr": 0.1}, read_encoder_weights("resnet18.pth"))
    assert read["resnet18_ed/encoder_lr"] == (0.1,) and read["resnet18_ed/freeze_norm"] == (False, True)
    assert read["resnet18_ed/width"] == (64,)


def test_recipes_of_the_weights_are_tried_first_even_in_a_narrow_space(folder):
    torch.save(published_resnet18(), "resnet18.pth")
    limits = limit("resnet18.pth")
    study = optuna.create_study()
    for point in build_first_points(limits, lambda config: True, PORTFOLIO):
        study.enqueue_trial(point)
    possible = [name for name in PORTFOLIO if build_recipe(name).model.arch in limits["model/arch"]]
    assert (suggest(study.ask(), limits).model.arch, len(study.trials)) == ("resnet18_ed", len(possible))
    assert len(possible) > 1
    assert "resnet18_ed" not in limit_space(1000, narrow=True)["model/arch"]


def test_first_points_have_the_encoder_of_the_weights(folder):
    torch.save(published_lite(2), "lite2.pth")
    limits, encoder = limit("lite2.pth"), read_encoder_weights("lite2.pth")
    study = optuna.create_study()
    for point in build_first_points(limits, lambda config: True, ["quick_efficientnet"]):
        study.enqueue_trial(point)
    first = suggest(study.ask(), limits)
    assert first.model == encoder.pin(build_recipe("quick_efficientnet")).model and first.model.variant == 2
    assert build_model(first.model).load_pretrained(encoder.path) is None


def test_run_json_has_source_hash_and_encoder(folder):
    torch.save(published_lite(0), "lite.pth")
    options = RunOptions(budget=parse_budget("5m"), encoder_weights=read_encoder_weights("lite.pth"))
    written = json.loads(json.dumps(options.to_dict()))
    assert written["encoder_weights"]["sha256"] == hashlib.sha256((folder / "lite.pth").read_bytes()).hexdigest()
    assert RunOptions.from_dict(written) == options
