"""The edits that CONTRIBUTING.md shows, applied to a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```(python|diff) (\S+)\n(.*?)```", re.S)
EDITED = {
    "models/architectures/tiny.py",
    "models/architectures/registry.py",
    "models/losses/slopes.py",
    "models/losses/registry.py",
}
EDITED |= {"data/loading/augment.py", "data/values/decoding.py"}
TRAIN = """
import pathlib
import numpy as np, optuna, torch
from data.loading.augment import Augment
from data.pack.pack import RawBatch
from data.values.decoding import decode_label, read_pixels
from models.architectures.registry import build_model
from models.losses.loss import build_loss
from models.target import Target
from search.study.search_space import build_space, list_smallest_networks, suggest

study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
configs = [suggest(study.ask(), build_space()) for _ in range(800)]
config = next(
    c
    for c in configs
    if c.model.arch == "tiny" and c.loss.mask_structural == c.loss.depth_structural == "slopes" and c.augment.noise
)
assert "tiny" in {c.model.arch for c in list_smallest_networks(build_space())}

rng = np.random.default_rng(0)
image, mask = rng.integers(0, 256, (8, 32, 32, 3), np.uint8), rng.integers(0, 2, (8, 32, 32), np.uint8)
raw = RawBatch(image, mask, np.full((8, 32, 32), 9, np.uint16), np.ones(8, bool))
noisy = RawBatch(image.copy(), mask.copy(), raw.depth.copy(), raw.mask_known)
Augment(type(config.augment)(flip=0.0, noise=1.0)).change(noisy, np.arange(8, dtype=np.uint64))
assert (noisy.image != raw.image).any() and (noisy.mask == raw.mask).all()

batch = torch.from_numpy(noisy.image).permute(0, 3, 1, 2) / 255
target = Target(*(torch.rand(8, 1, 32, 32) for _ in range(2)), torch.rand(8, 1, 32, 32) > 0.2, torch.ones(8).bool())
model, loss = build_model(config.model), build_loss(config.loss, 32)
optimizer, totals = torch.optim.AdamW(model.parameters(), 1e-2), []
for _ in range(2):
    losses = loss(model(batch), target)
    assert losses.parts["mask_structural"] > 0 and losses.parts["depth_structural"] > 0
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    totals.append(losses.total.item())
assert totals[0] != totals[1] and all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

pathlib.Path("depth.raw").write_bytes(b"RAW32" + bytes([128]) * 1024)
assert read_pixels(pathlib.Path("depth.raw"), decode_label)[0].max() == 128
"""


def apply_block(kind: str, path: Path, text: str) -> None:
    """Write a file, or replace the lines of each hunk of a diff that do not begin with + by those not with -."""
    if kind == "python":
        path.write_text(text)
        return
    content = path.read_text()
    for hunk in text.split("@@\n"):
        old, new = ("".join(s[1:] for s in hunk.splitlines(True) if s[0] in marks) for marks in (" -", " +"))
        assert content.count(old) == 1, f"CONTRIBUTING.md: {path.name} has {content.count(old)} times {old!r}"
        content = content.replace(old, new)
    path.write_text(content)


@pytest.fixture
def extended(tmp_path):
    """A copy of the project with all the edits."""
    blocks = BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert {name for _, name, _ in blocks} == EDITED
    for package in ("data", "models", "search"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for kind, name, text in blocks:
        apply_block(kind, tmp_path / name, text)
    return tmp_path


def test_additions_are_searched_built_and_trained(extended):
    environment = {**os.environ, "PYTHONPATH": str(extended)}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], cwd=extended, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
