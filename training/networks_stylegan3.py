"""Names of StyleGAN3 (Karras et al. 2021) that source texts inside published checkpoints import.

No EG3D model is built of them, and nothing is implemented behind them: each raises
NotImplementedError when it is called.
"""

from typing import Any

import torch

from torch_utils.persistence import persistent_class

__all__ = [
    "FullyConnectedLayer",
    "Generator",
    "MappingNetwork",
    "SynthesisInput",
    "SynthesisLayer",
    "SynthesisNetwork",
    "modulated_conv2d",
]


def _refuse(name: str) -> None:
    raise NotImplementedError(
        f"{__name__}.{name} is only a name: StyleGAN3 is not implemented here, and EG3D models "
        "do not use it"
    )


def modulated_conv2d(
    x: torch.Tensor,
    w: torch.Tensor,
    s: torch.Tensor,
    demodulate: bool = True,
    padding: int = 0,
    input_gain: torch.Tensor | None = None,
) -> torch.Tensor:
    """Raises NotImplementedError; that of StyleGAN2 is in `training.networks_stylegan2`."""
    _refuse("modulated_conv2d")


def _stub(name: str) -> type:
    def __init__(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        _refuse(name)

    contents = {
        "__doc__": "A name without content: the constructor raises NotImplementedError.",
        "__init__": __init__,
        "__module__": __name__,
    }
    return persistent_class(type(name, (torch.nn.Module,), contents))


FullyConnectedLayer = _stub("FullyConnectedLayer")
Generator = _stub("Generator")
MappingNetwork = _stub("MappingNetwork")
SynthesisInput = _stub("SynthesisInput")
SynthesisLayer = _stub("SynthesisLayer")
SynthesisNetwork = _stub("SynthesisNetwork")
