import json
import shutil
import sys
from functools import cache
from io import BytesIO

import jaxtyping
import numpy as np
import pytest
import torch

from analysis import load_model
from analysis.export.__main__ import SUFFIXES, main
from analysis.export.exporter import ExportError, describe, draw_random_images, export, measure_difference
from analysis.export.formats import FORMATS, Format
from analysis.predict.model import Model
from data.pack.stats import Stats
from models.architectures.blocks import Head
from models.architectures.registry import ARCHITECTURES, build_model
from search.config.trial import TrialConfig

onnxruntime = pytest.importorskip("onnxruntime", reason='pip install -e ".[export]" brings it')

ROUNDING = 5e-5  # untrained networks, whose logits are large, make much of it
NETWORKS = {  # pixel shuffle, transposed and bilinear; both heads, with and without skips
    "atrous": {"stem_stride": 1, "upsample": "transposed", "head": "minmax", "dilations": [2]},
    "efficientnet_lite": {},
    "residual": {"stem_stride": 4, "dilations": [2, 4]},
    "resnet18_ed": {"stem_stride": 2},
    "unet": {"stem_stride": 4, "levels": 3, "block": "plain", "upsample": "bilinear", "merge": "add", "groups": 2},
}


@pytest.fixture(autouse=True)
def shapes_unchecked(monkeypatch):
    """Let sizes be symbols, as torch.export has them, where tests check annotated shapes otherwise."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@cache
def untrained(arch):
    """Return a model whose maps are not flat and whose norms have moments."""
    torch.manual_seed(1)
    config = TrialConfig.from_dict({"model": {"arch": arch, "width": 4, **NETWORKS[arch]}})
    network = build_model(config.model).eval().move_to("cpu")
    for module in network.modules():
        if isinstance(module, Head):
            module.project.weight.data *= 20
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    stats = Stats(40, (0.4, 0.5, 0.6), (0.3, 0.25, 0.2), 0.1, 0.3, 0.4, 0.2, 1.0)
    return Model(network=network, config=config, stats=stats, px=48, trial_id="f0001")


@cache
def exported(arch, to):
    """Return the export of an untrained model, made once."""
    return export(untrained(arch), to)


def test_every_architecture_and_every_format_is_tested():
    assert NETWORKS.keys() == ARCHITECTURES.keys() and SUFFIXES.keys() == FORMATS.keys()


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[pytest.mark.slow] * (arch == "efficientnet_lite")) for arch in NETWORKS]
)
def test_file_gives_what_the_model_gives_at_any_size(arch, to):
    model, made = untrained(arch), exported(arch, to)
    assert made.difference < ROUNDING and made.latency_ms > 0 and made.torch_latency_ms > 0
    program = FORMATS[to].open(made.content)
    for size in [(1, 48, 48), (4, 130, 67), (2, 16, 128)]:  # others than it was checked with
        rgb = torch.randint(0, 256, (size[0], 3, *size[1:]), dtype=torch.uint8)
        maps = torch.from_numpy(model.predict_squares(rgb.permute(0, 2, 3, 1).numpy()))
        mask, depth = program(rgb)
        assert mask.shape == depth.shape == (size[0], 1, *size[1:])
        torch.testing.assert_close(torch.cat((mask, depth), 1), maps, atol=ROUNDING, rtol=0)


def test_onnx_file_names_its_axes_and_holds_its_description():
    import onnx

    model = untrained("residual")
    content = exported("residual", "onnx").content
    proto = onnx.load(BytesIO(content))
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    one = ["images", 1, "height", "width"]
    assert shapes == {"rgb": ["images", 3, "height", "width"], "mask": one, "depth": one}
    assert {prop.key: prop.value for prop in proto.metadata_props} == describe(model)


def test_torch_file_holds_its_description():
    model = untrained("residual")
    said = {"about.json": ""}
    torch.export.load(BytesIO(exported("residual", "torch_export").content), extra_files=said)
    assert json.loads(said["about.json"]) == describe(model)


@pytest.mark.parametrize("to", ["onnx", "torch_export"])
def test_file_contains_nothing_of_the_machine(to):
    assert sys.prefix.encode() not in (content := exported("residual", to).content)
    assert b"formats.py" not in content


def test_model_is_left_as_it_was():
    model = untrained("residual")
    order = [weight.is_contiguous(memory_format=torch.channels_last) for weight in model.network.parameters()]
    export(model, "torch_export")
    assert order == [w.is_contiguous(memory_format=torch.channels_last) for w in model.network.parameters()]


def wrong_program(rgb):
    """Stand in for an exporter's mistake: nothing anywhere."""
    empty = torch.zeros(len(rgb), 1, *rgb.shape[2:])
    return empty, empty


def test_difference_that_is_too_large_and_sizes_that_fail_are_errors():
    model = untrained("residual")
    with pytest.raises(ExportError, match=r"differs from the model by up to 0\.\d+ on 1 x 16 x 16 images"):
        measure_difference(wrong_program, model, [(1, 16, 16)])
    with pytest.raises(ExportError, match="differs from the model by up to nan"):
        measure_difference(lambda rgb: [torch.nan * half for half in wrong_program(rgb)], model, [(1, 16, 16)])
    with pytest.raises(ExportError, match="does not run on 2 x 16 x 32 images"):
        measure_difference(lambda rgb: wrong_program(rgb[:, :2].view(1)), model, [(2, 16, 32)])


def test_checks_report_progress_and_random_images_depend_on_the_size_only():
    model, calls = untrained("residual"), []
    portable = FORMATS["torch_export"].open(exported("residual", "torch_export").content)
    sizes = [(1, 16, 16), (2, 20, 30)]
    measure_difference(portable, model, sizes, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    first, again = (draw_random_images((2, 20, 30)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (2, 3, 20, 30) and first.min() < 60 and first.max() > 190


def test_command_writes_beside_the_weights_and_prints_what_it_measured(finished_run, tmp_path, capsys):
    run = shutil.copytree(finished_run, tmp_path / "run")
    assert main([str(run), "--to", "torch_export"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.splitlines()[0].startswith(f"{run / 'best' / 'model.pt2'}  (")
    assert "largest difference from the model" in said.out and "one image of 32 px on one thread: " in said.out
    program = torch.export.load(run / "best" / "model.pt2").module()
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    maps = program(torch.from_numpy(photo).permute(2, 0, 1)[None])
    expected = load_model(run, device="cpu").predict_squares(photo[None])[0]
    np.testing.assert_allclose(torch.cat(maps, 1)[0].detach(), expected, atol=ROUNDING)


def test_onnx_file_takes_photos_as_numpy_reads_them():
    model, content = untrained("residual"), exported("residual", "onnx").content
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    photo = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    maps = session.run(None, {"rgb": photo.transpose(2, 0, 1)[None]})
    np.testing.assert_allclose(np.concatenate(maps, 1)[0], model.predict_squares(photo[None])[0], atol=ROUNDING)


def test_command_writes_nothing_that_is_unlike_the_model(finished_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(FORMATS, "onnx", Format(lambda *_: b"", lambda content: wrong_program))
    assert main([str(finished_run), "--to", "onnx", "--out", str(tmp_path / "model.onnx")]) == 1
    said = capsys.readouterr()
    assert (
        said.err.startswith("error: the file differs from the model") and said.err.count("\n") == 1 and said.out == ""
    )
    assert not list(tmp_path.iterdir())


def test_command_reports_that_a_format_cannot_express_the_network(finished_run, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise TypeError("no such operator\nand a long trace")

    for form in (Format(refuse, lambda content: wrong_program), Format(lambda *_: b"half a file", refuse)):
        monkeypatch.setitem(FORMATS, "onnx", form)
        assert main([str(finished_run), "--to", "onnx", "--out", str(tmp_path / "model.onnx")]) == 1
        assert capsys.readouterr().err == "error: onnx cannot express this network (no such operator)\n"
        assert not any(tmp_path.iterdir())


def test_wrong_arguments_are_one_line_and_exit_code_2(finished_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(FORMATS, "torch_export", Format(*[None] * 2, packages=("no_such_package",)))
    calls = {
        "no such file or folder": [tmp_path / "none", "--to", "onnx"],
        "is a folder": [finished_run, "--to", "onnx", "--out", tmp_path],
        'no_such_package: not installed; run pip install -e ".[export]"': [finished_run, "--to", "torch_export"],
    }
    for reason, arguments in calls.items():
        assert main([*map(str, arguments)]) == 2, reason
        said = capsys.readouterr()
        assert said.err.startswith("error: ") and reason in said.err and said.err.count("\n") == 1 and not said.out
