"""Random weights with the names under which timm and torchvision publish theirs."""

import torch

from models.architectures.efficientnet_lite import scale_stages

CHANNELS = (64, 128, 256, 512)
LITE0 = {"arch": "efficientnet_lite", "variant": 0, "weights": "file"}
RESNET18 = {"arch": "resnet18_ed", "width": 64, "stem_stride": 2, "weights": "file"}


def norm(name, channels):
    moments = {"weight": torch.rand(channels), "bias": torch.randn(channels), "running_mean": torch.randn(channels)}
    moments |= {"running_var": torch.rand(channels) + 0.5, "num_batches_tracked": torch.tensor(7)}
    return {f"{name}.{leaf}": tensor for leaf, tensor in moments.items()}


def published_resnet18():
    """Random weights with torchvision's names (torchvision/models/resnet.py), which timm shares, in its order."""
    weights = {"conv1.weight": torch.randn(64, 3, 7, 7), **norm("bn1", 64)}
    for k, (before, after) in enumerate(zip((64, *CHANNELS), CHANNELS, strict=False), start=1):
        for i, width in enumerate((before, after)):
            block = f"layer{k}.{i}"
            weights |= {f"{block}.conv1.weight": torch.randn(after, width, 3, 3), **norm(f"{block}.bn1", after)}
            weights |= {f"{block}.conv2.weight": torch.randn(after, after, 3, 3), **norm(f"{block}.bn2", after)}
            if k > 1 and i == 0:
                weights[f"{block}.downsample.0.weight"] = torch.randn(after, width, 1, 1)
                weights |= norm(f"{block}.downsample.1", after)
    return {**weights, "fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000)}


def published_lite(variant):
    """Random weights with the names of timm's tf_efficientnet_lite (timm/models/_efficientnet_blocks.py)."""
    weights, before = {"conv_stem.weight": torch.randn(32, 3, 3, 3), **norm("bn1", 32)}, 32
    for stage, (kernel, repeats, after, expansion, _) in enumerate(scale_stages(variant)):
        for i in range(repeats):
            block, inner, n = f"blocks.{stage}.{i}", before * expansion, 1
            if expansion > 1:
                weights |= {f"{block}.conv_pw.weight": torch.randn(inner, before, 1, 1), **norm(f"{block}.bn1", inner)}
                n = 2
            weights |= {
                f"{block}.conv_dw.weight": torch.randn(inner, 1, kernel, kernel),
                **norm(f"{block}.bn{n}", inner),
            }
            last = "conv_pwl" if expansion > 1 else "conv_pw"
            weights |= {f"{block}.{last}.weight": torch.randn(after, inner, 1, 1), **norm(f"{block}.bn{n + 1}", after)}
            before = after
    head = {"conv_head.weight": torch.randn(1280, before, 1, 1), **norm("bn2", 1280)}
    return {**weights, **head, "classifier.weight": torch.randn(1000, 1280), "classifier.bias": torch.randn(1000)}
