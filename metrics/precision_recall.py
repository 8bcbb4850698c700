"""Improved precision and recall of two sets of features.

Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative models".
"""

import torch
from torch import Tensor


def precision_recall(
    real: Tensor, fake: Tensor, neighbours: int = 3, block: int = 10_000
) -> tuple[float, float]:
    """(precision, recall): the share of fake rows inside the manifold of real ones, and the other
    way round.

    The manifold of a set is the union of balls around its rows that reach to the k-th nearest
    neighbour. Features are rounded to half precision, as published; distances are float32.

    Args:
        real, fake: features [n, F], [m, F].
        neighbours: k.
        block: rows and columns of distances that exist at a time.

    Raises ValueError for sets of k rows or fewer, of other numbers of features, or with values that
    half precision does not hold.
    """
    if real.ndim != 2 or real.shape[1:] != fake.shape[1:]:
        shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"features have shapes {shapes}; must be [n, F] and [m, F]")
    real, fake = (rows.half().float() for rows in (real, fake))
    if not (real.isfinite().all() and fake.isfinite().all()):
        raise ValueError("features have a value that is not finite in half precision (65504)")
    return (
        _share_inside(real, fake, neighbours, block),
        _share_inside(fake, real, neighbours, block),
    )


def _share_inside(manifold: Tensor, probes: Tensor, neighbours: int, block: int) -> float:
    """Share of the probes that lie in a ball of the manifold."""
    if len(manifold) <= neighbours:
        raise ValueError(f"{len(manifold)} rows have no {neighbours} neighbours each")
    radii = torch.cat([_radii(part, manifold, neighbours, block) for part in manifold.split(block)])
    inside = []
    for part in probes.split(block):
        hits = torch.zeros(len(part), dtype=torch.bool, device=part.device)
        for rows, reach in zip(manifold.split(block), radii.split(block), strict=True):
            hits |= (torch.cdist(part, rows) <= reach).any(1)
        inside.append(hits)
    return float(torch.cat(inside).double().mean())


def _radii(part: Tensor, manifold: Tensor, neighbours: int, block: int) -> Tensor:
    """Distance [n] of rows to their k-th nearest neighbour; the nearest of all is the row."""
    nearest = part.new_empty(len(part), 0)
    for rows in manifold.split(block):
        candidates = torch.cat([nearest, torch.cdist(part, rows)], dim=1)
        count = min(neighbours + 1, candidates.shape[1])
        nearest = candidates.topk(count, dim=1, largest=False).values
    return nearest[:, -1]
