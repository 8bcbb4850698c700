"""Multiply and add with broadcasting."""

import torch

__all__ = ["fma"]


def fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Returns a * b + c, shapes broadcast; differentiable any number of times in all three."""
    return torch.addcmul(c, a, b)
