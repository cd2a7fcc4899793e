"""Help of the commands of analysis comes at once: packages that take seconds are imported after it."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "pandas", "plotly", "matplotlib", "onnx", "ray", "optuna", "scipy")


@pytest.mark.parametrize("command", ["report", "plots", "compare", "predict", "export", "demo"])
def test_help_imports_nothing_heavy(command):
    code = (
        f"import runpy, sys\nsys.argv = [{command!r}, '--help']\n"
        f"try: runpy.run_module('analysis.{command}', run_name='__main__')\n"
        f"finally: print('imported', [name for name in {HEAVY} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "usage: python -m analysis." in ended.stdout
    assert ended.stdout.endswith("imported []\n")
