"""Trained networks of others, by role, and the features of pictures that they see.

They are TorchScript files; a pickle would run any code of whoever wrote it. TorchScript runs no
Python, but it can read and write files: take networks from sources that you trust, and end an
address in `#sha256=...`.

What the module of a detector has to offer, all for uint8 [n, 3, H, W] of any size, 0 to 255, which
it scales itself:

* Its forward has an argument `return_features`, as those of the published Inception and VGG16:
  `module(images, return_features=True)` are the features [n, F].
* It has none: `module(images)` are the features.
* It has an argument `no_output_bias`, as that of the published Inception:
  `module(images, no_output_bias=True)` are the probabilities [n, C] of classes, after the softmax.
  No other module has probabilities; they are never made of features.
"""

import hashlib
import inspect
import io
import os
import urllib.parse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dnnlib.util import is_url, make_cache_dir_path, open_url
from metrics.errors import MetricError, MetricUnavailable
from metrics.random_features import RandomConvFeatures

# The usual file of each role.
FILES = {
    "inception": "inception-2015-12-05.pt",
    "vgg16": "vgg16.pt",
    "face_embedder": "face_embedder.pt",
    "depth_estimator": "depth_estimator.pt",
    "pose_estimator": "pose_estimator.pt",
}
# The option of commands that names it.
OPTIONS = {
    "inception": "--detector",
    "vgg16": "--pr-detector",
    "face_embedder": "--face-embedder",
    "depth_estimator": "--depth-estimator",
    "pose_estimator": "--pose-estimator",
}
RANDCONV = RandomConvFeatures.name
TORCH_FIDELITY = "torch-fidelity"
_ROLES_OF_NAMES = {RANDCONV: ("inception", "vgg16"), TORCH_FIDELITY: ("inception",)}
_KEPT = 8  # networks in memory
_PROBE = (2, 3, 64, 64)
_randconv = RandomConvFeatures()

Module = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class ForeignNetwork:
    """A network that somebody else trained.

    name is that of its file without extension, or of what is built in; sha256 is that of its file,
    None if there is none. The module is on the device, in evaluation mode, without gradients.
    """

    role: str
    name: str
    sha256: str | None
    device: torch.device
    module: Module


class Detector:
    """Features, and of some probabilities of classes, of pictures.

    Pictures are uint8 [n, 3, H, W], or grey [n, 1, H, W], on any device; what comes back is on the
    network's. name and sha256 are the network's, size is the number F of features. Raises
    MetricError if the network is not what the module's docstring says.
    """

    def __init__(self, network: ForeignNetwork):
        self.name, self.sha256 = network.name, network.sha256
        self._network = network
        self._arguments = _arguments(network.module)
        try:
            self.size = self.features(torch.zeros(_PROBE, dtype=torch.uint8)).shape[1]
        except MetricError:
            raise
        except Exception as error:  # a module may raise anything
            raise MetricError(
                f"{network.role} network {self.name} cannot take pictures uint8 [n, 3, H, W] "
                f"({_lines(error)[-1]})"
            ) from error

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [n, F] of pictures. Raises MetricError."""
        argument = "return_features"
        return self._rows(images, {argument: True} if argument in self._arguments else {})

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [n, C] of pictures, each row with the sum 1. Raises MetricError."""
        if "no_output_bias" not in self._arguments:
            raise MetricError(
                f"{self._network.role} network {self.name} has no probabilities of classes: its "
                "forward has no argument no_output_bias; give the published Inception"
            )
        rows = self._rows(images, {"no_output_bias": True})
        if not ((rows.sum(1) - 1).abs() < 1e-3).all() or (rows < 0).any():
            raise MetricError(
                f"{self._network.role} network {self.name} does not return probabilities for "
                "no_output_bias=True; must be [n, C], after the softmax"
            )
        return rows

    @torch.no_grad()
    def _rows(self, images: torch.Tensor, how: dict[str, Any]) -> torch.Tensor:
        shape = tuple(images.shape)
        if images.dtype != torch.uint8 or images.ndim != 4 or shape[1] not in (1, 3):
            raise MetricError(
                f"pictures are {images.dtype} of shape {shape}; must be torch.uint8 "
                "[n, 1 or 3, H, W]"
            )
        pictures = images.to(self._network.device).repeat(1, 3 // shape[1], 1, 1)
        rows = self._network.module(pictures, **how)
        if not isinstance(rows, torch.Tensor) or rows.ndim != 2 or len(rows) != len(images):
            found = tuple(rows.shape) if isinstance(rows, torch.Tensor) else type(rows).__name__
            raise MetricError(
                f"{self._network.role} network {self.name} returns {found} for {len(images)} "
                "pictures; must be [n, F]"
            )
        return rows.float()


def load_network(
    role: str, source: str | None = None, device: torch.device | str = "cpu"
) -> ForeignNetwork:
    """The network of a role; loaded once, as long as its file stays the same.

    Args:
        role: a key of `FILES`.
        source: a path; a web address, kept in the cache folder, with `#sha256=...` if it is to be
            checked; or a name: 'randconv112' (`metrics.random_features`, untrained, not comparable
            with published scores), 'torch-fidelity' (the Inception of that package, with the
            weights that it published) or 'torch-fidelity:' with a path or address of weights.
            By default the variable EG3D_<ROLE>, else the usual file in the folder `networks` of
            the cache folder.

    Raises MetricUnavailable if there is none, MetricError if it cannot be used.
    """
    if role not in FILES:
        raise MetricError(f"no network has the role {role!r}; roles are {', '.join(FILES)}")
    device = torch.device(device)
    source = source or os.environ.get(f"EG3D_{role.upper()}") or _usual_file(role)
    name, _, weights = source.partition(":")
    if role not in _ROLES_OF_NAMES.get(name, [role]):
        raise MetricError(f"{name} cannot be the {role} network; give a TorchScript file")
    if source == RANDCONV:
        return ForeignNetwork(role, RANDCONV, None, device, _randconv)
    if name == TORCH_FIDELITY:
        path = _weights_of_torch_fidelity(weights)
        return _load_file(_open_torch_fidelity, role, name, path, _stamp(path), device)
    path = _local(role, source)
    parts = urllib.parse.urlsplit(source) if is_url(source, allow_file_urls=True) else None
    name = Path(parts.path if parts else source).stem
    return _load_file(_open_script, role, name, path, _stamp(path), device)


def load_detector(
    role: str, source: str | None = None, device: torch.device | str = "cpu"
) -> Detector:
    """The detector of a role, 'inception' or 'vgg16'; arguments and errors of `load_network`."""
    return _detector(load_network(role, source, device))


_detector = lru_cache(maxsize=_KEPT)(Detector)


def _arguments(module: Module) -> set[str]:
    """The names of the arguments that the module can be called with."""
    if isinstance(module, torch.jit.ScriptModule):
        return {argument.name for argument in module.forward.schema.arguments}
    return set(inspect.signature(module).parameters)


def _usual_file(role: str) -> str:
    path = make_cache_dir_path("networks", FILES[role])
    if not os.path.exists(path):
        raise MetricUnavailable(
            f"there is no {role} network here: name a TorchScript file by {OPTIONS[role]} or in "
            f"the variable EG3D_{role.upper()}, or put it at {path}"
        )
    return path


def _local(role: str, source: str) -> str:
    """The path of a file, which is downloaded if need be."""
    try:
        path = open_url(source, return_filename=True)
    except (OSError, ValueError) as error:
        raise MetricError(f"{role} network: {error}") from error
    if not os.path.isfile(path):
        raise MetricError(f"{role} network: {path} is no file")
    return path


def _lines(error: Exception) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]


def _first_sentence(error: Exception) -> str:
    return _lines(error)[0].partition(". ")[0]


def _stamp(path: str) -> tuple[int, int]:
    """Changes when the file does."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=_KEPT)
def _load_file(
    opener: Callable[[str, bytes, torch.device], Module],
    role: str,
    name: str,
    path: str,
    stamp: tuple[int, int],
    device: torch.device,
) -> ForeignNetwork:
    content = Path(path).read_bytes()  # once, so that the hash is that of what is used
    module = opener(path, content, device)
    return ForeignNetwork(role, name, hashlib.sha256(content).hexdigest(), device, module)


def _open_script(path: str, content: bytes, device: torch.device) -> torch.jit.ScriptModule:
    if content.startswith(b"\x80"):
        raise MetricError(
            f"{path} is a pickle, which runs any code when it is opened; must be a TorchScript "
            f"file, such as {Path(path).stem}.pt"
        )
    try:
        with warnings.catch_warnings():
            # torch wants programs in newer formats; published detectors are in this one.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(io.BytesIO(content), map_location=device)
    except Exception as error:  # a broken file may raise anything
        raise MetricError(
            f"{path} cannot be opened as a TorchScript file ({_first_sentence(error)})"
        ) from error
    for parameter in module.parameters():
        parameter.requires_grad = False
    return module.eval()


def _weights_of_torch_fidelity(source: str) -> str:
    """The path of given weights, else of those that the package has fetched, else of those that
    it would fetch."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another torch
        raise MetricUnavailable(
            f"inception network {TORCH_FIDELITY}: run `pip install torch-fidelity` "
            f"({_first_sentence(error)})"
        ) from error
    if source:
        return _local("inception", source)
    fetched = Path(torch.hub.get_dir(), "checkpoints", Path(URL_INCEPTION_V3).name)
    if fetched.is_file():
        return str(fetched)
    try:
        return open_url(URL_INCEPTION_V3, return_filename=True)
    except OSError as error:
        raise MetricUnavailable(
            f"inception network {TORCH_FIDELITY}: {error}; put the weights at {fetched} or name "
            f"{TORCH_FIDELITY}:PATH"
        ) from error


def _open_torch_fidelity(path: str, content: bytes, device: torch.device) -> Module:
    """The package's Inception, called as the published one is."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        # The package would unpickle the file as it is; what it gets has tensors only.
        weights = io.BytesIO()
        torch.save(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), weights)
        weights.seek(0)
        network = FeatureExtractorInceptionV3(
            "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=weights
        )
    except Exception as error:  # a broken file may raise anything
        raise MetricError(
            f"{path} does not hold the weights of {TORCH_FIDELITY} ({_first_sentence(error)})"
        ) from error
    network.to(device)

    def inception(
        images: torch.Tensor, return_features: bool = False, no_output_bias: bool = False
    ) -> torch.Tensor:
        features, logits = network(images)
        return features if return_features else logits.softmax(1)

    return inception
