"""The operators that have kernels, at sizes of FFHQ-512: timed and compared with their twins."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_utils.ops import bias_act, upfirdn2d
from torch_utils.ops.choice import using_ops
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.epilogue import Epilogue
from training.triplane import OSGDecoder
from training.volumetric_rendering.draws import FixedDraws
from training.volumetric_rendering.renderer import ImportanceRenderer

__all__ = ["Timing", "Trial", "difference", "timing", "trials"]


@dataclass(frozen=True)
class Trial:
    """An operator at work: `run` of `x`, which is one of the tensors that get a gradient.

    `tolerance` is the largest difference between kernel and twin, relative to the largest value,
    of the output and of the gradient.
    """

    name: str
    x: Tensor
    run: Callable[[Tensor], Tensor]
    tolerance: float

    @property
    def words(self) -> str:
        """Its name, the shape of `x` and its type."""
        kind = str(self.x.dtype).removeprefix("torch.")
        return f"{self.name}, {' x '.join(map(str, self.x.shape))} {kind}"

    def both(self) -> tuple[Tensor, Tensor]:
        """The output and the gradient of the sum of its squares."""
        x = self.x.detach().requires_grad_()
        y = self.run(x)
        (dx,) = torch.autograd.grad((y.float() ** 2).sum(), x)
        return y.detach(), dx

    @torch.no_grad()
    def forward(self) -> Tensor:
        """The output alone, as in inference."""
        return self.run(self.x)


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat."""

    forward: list[float]
    both: list[float]

    @property
    def medians(self) -> tuple[float, float]:
        """Of the forward pass alone, and of it with its gradient."""
        return statistics.median(self.forward), statistics.median(self.both)


def trials(device: torch.device, small: bool) -> list[Trial]:
    """One trial for each operator, on random numbers. `small` takes a CPU little time."""
    torch.manual_seed(0)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    samples, channels, side = (1, 32, 64) if small else (4, 128, 256)
    tolerance = 2e-2 if dtype == torch.float16 else 1e-4

    def images(channels: int, side: int) -> Tensor:
        x = torch.randn(samples, channels, side, side, device=device, dtype=dtype)
        return x.contiguous(memory_format=torch.channels_last)

    f = upfirdn2d.setup_filter([1, 3, 3, 1], device)
    bias = torch.randn(channels, device=device)
    parts = Epilogue(
        scale=torch.rand(samples, channels, device=device) + 0.5,
        noise=torch.randn(samples, 1, side, side, device=device),
        strength=torch.tensor(0.1, device=device),
        bias=bias,
        act="lrelu",
        clamp=256,
    )
    weight = torch.randn(channels, channels // 2, 3, 3, device=device, dtype=dtype) / channels
    wide, narrow = images(channels, side), images(channels // 2, side // 2)

    def activation(x: Tensor) -> Tensor:
        return bias_act.bias_act(x, bias.to(dtype), act="lrelu", clamp=256)

    def up_convolution(x: Tensor) -> Tensor:
        options = dict(up=2, padding=1, flip_weight=False, epilogue=parts)
        return conv2d_resample(x, weight, f, **options)

    return [
        Trial("bias and activation", wide, activation, tolerance),
        Trial("epilogue", wide, lambda x: parts(x.clone()), tolerance),
        Trial("blur", wide, lambda x: upfirdn2d.filter2d(x, f), tolerance),
        Trial("up-sampling", narrow, lambda x: upfirdn2d.upsample2d(x, f), tolerance),
        Trial("down-sampling", wide, lambda x: upfirdn2d.downsample2d(x, f), tolerance),
        Trial("up-convolution and epilogue", narrow, up_convolution, tolerance),
        _rendering(device, small),
    ]


def _rendering(device: torch.device, small: bool) -> Trial:
    side, rays, depths, extent = (1, 16, 12, 64) if small else (4, 64, 48, 256)
    options = dict(
        depth_resolution=depths,
        depth_resolution_importance=depths,
        ray_start=2.25,
        ray_end=3.3,
        box_warp=1,
        disparity_space_sampling=False,
        clamp_mode="softplus",
    )
    decoder = OSGDecoder(32, dict(decoder_lr_mul=1, decoder_output_dim=32)).to(device)
    decoder.requires_grad_(False)
    origins = torch.zeros(side, rays**2, 3, device=device)
    origins[..., 2] = 2.7
    targets = torch.rand(side, rays**2, 3, device=device) - 0.5
    directions = torch.nn.functional.normalize(targets * 0.8 - origins, dim=2)
    renderer = ImportanceRenderer()

    def render(planes: Tensor) -> Tensor:
        return renderer(planes, decoder, origins, directions, options, draws=FixedDraws())[0]

    planes = torch.randn(side, 3, 32, extent, extent, device=device)
    # Where an importance sample falls into another interval, the pixel differs a little more.
    return Trial(f"renderer, {rays}^2 rays", planes, render, 2e-2)


def timing(trial: Trial, choice: str, repeats: int) -> Timing:
    """How long a trial takes with operators chosen so, after one warm-up of each pass."""
    with using_ops(choice):
        return Timing(
            _seconds(trial.forward, trial.x, repeats), _seconds(trial.both, trial.x, repeats)
        )


def difference(trial: Trial) -> float:
    """The largest difference between kernel and twin, relative to the largest value."""
    with using_ops("triton"):
        kernels = trial.both()
    with using_ops("torch"):
        twins = trial.both()
    errors = [
        ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()
        for a, b in zip(kernels, twins, strict=True)
    ]
    return max(errors)


def _seconds(run: Callable[[], object], x: Tensor, repeats: int) -> list[float]:
    seconds = []
    for turn in range(-1, repeats):
        _wait(x.device)
        start = time.perf_counter()
        run()
        _wait(x.device)
        seconds += [time.perf_counter() - start] if turn >= 0 else []
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
