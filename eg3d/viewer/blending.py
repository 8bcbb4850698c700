"""The latents of a viewer's state: seeds on a grid blended, another one added, layers mixed."""

import math

import torch

from eg3d import latents
from eg3d.model import Model
from eg3d.viewer.state import ViewState
from training.cameras import Camera

# Seeds lie on a grid: one step in x is the next seed, one step in y the hundredth after it.
ROW = 100
SEEDS = 2**32


def corners(seed: int, dx: float, dy: float) -> list[tuple[int, float]]:
    """The seeds around a point of the grid and their bilinear shares, those of 0 left out."""
    left, top = math.floor(dx), math.floor(dy)
    right_share, bottom_share = dx - left, dy - top
    found = []
    for down, vertical in ((0, 1 - bottom_share), (1, bottom_share)):
        for right, horizontal in ((0, 1 - right_share), (1, right_share)):
            if vertical * horizontal > 0:
                number = (seed + left + right + ROW * (top + down)) % SEEDS
                found.append((number, vertical * horizontal))
    return found


def nearest(seed: int, dx: float, dy: float) -> int:
    """The seed next to a point of the grid."""
    return (seed + round(dx) + ROW * round(dy)) % SEEDS


def latents_of(model: Model, state: ViewState, conditioning: Camera) -> torch.Tensor:
    """ws [1, L, w_dim] of a state; all of its seeds get the one conditioning camera, N = 1."""

    def mapped(seeds: list[int]) -> torch.Tensor:
        return model.mapping(
            model.latents(seeds), conditioning, state.psi, state.cutoff, model.classes(seeds)
        )

    seeds, shares = zip(*corners(state.seed, state.dx, state.dy), strict=True)
    weights = torch.tensor(shares, device=model.device)[:, None, None]
    ws = (weights * mapped(list(seeds))).sum(0, keepdim=True)
    if state.blend:
        ws = torch.lerp(ws, mapped([state.blend_seed]), state.blend)
    layers = [layer for layer in state.mix_layers if layer < model.num_ws]
    return latents.mix(ws, mapped([state.mix_seed]), layers) if layers else ws
