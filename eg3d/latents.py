"""Latents: from seeds, mixed layer by layer, interpolated, and in files.

z [N, z_dim] is what seeds stand for; the mapping network makes ws [N, L, w_dim] of it, a latent for
each of the L layers of the backbone (`eg3d.Model.mapping`).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from dnnlib.util import replacing
from eg3d.errors import InputError

MOST_SEED = 2**32 - 1


def from_seeds(seeds: Sequence[int], z_dim: int) -> torch.Tensor:
    """z [N, z_dim] float32 of seeds 0 .. 2^32 - 1, as the published scripts draw them."""
    rows = [random.randn(z_dim) for random in _randoms(seeds)]
    return torch.from_numpy(np.array(rows).reshape(-1, z_dim)).to(torch.float32)


def classes_from_seeds(seeds: Sequence[int], count: int) -> list[int]:
    """One of `count` classes for each of some seeds, as EpiGRAF's scripts draw it."""
    return [int(random.choice(count)) for random in _randoms(seeds)]


def _randoms(seeds: Sequence[int]) -> Iterator[np.random.RandomState]:
    for seed in seeds:
        if seed != int(seed) or not 0 <= seed <= MOST_SEED:
            raise InputError(f"seed {seed}: must be a whole number from 0 to {MOST_SEED}")
        yield np.random.RandomState(int(seed))


def mix(ws: torch.Tensor, others: torch.Tensor, layers: Iterable[int]) -> torch.Tensor:
    """ws with the `layers` (0 to L - 1) of others; [N or 1, L, w_dim] each -> [N, L, w_dim].

    Style mixing (Karras et al. 2019): the first layers decide on shape and pose, the last ones on
    colours. Raises InputError for a layer that is not there.
    """
    layers, count = list(layers), ws.shape[1]
    for layer in layers:
        if not 0 <= layer < count:
            raise InputError(f"layer {layer}: the model has layers 0 to {count - 1}")
    ws, others = torch.broadcast_tensors(ws, others)
    chosen = torch.zeros(count, 1, dtype=torch.bool, device=ws.device)
    chosen[layers] = True
    return torch.where(chosen, others, ws)


def interpolate(keys: torch.Tensor, count: int) -> torch.Tensor:
    """`count` latents from the first of K keys [K, ...] to the last, straight from key to key.

    For closed and smooth loops through keys see `eg3d.latent_paths.shares`.
    """
    times = torch.linspace(0, len(keys) - 1, count, dtype=torch.float64)
    before = times.floor().long().clamp(max=max(len(keys) - 2, 0))
    share = (times - before).to(keys).view(-1, *[1] * (keys.ndim - 1))
    return torch.lerp(keys[before], keys[(before + 1).clamp(max=len(keys) - 1)], share)


def read_ws(path: str | Path) -> torch.Tensor:
    """ws [N, L, w_dim] float32 of an .npz file's `w`, as projections to latents are published.

    A single [L, w_dim] becomes N = 1; L may be 1, one latent for all layers. Raises InputError.
    """
    right = "expected an .npz file with an array w [N, L, w_dim], such as projected_w.npz"
    try:
        with np.load(path) as file:
            w = file["w"] if "w" in file else None
    except Exception as error:  # What damaged files raise has no bounds.
        reason = getattr(error, "strerror", None) or "cannot be read"
        raise InputError(f"{path}: {reason}; {right}") from error
    if w is None:
        raise InputError(f"{path}: has no array w; {right}")
    if w.dtype.kind not in "fiu" or w.ndim not in (2, 3) or w.size == 0:
        raise InputError(f"{path}: w is {w.dtype} of shape {list(w.shape)}; {right}")
    ws = torch.from_numpy(w.astype(np.float32)).view(-1, *w.shape[-2:])
    if not ws.isfinite().all():
        raise InputError(f"{path}: w has values that are not finite")
    return ws


def write_ws(path: str | Path, ws: torch.Tensor) -> None:
    """Writes ws [N, L, w_dim] as the `w` of an .npz file: the inverse of `read_ws`."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, w=ws.detach().cpu().numpy())
