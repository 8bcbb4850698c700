"""Bilinear sampling of images at given places.

The name is part of the import surface of published checkpoints. torch differentiates `grid_sample`
twice by itself now, so the switch `enabled` remains for programs that set it and is not read.
"""

import torch

__all__ = ["enabled", "grid_sample"]

enabled = False


def grid_sample(input: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Samples `input` [N, C, H, W] at `grid` [N, h, w, 2] (x, y in -1..1) -> [N, C, h, w].

    Bilinear, zeros outside, -1 and 1 are the outer edges of the border pixels. The output is
    differentiable twice in both arguments.
    """
    return torch.nn.functional.grid_sample(
        input, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
