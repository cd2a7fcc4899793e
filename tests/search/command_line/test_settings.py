"""The settings file: printed and read, narrower than the default, and wrong in many ways."""

import json
from pathlib import Path

import pytest

from models.architectures.registry import ARCHITECTURES
from search.command_line.checks import build_options
from search.command_line.settings import COMMAND_ONLY, format_settings, parse_arguments
from search.config.budget import parse_budget
from search.config.options import RunOptions
from search.config.stages import build_stages
from search.run import build_parser, main
from search.study.space_settings import simplify_space

FIVE = parse_budget("5m")


def read(folder, text, *arguments):
    """Return the parsed arguments of a settings file with this text."""
    path = Path(folder, "réglages.toml")
    path.write_text(text, encoding="utf-8")
    return parse_arguments(build_parser(), ["--config", str(path), *arguments])


def printed(capsys, *arguments):
    assert main(["--print-config", *arguments]) == 0
    return capsys.readouterr().out


def as_options(args):
    args.space = simplify_space(args.space)
    return RunOptions.from_args(args, budget=FIVE, configs=())


def test_printed_default_is_read_as_the_default(tmp_path, capsys):
    text = printed(capsys)
    args = read(tmp_path, text)
    assert as_options(args) == RunOptions(budget=FIVE)
    kept = vars(args) | {"config": None}
    assert kept == vars(build_parser().parse_args([]))
    named = [line for line in text.splitlines() if line and not line.startswith(("[", "# "))]
    assert all("  # " in line for line in named) and len(named) > 50


def test_each_commented_line_states_an_option_once_the_mark_is_removed(tmp_path, capsys):
    lines = printed(capsys, "--px", "224").splitlines()
    start = lines.index("[stage.explore]")
    of_tables = [line.removeprefix("# ") for line in lines[start:]]
    args = read(tmp_path, "\n".join(of_tables), "--px", "224")
    assert args.stage["explore"] == {"fraction": 0.1, "px": 112, "epochs": 9, "share": 0.4}
    assert build_stages(px=224, configured=args.stage)[0] == build_stages(px=224)[0]
    decided = {"model.arch": list(ARCHITECTURES), "optim.batch_size": [8, 16, 32]}
    assert simplify_space(args.space) == {**decided, "augment.zoom": [0.0]}  # a line removes it


def test_settings_that_differ_from_the_default_come_back(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--arch", "unet,residual", "--set", "optim.lr={low=1e-3, high=1e-2}", "--set", "stage.confirm.top_k=1"]
    given += ["--budget", "2h", "--data", "a", "b é", "--missing", "0,255", "--refine", "--max-params", "250k"]
    text = printed(capsys, *given)
    args = read(tmp_path, text)
    assert (args.budget, args.data) == ("2h", [tmp_path / "a", tmp_path / "b é"])
    options = as_options(args)
    assert options == as_options(parse_arguments(build_parser(), given))
    assert options.space["model.arch"] == ["unet", "residual"] and options.stage == {"confirm": {"top_k": 1}}
    assert RunOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_command_line_has_precedence_over_the_file_over_the_default(tmp_path):
    text = 'seed = 3\npx = 192\nfind_lr = true\n[space]\nmodel.arch = ["unet", "atrous"]\n"optim.lr" = 0.1'
    args = read(tmp_path, text, "--px", "224", "--no-find-lr", "--arch", "residual")
    assert (args.seed, args.px, args.find_lr, args.keep) == (3, 224, False, 0)
    assert args.space == {"optim.lr": 0.1, "model.arch": "residual"}


def test_weights_of_the_score_come_from_file_and_command_line(tmp_path, capsys):
    assert read(tmp_path, "score.mask = 0.8").score == {"iou": 0.8, "rmse_depth": 0.2}
    assert read(tmp_path, "[score]\niou = 0.5", "--set", "score.delta1=0.5").score == {"iou": 0.5, "delta1": 0.5}
    assert read(tmp_path, "[score]\nmask = 0.5\ndepth = 0.5").score == {}  # as the default has it
    assert read(tmp_path, printed(capsys), "--set", "score.mask=0.8").score == {"iou": 0.8, "rmse_depth": 0.2}
    text = printed(capsys, "--set", "score.boundary_f=1")
    assert "boundary_f = 1.0  # boundary F of the mask" in text and read(tmp_path, text).score == {"boundary_f": 1.0}


def test_objectives_are_a_list_in_the_file_and_change_the_stages(tmp_path):
    args = read(tmp_path, 'objectives = ["score", "latency_ms"]')
    configured = read(tmp_path, "", "--objectives", "score,latency_ms")
    assert args.objectives == configured.objectives == ("score", "latency_ms")
    options = as_options(args)
    assert RunOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options
    for stage, usual in zip(options.build_stages(50), RunOptions(budget=FIVE).build_stages(50), strict=True):
        assert stage.objectives == ("score", "latency_ms") and not stage.early_stopping
        assert not (stage.include_smallest or stage.include_pretrained) and stage.controls == usual.controls
    assert RunOptions(budget=FIVE).build_stages(50) == build_stages(trainings=50)


def test_paths_in_a_file_start_from_its_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    args = read(tmp_path, 'data = ["images", "~/b"]\nout = "runs/é"\nencoder_weights = "lite.pth"')
    assert args.encoder_weights == str(tmp_path / "lite.pth")
    assert read(tmp_path, 'encoder_weights = "hf:timm/resnet18"').encoder_weights == "hf:timm/resnet18"
    assert args.data == [tmp_path / "images", tmp_path / "home" / "b"] and args.out == tmp_path / "runs" / "é"


def test_stage_has_what_is_stated_and_its_repeats_follow():
    configured = {"explore": {"px": 96}, "confirm": {"top_k": 1}, "final": {"epochs": 5, "top_k": 1}}
    explore, confirm, final, repeat = build_stages(configured=configured)
    assert (explore.px, explore.epochs) == (96, 9) and (final.epochs, repeat.epochs) == (5, 5)
    assert confirm.top_k == 1 and not (confirm.include_smallest or confirm.include_pretrained or confirm.controls)
    assert final.top_k == 1 and repeat.top_k == build_stages()[3].top_k


WRONG = {  # the file, and what its line says
    "": "--budget is missing",
    'budget = "5': "is not TOML",
    'budget = "5m"\nbudget = "6m"': "is not TOML",
    'budjet = "5m"': "there is no setting 'budjet'; the nearest is 'budget'",
    'budget = "soon"': "'soon' is not a budget",
    "budget = 5": "'5' is not a budget",
    'resume = "runs/x"': "--resume is given on the command line",
    "seed = -1": "seed: '-1' is not a whole number",
    "seed = [1, 2]": "seed = [1, 2] must be a string or a number",
    "seed = true": "seed = True must be a string or a number",
    "px = 95": "px: '95' is not a whole number of pixels from 96 to 512",
    "workers = 0": "workers: '0' is not a whole number, at least 1",
    'refine = "no"': "refine = 'no' must be true or false",
    'sampler = "grid"': "sampler = 'grid' is not one of tpe, random",
    'max_params = "many"': "max_params: 'many' is not an amount",
    'missing = ["none"]': "missing: 'none' is not a number",
    "width = 4.5": "width: '4.5' is not a number",
    'near = "dim"': "near = 'dim' is not one of bright, dark",
    '"optim.lr" = 0.01': "a parameter of the search space is written below [space]",
    'space = "unet"': "space = 'unet' must be a table",
    "[stage.explroe]\npx = 80": "stage has no 'explroe'; the nearest is 'explore'",
    "[stage.explore]\nepoch = 3": "stage.explore has no 'epoch'; the nearest is 'epochs'",
    "[stage.explore]\npx = 20": "stage.explore.px = 20 must be a whole number from 48 to 512",
    "[stage.explore]\ntop_k = 3": "stage.explore has no 'top_k'",
    "[stage.final]\npx = 224": "--px sets the size of the last stage",
    'stages = "single"\nstage.explore.px = 80': "--px sets the size of the last stage",
    "[stage.final]\nshare = 0": "stage.final.share = 0 must be a number from 0.001 to 1",
    'objectives = ["latency_ms", "score"]': "'latency_ms,score' must begin with score, optionally followed by params",
    'objectives = "score,iou"': "'score,iou' must begin with score",
    "score.mask = 2": "score.mask = 2 must be a number from 0 to 1",
    "score.boundery_f = 1": "score has no field 'boundery_f'; the nearest is 'boundary_f'",
    "[score]\nmask = 0\ndepth = 0": "score: all weights are 0",
    "score = 0.5": "score = 0.5 must be a table",
    "stage.explore = 3": "stage.explore = 3 must be a table of fraction, px, epochs, share",
}
WRONG_SPACES = {
    '"optim.lrr" = 0.1': "there is no parameter 'optim.lrr'; the nearest is 'optim.lr'",
    '"model.arch" = ["vgg"]': "model.arch: arch='vgg' is not one of unet, resnet18_ed",
    '"model.arch" = []': "model.arch: has no value",
    '"model.width" = [2]': "width=2 must be from 4 to 256",
    '"unet.width" = [8, 999]': "unet.width: width=999 must be from 4 to 256",
    '"unet.width" = {low = 4, high = 8}': "unet.width: takes a list of values; a range is for real numbers",
    '"adamw.lr" = {low = 0.1, high = 0.01}': "low 0.1 must be below high 0.01",
    '"adamw.lr" = {low = 0.0}': "log needs a low above 0",
    '"adamw.lr" = {lo = 0.1}': "a range has no field 'lo'; the nearest is 'low'",
    '"optim.momentum" = {low = 0.1}': "optim.momentum: a range needs high",
    '"optim.lr" = "fast"': "optim.lr: lr='fast' must be of type float",
    '"optim.batch_size" = [8, 8]': "contains a value twice",
    '"augment.flip" = [0.5, 2.0]': "a probability lies within 0 and 1",
    'remove = "augment.flip"': "remove = 'augment.flip' must be a list of parameters",
    'remove = ["model.arch"]': "model.arch has no default; name one architecture",
    'remove = ["augment.flap"]': "there is no parameter 'augment.flap'; the nearest is 'augment.flip'",
    "loss = 3": "there is no parameter 'loss'",
    '"loss.balance" = ["even"]': "'even' is not one of fixed, adaptive, uncertainty",
}


@pytest.mark.parametrize(("text", "said"), [*WRONG.items(), *((f"[space]\n{t}", s) for t, s in WRONG_SPACES.items())])
def test_wrong_file_is_one_clear_line(text, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("search.toml").write_text(text, encoding="utf-8")
    budget = [] if "budget" in text or not text else ["--budget", "5m"]
    assert main(["--config", "search.toml", *budget]) == 2
    captured, starts = capsys.readouterr(), ("error: --config ", "error: --budget ")
    assert captured.out == "" and captured.err.startswith(starts) and captured.err.count("\n") == 1
    assert said in captured.err
    assert list(tmp_path.iterdir()) == [tmp_path / "search.toml"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.toml", None, "cannot be read"),
        ("latin.toml", b'data = "\xe9"', "is not TOML"),
        (".", None, "cannot be read"),
    ],
)
def test_file_that_cannot_be_read_is_one_clear_line(name, content, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    assert main(["--budget", "5m", "--config", name]) == 2
    assert said in capsys.readouterr().err


def test_file_of_a_windows_editor_is_read(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfseed = 4\r\n")
    assert parse_arguments(build_parser(), ["--config", str(tmp_path / "a.toml")]).seed == 4


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("px=224", "write NAME=VALUE"),
        ("optim.lr", "write NAME=VALUE"),
        ("optim.lrr=0.1", "the nearest is 'optim.lr'"),
        ("nosuch.key=1", "there is no parameter 'nosuch.key'; --print-config lists all parameters\n"),
        ("stage.zzz.px=80", "stage has no 'zzz'; it is one of explore, confirm, final\n"),
        ("stage.explore.px=8", "must be a whole number from 48 to 512"),
    ],
)
def test_wrong_assignment_is_one_clear_line(assignment, said, capsys):
    assert main(["--budget", "5m", "--set", assignment]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def test_empty_list_of_architectures_is_refused_by_the_name_of_its_option(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--budget", "5m", "--arch", ""])
    assert capsys.readouterr().err.startswith("error: argument --arch: no architecture is named")


def test_space_without_a_network_that_meets_the_constraint_is_refused_before_anything_starts(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--budget", "5m", "--out", str(out), "--max-params", "30k"]
    assert main([*arguments, "--arch", "efficientnet_lite"]) == 2
    assert "no network of the search space meets this" in capsys.readouterr().err and not out.exists()
    assert main([*arguments, "--set", "model.arch=unet", "--set", "unet.width=16"]) == 2
    assert "no network of the search space meets this" in capsys.readouterr().err


def test_recipe_and_a_stated_space_exclude_each_other(capsys):
    assert main(["--budget", "5m", "--recipe", "study", "--arch", "unet"]) == 2
    assert "--recipe and --grid do not search" in capsys.readouterr().err


def test_printed_space_does_not_exclude_a_recipe(tmp_path, capsys):
    args = read(tmp_path, printed(capsys), "--recipe", "study")
    options = build_options(args, FIVE)
    assert len(options.configs) == 1 and options.space == {}


def test_settings_of_a_resumed_run_are_those_that_it_recorded(tmp_path, capsys):
    assert main(["--resume", str(tmp_path), "--arch", "unet"]) == 2
    assert "--arch applies only to a new run" in capsys.readouterr().err


def test_more_gpus_than_there_are_is_refused(monkeypatch, capsys):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["--budget", "5m", "--gpus", "64"]) == 2
    assert "--gpus 64: this machine has 0" in capsys.readouterr().err


def test_help_of_every_setting_is_in_the_file():
    parser = build_parser()
    text = format_settings(parser, parser.parse_args([]))
    for action in parser._actions:
        assert action.dest in COMMAND_ONLY or (f"{action.dest} = " in text and f"# {action.help}" in text)
