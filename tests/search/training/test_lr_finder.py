import subprocess
import sys

import numpy as np
import pytest

from search.config.recipes import KNOWN
from search.training import lr_finder
from search.training.lr_finder import RangeTest, SteepestSlope, main, plot_range_test

RATES = list(np.geomspace(1e-5, 1.0, 100))
SLOPE = SteepestSlope(rates=(1e-3, 1e-2), losses=(1.1, 0.8), slope=-0.13, standard_errors=9.0)
FALLING = RangeTest(rates=RATES, losses=list(np.linspace(1.2, 0.7, 100)), steepest=SLOPE)
FLAT = RangeTest(rates=RATES, losses=[1.0] * 100, steepest=None)
SHORT = RangeTest(rates=RATES[:3], losses=[1.0, 1.0, 9.0], steepest=None)  # the loss explodes at once
EMPTY = RangeTest(rates=[], losses=[], steepest=None)  # the first loss is not finite


def test_plot_is_written_with_and_without_a_suggestion(tmp_path):
    for name, test in (("with.png", FALLING), ("without.png", FLAT)):
        plot_range_test(test, tmp_path / name, "a title")
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


def arguments(folder, tmp_path, **changed):
    values = {"data": folder, "recipe": "quick_unet", "px": 32, "out": tmp_path / "lr.png", **changed}
    return [str(part) for name, value in values.items() for part in (f"--{name}", value)]


@pytest.mark.parametrize("test", [FALLING, FLAT, SHORT, EMPTY])
def test_command_prints_one_line_and_plots(tiny_dataset, tmp_path, capsys, monkeypatch, test):
    monkeypatch.setattr(lr_finder, "run_range_test", lambda *args, **options: test)
    code = main(arguments(tiny_dataset, tmp_path))
    printed = capsys.readouterr()
    assert (tmp_path / "lr.png").exists() and printed.err == "" and printed.out.count("\n") == 1
    assert code == (0 if test is FALLING else 1)
    assert (
        ("learning rate 3." in printed.out) if test is FALLING else ("no learning rate from 1e-05 to 1" in printed.out)
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": "nothing"}, "no recipe 'nothing'; choose from " + ", ".join(KNOWN)),
        ({"width": 1}, "width=1 must be from 4"),
        ({"data": "nowhere"}, "nowhere"),
        ({"out": "no/such/folder.png"}, "--out no/such/folder.png: give a file in a folder that exists"),
        ({"recipe": "unet"}, "32"),  # too small for its MS-SSIM
    ],
)
def test_wrong_input_is_reported_in_one_line(tiny_dataset, tmp_path, capsys, changed, message):
    assert main(arguments(tiny_dataset, tmp_path, **changed)) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("error: ") and message in printed.err


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
def test_seed_that_cannot_be_used_is_refused(seed, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments("nowhere", tmp_path, seed=seed))
    assert ended.value.code == 2 and f"'{seed}' is not a whole number from 0 to" in capsys.readouterr().err


def test_size_that_is_too_small_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments("nowhere", tmp_path, px=8))
    assert ended.value.code == 2 and "'8' is not a whole number of pixels, at least 32" in capsys.readouterr().err


def test_finder_is_a_command():
    command = [sys.executable, "-m", "search.training.lr_finder", "--data", "nowhere", "--recipe", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: no recipe 'nothing'")
