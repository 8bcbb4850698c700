"""TorchScript files of small fixed networks, in place of the published detectors."""

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

FEATURES = 12
CLASSES = 7


class TinyInception(torch.nn.Module):
    """Called as the published Inception: features [n, 12], or probabilities [n, 7]."""

    def __init__(self):
        super().__init__()
        random = np.random.RandomState(0)
        self.filters = _parameter(random.randn(FEATURES, 3, 5, 5) / 75**0.5)
        self.weight = _parameter(random.randn(CLASSES, FEATURES) * 3)
        self.bias = _parameter(random.randn(CLASSES))
        self.dropout = torch.nn.Dropout(0.5)  # seen where evaluation mode is forgotten

    def forward(
        self, images: torch.Tensor, return_features: bool = False, no_output_bias: bool = False
    ) -> torch.Tensor:
        x = F.conv2d(images.to(torch.float32) / 127.5 - 1, self.filters, stride=2)
        x = self.dropout(F.leaky_relu(x, 0.2).mean((2, 3)))
        if return_features:
            return x
        logits = F.linear(x, self.weight)
        if not no_output_bias:
            logits = logits + self.bias
        return logits.softmax(1)


class TinyPlain(torch.nn.Module):
    """Takes pictures only: their mean colours and those of their upper half [n, 6], 0 to 1."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.to(torch.float32) / 255
        return torch.cat([x.mean((2, 3)), x[:, :, : x.shape[2] // 2].mean((2, 3))], 1)


def write_script(path: Path, module: torch.nn.Module) -> str:
    """Writes a module as TorchScript; returns the path."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return str(path)


def write_inception(path: Path) -> str:
    """Writes a `TinyInception`, in training mode; returns the path."""
    return write_script(path, TinyInception())


def write_plain(path: Path) -> str:
    """Writes a `TinyPlain`; returns the path."""
    return write_script(path, TinyPlain())


def _parameter(values: np.ndarray) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.from_numpy(values.astype(np.float32)))
