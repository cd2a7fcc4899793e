"""Weights of --encoder-weights, read and checked once by the driver and cached for all workers.

A file is a state dict in the format of safetensors or of torch (tensors only), with tensor names of timm or
torchvision: EfficientNet-Lite0 to 4 for `efficientnet_lite`, ResNet18 for `resnet18_ed`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.runtime.cli import first_line, parse_path
from data.runtime.files import find_cache_folder, write_atomically
from models.config import ConfigError

if TYPE_CHECKING:  # imports torch
    from torch import Tensor

    from search.config.trial import TrialConfig

HUB = "hf:"
ENCODERS = "encoders"  # folder of the cache
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # where timm keeps the weights of a repository


@dataclass(frozen=True, kw_only=True)
class EncoderWeights:
    """Published weights of an encoder."""

    source: str  # the file, or hf: and a repository
    sha256: str  # hash of the file
    model: Mapping[str, Any]  # `arch` and the fields of the model that the encoder needs

    @property
    def path(self) -> Path:
        """The encoder's tensors, in safetensors, under the network's names."""
        return find_cache_folder() / ENCODERS / f"{self.sha256}.safetensors"

    def restore(self) -> "EncoderWeights":
        """Read the source again if its tensors are not cached; raise ConfigError if the source is gone or changed."""
        if not self.path.is_file() and read_encoder_weights(self.source).sha256 != self.sha256:
            raise ConfigError(f"{self.source} is not the file that the run began with (sha256 {self.sha256[:12]})")
        return self

    def pin(self, config: "TrialConfig") -> "TrialConfig":
        """Return the configuration with the encoder of these weights, if it has their architecture."""
        from models.architectures.registry import parse_model_config

        if config.model.arch != self.model["arch"]:
            return config
        return replace(config, model=parse_model_config({**config.model.to_dict(), **self.model}))


def parse_source(text: str) -> str:
    """Return `hf:REPO` unchanged, and the path of a file as an absolute path."""
    return text if text.startswith(HUB) else str(parse_path(text))


def read_encoder_weights(source: str) -> EncoderWeights:
    """Read published weights, find their encoder and cache its tensors; raise ConfigError if they do not fit."""
    from safetensors.torch import save

    from models.architectures.registry import match_encoder

    path = _download(source.removeprefix(HUB)) if source.startswith(HUB) else Path(source)
    try:
        content = path.read_bytes()
        model, tensors = match_encoder(_load_tensors(path))
    except OSError as error:
        raise ConfigError(f"--encoder-weights {source}: cannot be read ({error.strerror})") from error
    except ConfigError as error:
        raise ConfigError(f"--encoder-weights {source}: {error}") from error
    found = EncoderWeights(source=source, sha256=hashlib.sha256(content).hexdigest(), model=model)
    try:
        found.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(found.path, lambda file: file.write(save(tensors)))
    except OSError as error:
        reason = f"{found.path.parent} cannot be written ({error.strerror}); free some space or set ONE_LOOK_CACHE"
        raise ConfigError(f"--encoder-weights {source}: {reason}") from error
    return found


def _load_tensors(path: Path) -> "dict[str, Tensor]":
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many types
        raise ConfigError("not a file of tensors only (.safetensors, or by torch.save); it was not loaded") from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ConfigError("not a state dict, which maps names to tensors; save model.state_dict()")
    return content


def _download(repository: str) -> Path:
    """Return the weights of a repository of the Hugging Face Hub, downloaded unless its cache has them."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import RemoteEntryNotFoundError
        from huggingface_hub.utils.logging import set_verbosity_error
    except ImportError as error:
        raise ConfigError(f"--encoder-weights {HUB}{repository}: needs a package: pip install -e '.[hub]'") from error
    set_verbosity_error()  # otherwise it logs every attempt
    for name in HUB_FILES:
        try:
            return Path(hf_hub_download(repository, name))
        except RemoteEntryNotFoundError:
            continue
        except Exception as error:  # errors of the network, the Hub or its cache
            reason = f"{first_line(error)}; download the file elsewhere and name it"
            raise ConfigError(f"--encoder-weights {HUB}{repository}: cannot be downloaded: {reason}") from error
    raise ConfigError(f"--encoder-weights {HUB}{repository}: has neither {' nor '.join(HUB_FILES)}")
