"""Opening the file of a perceptual distance: `--lpips=FILE`, or `--lpips=random` for a network that
has learned nothing.

No weights come with the project. What a file can be:

* Weights of VGG16 and the linear weights of LPIPS (.pt, .pth, .safetensors, .npz), tensors only.
  Convolutions are named `features.N` (torchvision), `net.sliceM.N` (the package lpips) or `conv_N`,
  linear weights `linN.model.1` or `lin_N`. The two usually come in two files: `FIRST,SECOND`.
* A TorchScript module. One that has an argument `return_lpips`, as the published VGG16, is called
  `module(images, return_lpips=True)` for images of 0 to 255, with `resize_images=False` if it has
  that argument; the squared distance of the features [N, F] that it returns is the perceptual one.
  One that takes two arguments gets both pictures in [-1, 1] and returns distances, [N] or
  [N, 1, 1, 1]. One that takes one gives features of pictures in [-1, 1], as above.

TorchScript runs no Python, but it can read and write files: take it from sources that you trust,
and end an address in `#sha256=...`.
"""

import hashlib
import io
import os
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor

from dnnlib.util import open_url
from training.mimic3d.perceptual import PerceptualDistance, untrained_distance
from training.option_checks import OptionError

RANDOM = "random"
_CONVOLUTION = re.compile(
    r"(?:.*\.)?(?:features\.|slice\d+\.|conv_?)(\d+)[./](weight|bias)", re.ASCII
)
_LINEAR = re.compile(r"(?:.*\.)?lin_?(\d+)(?:(?:\.model\.1)?[./]weight)?", re.ASCII)


@dataclass(frozen=True)
class LoadedDistance:
    """A module (a, b) [N, 3, H, W] in [-1, 1] -> distances [N, ...], and the SHA-256 of its file,
    of several joined by commas; None where there is none."""

    module: torch.nn.Module
    sha256: str | None


class FeatureDistance(torch.nn.Module):
    """The squared distances [N] between a TorchScript module's features of two pictures."""

    def __init__(self, script: torch.jit.ScriptModule):
        super().__init__()
        self.script = script
        arguments = _arguments(script)
        self.of_bytes = "return_lpips" in arguments
        wanted = dict(return_lpips=True, resize_images=False)
        self.settings = {k: v for k, v in wanted.items() if k in arguments}

    def features(self, images: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] in [-1, 1] -> [N, F]."""
        if self.of_bytes:
            images = (images + 1) * 127.5
        return self.script(images, **self.settings).flatten(1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] in [-1, 1] -> distances [N]."""
        return (self.features(a) - self.features(b)).square().sum(dim=1)


def load_distance(source: str, device: torch.device | str = "cpu") -> LoadedDistance:
    """The distance that a file, a web address or two of them joined by a comma hold, frozen and in
    evaluation mode. The last ones are kept. Raises OptionError naming the option and the file."""
    if source == RANDOM:
        return LoadedDistance(untrained_distance().to(device).eval(), None)
    paths = tuple(_local(name) for name in source.split(","))
    stamps = tuple((os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths)
    return _load(source, paths, stamps, torch.device(device))


@lru_cache(maxsize=2)
def _load(
    source: str, paths: tuple[str, ...], stamps: tuple[tuple[int, int], ...], device: torch.device
) -> LoadedDistance:
    """What `load_distance` returns; `stamps` change when the files do."""
    tensors: dict[str, Tensor] = {}
    hashes = []
    for name, path in zip(source.split(","), paths, strict=True):
        content = Path(path).read_bytes()  # once, so that the hash is that of what is used
        hashes.append(hashlib.sha256(content).hexdigest())
        if _is_torchscript(content):
            if len(paths) > 1:
                raise OptionError(f"--lpips: {name} is a TorchScript module; give it alone")
            return LoadedDistance(_open_script(name, content, device), hashes[0])
        tensors |= _open_tensors(name, content)
    try:
        module = PerceptualDistance(*_sorted_weights(tensors))
    except ValueError as error:
        raise OptionError(
            f"--lpips={source}: holds no LPIPS on VGG16 ({error}); give its weights, or those of "
            "VGG16 and the linear ones as FIRST,SECOND"
        ) from None
    return LoadedDistance(module.to(device).eval(), ",".join(hashes))


def _local(name: str) -> str:
    """The path of a file, which is downloaded if need be."""
    try:
        path = open_url(name, return_filename=True)
    except (OSError, ValueError) as error:
        raise OptionError(f"--lpips={name}: {error}") from None
    if not os.path.isfile(path):
        raise OptionError(
            f"--lpips={name}: no such file; give weights of LPIPS on VGG16, TorchScript, or "
            f"{RANDOM}"
        )
    return path


def _is_torchscript(content: bytes) -> bool:
    """Whether a file is a zip with program code in it, as torch.jit.save writes it."""
    try:
        with ZipFile(io.BytesIO(content)) as file:
            return any("/code/" in name for name in file.namelist())
    except BadZipFile:
        return False


def _open_script(name: str, content: bytes, device: torch.device) -> torch.nn.Module:
    try:
        with warnings.catch_warnings():
            # torch wants programs in newer formats; published ones are in this one.
            warnings.simplefilter("ignore", DeprecationWarning)
            script = torch.jit.load(io.BytesIO(content), map_location=device)
        for parameter in script.parameters():
            parameter.requires_grad = False
        script.eval()
        pair = len(_arguments(script)) > 1 and "return_lpips" not in _arguments(script)
        module = script if pair else FeatureDistance(script)
        probe = torch.zeros((2, 3, 64, 64), device=device)
        answer = module(probe, probe)
    except Exception as error:  # a module may raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise OptionError(
            f"--lpips={name}: cannot compare pictures [n, 3, H, W] in [-1, 1] ({reason[-1]})"
        ) from None
    if not isinstance(answer, Tensor) or answer.numel() != 2:
        raise OptionError(f"--lpips={name}: must return one distance a pair of pictures")
    return module


def _arguments(script: torch.jit.ScriptModule) -> list[str]:
    return [argument.name for argument in script.forward.schema.arguments[1:]]


def _open_tensors(name: str, content: bytes) -> dict[str, Tensor]:
    """The tensors of a file by name; runs nothing of it."""
    try:
        if name.endswith(".npz"):
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                return {key: torch.from_numpy(file[key]) for key in file.files}
        if name.endswith(".safetensors"):
            import safetensors.torch  # here: it is needed for such files alone

            return safetensors.torch.load(content)
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return {key: value for key, value in tensors.items() if isinstance(value, Tensor)}
    except Exception as error:  # a broken file may raise anything
        raise OptionError(
            f"--lpips={name}: cannot be read as tensors (.pt, .safetensors, .npz) or TorchScript "
            f"({type(error).__name__})"
        ) from None


def _sorted_weights(
    tensors: dict[str, Tensor],
) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """Convolutions and linear weights in the order of their numbers, whatever the spelling."""
    convolutions: dict[int, dict[str, Tensor]] = {}
    linear: dict[int, Tensor] = {}
    for key, value in tensors.items():
        if match := _CONVOLUTION.fullmatch(key):
            convolutions.setdefault(int(match[1]), {})[match[2]] = value
        elif match := _LINEAR.fullmatch(key):
            linear[int(match[1])] = value
    for number, parts in convolutions.items():
        if len(parts) < 2:
            raise ValueError(
                f"convolution {number} has no {'weight' if 'bias' in parts else 'bias'}"
            )
    pairs = [(convolutions[i]["weight"], convolutions[i]["bias"]) for i in sorted(convolutions)]
    return pairs, [linear[i] for i in sorted(linear)]
