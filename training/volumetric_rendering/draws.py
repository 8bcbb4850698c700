"""Where the renderer's random numbers come from: an argument, never a hidden switch.

Two requests are made for a picture of N x M rays, in this order: `coarse` for the position of every
coarse sample inside its interval, `fine` for the quantiles of the importance samples; `noise` comes
after each of them if densities are perturbed, for the new samples, or, if the ray marcher perturbs
them, for all that it integrates over.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

Shape = tuple[int, ...]


class Draws(Protocol):
    """A source of numbers; `like` gives the dtype and device of the result."""

    def coarse(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """Numbers of [0, 1) that broadcast to shape [N, M, S_c, 1]."""

    def fine(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """Numbers of [0, 1) of shape [N * M, S_f]."""

    def noise(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """Numbers of a standard normal distribution that broadcast to shape [N, P, 1], or
        [N, M, S] of the ray marcher."""


@dataclass(frozen=True)
class RandomDraws:
    """Independent random numbers, from torch's global generator unless another is given."""

    generator: torch.Generator | None = None

    def _draw(self, function, shape, like):
        device = like.device if self.generator is None else self.generator.device
        numbers = function(shape, generator=self.generator, dtype=like.dtype, device=device)
        return numbers.to(like.device)

    def coarse(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """Uniform numbers, drawn by one call."""
        return self._draw(torch.rand, shape, like)

    def fine(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """Uniform numbers, drawn by one call."""
        return self._draw(torch.rand, shape, like)

    def noise(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """Normal numbers, drawn by one call."""
        return self._draw(torch.randn, shape, like)


@dataclass(frozen=True)
class FixedDraws:
    """The middle of every interval and no noise: the same scene gives the same picture."""

    def coarse(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """0.5 everywhere."""
        return like.new_full((), 0.5)

    def fine(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """(k + 0.5) / S_f for k = 0 .. S_f - 1, the same for every ray."""
        steps = torch.arange(shape[-1], dtype=like.dtype, device=like.device)
        return ((steps + 0.5) / shape[-1]).expand(shape)

    def noise(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """Zeros."""
        return like.new_zeros(())


@dataclass(frozen=True)
class GivenDraws:
    """The caller's numbers: coarse broadcasts to [N, M, S_c, 1], fine to [N * M, S_f]."""

    coarse_numbers: torch.Tensor
    fine_numbers: torch.Tensor | None = None

    def coarse(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """The numbers given for the coarse samples."""
        return self._checked("coarse", self.coarse_numbers, shape, like)

    def fine(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """The numbers given for the fine samples."""
        if self.fine_numbers is None:
            raise ValueError("GivenDraws has no fine numbers, but importance samples need them")
        return self._checked("fine", self.fine_numbers, shape, like)

    def noise(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """An error: given draws say nothing about density noise."""
        raise ValueError("GivenDraws has no density noise; set density_noise to 0")

    @staticmethod
    def _checked(kind, numbers, shape, like):
        numbers = torch.as_tensor(numbers).to(like)
        try:
            return numbers.expand(shape)
        except RuntimeError:
            raise ValueError(
                f"GivenDraws: {kind} numbers of shape {tuple(numbers.shape)} do not broadcast to "
                f"{tuple(shape)}"
            ) from None
