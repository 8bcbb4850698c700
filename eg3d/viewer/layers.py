"""What a layer of the networks gives out, as a picture, with its statistics and its spectrum."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eg3d.errors import InputError
from eg3d.viewer.state import ViewState

# Dark violet, blue, green, yellow: dark to bright also for those who see no colours.
_SPECTRUM = np.array(
    [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], dtype=np.float64
)


@dataclass(frozen=True)
class Layer:
    """One output of a module: its name, shape without N, and type."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def channels(self) -> int:
        """Number of pictures [H, W] in it."""
        return int(np.prod(self.shape[:-2]))


@dataclass(frozen=True)
class Statistics:
    """Mean, standard deviation and largest magnitude: of all channels and of those shown."""

    mean: tuple[float, float]
    std: tuple[float, float]
    most: tuple[float, float]


class _Found(Exception):
    """Ends a pass through the networks at the layer that was wanted."""


def capture(
    network: torch.nn.Module, forward: Callable[[], Any], wanted: str = ""
) -> tuple[list[Layer], Tensor | None]:
    """The outputs [N, C, H, W] or [N, P, C, H, W] of all modules while `forward` runs, in order.

    With a wanted name the pass ends there and its values [C, H, W] of the first picture are
    returned too; C then counts P * C. A module's further outputs are `name:1`, `name:2`, those of
    its further calls `name_2`, `name_3`. Raises InputError for a name that does not occur.
    """
    found: list[Layer] = []
    calls: dict[str, int] = {}
    values: Tensor | None = None

    def note(name: str, output: Any) -> None:
        nonlocal values
        calls[name] = calls.get(name, 0) + 1
        name = name if calls[name] == 1 else f"{name}_{calls[name]}"
        for index, tensor in enumerate(_tensors(output)):
            label = f"{name}:{index}" if index else name
            found.append(Layer(label, tuple(tensor.shape[1:]), str(tensor.dtype)[6:]))
            if label == wanted:
                values = tensor[0].detach().float().flatten(0, -3)
                raise _Found

    def hook(name: str) -> Callable:
        return lambda module, inputs, output: note(name, output)

    handles = [m.register_forward_hook(hook(n)) for n, m in network.named_modules() if n]
    try:
        forward()
    except _Found:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if wanted and values is None:
        raise InputError(f"layer {wanted!r}: this model has no such layer")
    return found, values


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, dict):
        output = list(output.values())
    outputs = output if isinstance(output, tuple | list) else [output]
    return [each for each in outputs if isinstance(each, Tensor) and each.ndim in (4, 5)]


def picture(values: Tensor, state: ViewState) -> tuple[np.ndarray, Statistics]:
    """Values [C, H, W] as uint8 [H, W, 3], as the state asks; with a spectrum, twice as wide."""
    count = 1 if state.layer_grey or len(values) < 3 else 3
    base = min(state.layer_channel, len(values) - count)
    chosen = values[base : base + count]
    both = (values, chosen)
    statistics = Statistics(
        mean=tuple(each.mean().item() for each in both),
        std=tuple(each.std(unbiased=False).item() for each in both),
        most=tuple(each.abs().max().item() for each in both),
    )
    shown = chosen
    if state.layer_normalize:
        shown = shown / shown.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-8)
    shown = shown * 10 ** (state.layer_gain / 20)
    pixels = (shown * 127.5 + 128).clamp(0, 255).byte().expand(3, -1, -1)
    pixels = pixels.permute(1, 2, 0).cpu().numpy()
    if state.fft:
        power = spectrum(values if state.fft_all else chosen, state.fft_beta)
        pixels = np.concatenate([pixels, _colored(power, state.fft_range)], axis=1)
    return np.ascontiguousarray(pixels), statistics


def spectrum(values: Tensor, beta: float) -> np.ndarray:
    """Power [H, W] of values [C, H, W] in dB relative to its mean, frequency 0 in the middle.

    The mean of each channel is taken off, a Kaiser window laid over it, powers are added up.
    """
    height, width = values.shape[1:]
    window = torch.outer(*(torch.kaiser_window(n, False, beta) for n in (height, width)))
    values = values - values.mean(dim=(1, 2), keepdim=True)
    power = torch.fft.fft2(values * window.to(values)).abs().square().sum(0)
    power = torch.fft.fftshift(power).double().cpu().numpy()
    floor = np.finfo(np.float64).tiny
    return 10 * np.log10(np.maximum(power, floor) / max(power.mean(), floor))


def _colored(decibels: np.ndarray, reach: float) -> np.ndarray:
    share = np.clip(decibels / reach, -1, 1) / 2 + 0.5
    stops = np.linspace(0, 1, len(_SPECTRUM))
    channels = [np.interp(share, stops, channel) for channel in _SPECTRUM.T]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
