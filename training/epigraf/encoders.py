"""Codes of numbers for networks: sines and cosines of octaves, and learned vectors of whole numbers
(EpiGRAF, Skorokhodov et al. 2022, section 3.2)."""

import math

import torch
from torch import Tensor

from torch_utils import persistence


def normalized_angles(angles: Tensor) -> Tensor:
    """Radians of any size -> turns in (-1, 1): whole turns are dropped, the sign stays."""
    return torch.fmod(angles, 2 * math.pi) / (2 * math.pi)


def octaves(max_value: float) -> Tensor:
    """Angular frequencies [K], K = ceil(log2 max_value), each twice the one before.

    The first makes half a turn at 2^K, `max_value` rounded up to a power of two, the last at 2.
    """
    if not max_value > 1:
        raise ValueError(f"a Fourier code needs max_value above 1, not {max_value}")
    count = math.ceil(math.log2(max_value))
    return 2.0 ** torch.arange(count) * (math.pi / 2**count)


def fourier_code(x: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """x [...], frequencies [K] -> sines [..., K] and cosines [..., K] of their products."""
    phases = x.unsqueeze(-1) * frequencies
    return phases.sin(), phases.cos()


@persistence.persistent_class
class FourierEncoder1d(torch.nn.Module):
    """Numbers [...] up to `max_value` -> sines [..., K] and cosines [..., K] of its `octaves`."""

    def __init__(self, max_value: float):
        super().__init__()
        self.register_buffer("fourier_coefs", octaves(max_value))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[...] -> two of [..., K]."""
        return fourier_code(x, self.fourier_coefs)


@persistence.persistent_class
class ScalarEncoder1d(torch.nn.Module):
    """Vectors [N, coord_dim] with coordinates in [-1, 1] -> codes [N, coord_dim * per_coordinate].

    The code of one coordinate x is, as far as asked for: x itself, sines and cosines of the octaves
    of x * x_multiplier, a learned vector of round(x * x_multiplier), for which x is in [0, 1].

    Args:
        coord_dim: how many coordinates.
        x_multiplier: what x = 1 becomes before the octaves and the whole numbers are taken of it.
        const_emb_dim: size of the learned vectors, one table for all coordinates; 0 for none.
        use_raw, use_cos: whether x itself and the cosines are part of the code.
    """

    def __init__(
        self,
        coord_dim: int,
        x_multiplier: float,
        const_emb_dim: int = 0,
        use_raw: bool = False,
        use_cos: bool = True,
    ):
        super().__init__()
        self.x_multiplier = x_multiplier
        self.use_raw, self.use_cos = use_raw, use_cos
        self.const_embed = None
        if const_emb_dim > 0:
            vectors = torch.randn(math.ceil(x_multiplier) + 1, const_emb_dim)
            self.const_embed = torch.nn.Embedding.from_pretrained(vectors, freeze=False)
        self.fourier_encoder = FourierEncoder1d(x_multiplier)
        waves = len(self.fourier_encoder.fourier_coefs) * (2 if use_cos else 1)
        self.dim = coord_dim * (int(use_raw) + waves + const_emb_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[N, coord_dim] -> [N, dim], coordinate after coordinate."""
        scaled = x * self.x_multiplier
        sines, cosines = self.fourier_encoder(scaled)
        parts = [x.unsqueeze(-1)] if self.use_raw else []
        parts += [sines, cosines] if self.use_cos else [sines]
        if self.const_embed is not None:
            parts.append(self.const_embed(scaled.round().long()))
        return torch.cat(parts, dim=-1).flatten(-2)
