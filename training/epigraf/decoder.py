"""From features of the planes to colours and densities (EpiGRAF, Skorokhodov et al. 2022, section
3.1): leaky ReLU between layers, colours without bounds, the density last."""

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils import persistence
from training.epigraf.encoders import ScalarEncoder1d
from training.layers import FullyConnectedLayer

COLORS = 3
POINT_NUMBERS = DIRECTION_NUMBERS = 3
DIRECTION_MULTIPLIER = 8  # three octaves
COLOR_HIDDEN_DIM = 32


def mean_over_planes(sampled_features: Tensor) -> Tensor:
    """[N, planes, P, C] -> [N, P, C]."""
    return sampled_features[:, 0] if sampled_features.shape[1] == 1 else sampled_features.mean(1)


def layers(widths: list[int]) -> torch.nn.Sequential:
    """Linear layers from each width to the next, leaky ReLU after all but the last."""
    pairs = list(zip(widths[:-1], widths[1:], strict=True))
    hidden = [FullyConnectedLayer(a, b, activation="lrelu") for a, b in pairs[:-1]]
    return torch.nn.Sequential(*hidden, FullyConnectedLayer(*pairs[-1]))


@persistence.persistent_class
class LinearRGBDecoder(torch.nn.Module):
    """The published decoder: mean over the planes, one hidden layer, colours and density linear."""

    averages_planes = True
    hidden_activation = "lrelu"
    color_activation = "linear"

    def __init__(self, n_features: int, hidden_dim: int = 64):
        super().__init__()
        self.net = layers([n_features, hidden_dim, COLORS + 1])

    def forward(
        self, sampled_features: Tensor, ray_directions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Features [N, planes, P, C] -> {'rgb': [N, P, 3], 'sigma': [N, P, 1]}, both unbounded;
        `sigma` is the raw density."""
        x = mean_over_planes(sampled_features)
        rgb, sigma = self.net(x.flatten(0, 1)).tensor_split([COLORS], dim=1)
        return {"rgb": rgb.unflatten(0, x.shape[:2]), "sigma": sigma.unflatten(0, x.shape[:2])}

    def two_layers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights and biases as they act, the density first: [H, C], [H], [1 + 3, H], [1 + 3]."""
        first, last = self.net
        return (
            first.weight * first.weight_gain,
            first.bias * first.bias_gain,
            last.weight.roll(1, 0) * last.weight_gain,
            last.bias.roll(1, 0) * last.bias_gain,
        )


@persistence.persistent_class
class EncodedRGBDecoder(torch.nn.Module):
    """What published code offers beyond `LinearRGBDecoder`; no published model has it.

    Args:
        n_features: of the planes.
        hidden_dim: width of the hidden layers.
        n_layers: of all layers, from 2.
        posenc_period_len: above 0, the sines and cosines of each point's place in the box follow
            the features; half a turn of the highest of them is 2 / posenc_period_len.
        has_view_cond: colours depend on the direction of the ray, by two more layers.
    """

    averages_planes = True

    def __init__(
        self,
        n_features: int,
        hidden_dim: int = 64,
        n_layers: int = 2,
        posenc_period_len: float = 0,
        has_view_cond: bool = False,
    ):
        super().__init__()
        if n_layers < 2:
            raise ValueError(f"n_layers of the decoder must be 2 or more, not {n_layers}")
        self.pos_enc = self.ray_dir_enc = self.color_network = None
        self.needs_points = posenc_period_len > 0
        if self.needs_points:
            self.pos_enc = ScalarEncoder1d(POINT_NUMBERS, posenc_period_len)
            n_features += self.pos_enc.dim
        outputs = COLORS + 1
        if has_view_cond:
            outputs = hidden_dim + 1
            self.ray_dir_enc = ScalarEncoder1d(
                DIRECTION_NUMBERS, DIRECTION_MULTIPLIER, use_raw=True, use_cos=False
            )
            told = hidden_dim + self.ray_dir_enc.dim
            self.color_network = layers([told, COLOR_HIDDEN_DIM, COLORS])
        self.net = layers([n_features, *[hidden_dim] * (n_layers - 1), outputs])

    def forward(
        self,
        sampled_features: Tensor,
        ray_directions: Tensor | None = None,
        points: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """As `LinearRGBDecoder`, with unit directions [N, P, 3] of the rays and points [N, P, 3] of
        the box [-1, 1]^3 where they count."""
        x = mean_over_planes(sampled_features)
        shape = x.shape[:2]
        x = x.flatten(0, 1)
        if self.pos_enc is not None:
            x = torch.cat([x, self.pos_enc(_given(points, "points").flatten(0, 1))], dim=1)
        rest, sigma = self.net(x).tensor_split([-1], dim=1)
        if self.color_network is not None:
            directions = _given(ray_directions, "ray_directions").flatten(0, 1)
            features = F.leaky_relu(rest, 0.1)
            rest = self.color_network(torch.cat([features, self.ray_dir_enc(directions)], dim=1))
        return {"rgb": rest.unflatten(0, shape), "sigma": sigma.unflatten(0, shape)}


def _given(values: Tensor | None, name: str) -> Tensor:
    if values is None:
        raise ValueError(f"this decoder needs {name}")
    return values


def rgb_decoder(
    n_features: int,
    hidden_dim: int = 64,
    n_layers: int = 2,
    posenc_period_len: float = 0,
    has_view_cond: bool = False,
) -> torch.nn.Module:
    """The decoder of these options: the published one, which kernels can stand in for, if they are
    its own."""
    if (n_layers, posenc_period_len, has_view_cond) == (2, 0, False):
        return LinearRGBDecoder(n_features, hidden_dim)
    return EncodedRGBDecoder(n_features, hidden_dim, n_layers, posenc_period_len, has_view_cond)
