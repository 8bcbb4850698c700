"""The network of the background (EpiGRAF, Skorokhodov et al. 2022, appendix): from points outside
the unit sphere to colours and densities, each layer scaled by a latent."""

import torch
from torch import Tensor

from torch_utils import misc, persistence
from torch_utils.ops.epilogue import Epilogue
from training.epigraf.encoders import ScalarEncoder1d
from training.layers import FullyConnectedLayer, modulated_conv2d

POINT_NUMBERS = 4  # direction on the unit sphere, and inverse distance
OUTPUTS = 4  # colours, raw density
MAX_BLOCKS = 8


@persistence.persistent_class
class BackgroundLayer(torch.nn.Module):
    """Linear layer whose inputs a latent scales: [N, in_features, P, 1] -> [N, out_features, P, 1].

    Demodulated and activated, or, with `last`, neither.
    """

    def __init__(self, in_features: int, out_features: int, w_dim: int, last: bool = False):
        super().__init__()
        self.last = last
        self.weight = torch.nn.Parameter(torch.randn(out_features, in_features))
        self.bias = torch.nn.Parameter(torch.zeros(out_features))
        self.affine = FullyConnectedLayer(w_dim, in_features, bias_init=1)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [N, I, P, 1], w [N, w_dim] -> [N, O, P, 1]."""
        styles = self.affine(w)
        return modulated_conv2d(
            x=x,
            weight=self.weight[:, :, None, None],
            styles=styles / self.weight.shape[1] ** 0.5 if self.last else styles,
            demodulate=not self.last,
            epilogue=Epilogue(bias=self.bias, act="linear" if self.last else "lrelu"),
        )


@persistence.persistent_class
class BackgroundBlock(torch.nn.Module):
    """Two layers and one that reads off what adds to the output; the first block of all
    (`in_features == 0`) begins with the code of the points and one layer.

    Consumes as many latents as it has layers. `period`: of the code of the points.
    """

    def __init__(self, in_features: int, out_features: int, w_dim: int, outputs: int, period: int):
        super().__init__()
        self.scalar_enc = self.conv0 = None
        if in_features == 0:
            self.scalar_enc = ScalarEncoder1d(POINT_NUMBERS, period)
            first = self.scalar_enc.dim
        else:
            self.conv0 = BackgroundLayer(in_features, out_features, w_dim)
            first = out_features
        self.conv1 = BackgroundLayer(first, out_features, w_dim)
        self.to_out = BackgroundLayer(out_features, outputs, w_dim, last=True)
        self.num_conv = 1 if self.conv0 is None else 2

    def forward(self, x: Tensor, ws: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, P, 4] points or [N, I, P, 1], ws [N, num_conv + 1, w_dim] -> features and
        contribution to the output, [N, O, P, 1]."""
        w = iter(ws.unbind(dim=1))
        if self.conv0 is None:
            x = self.scalar_enc(x).transpose(1, 2).unsqueeze(-1)
        else:
            x = self.conv0(x, next(w))
        x = self.conv1(x, next(w))
        return x, self.to_out(x, next(w))


@persistence.persistent_class
class BackgroundINR(torch.nn.Module):
    """Points [N, P, 4] outside the unit sphere, latents -> colours and raw density [N, P, 4].

    A block's last layer shares its latent with the first layer of the next block.

    Args:
        w_dim: size of a latent.
        num_blocks: how many blocks, from 1 to 8.
        channel_base, channel_max: block i has min(channel_base / 2^(i + 2), channel_max) features.
        period: of the code of the points: so many octaves as its logarithm, from half a turn on.
    """

    def __init__(
        self,
        w_dim: int,
        num_blocks: int = 2,
        channel_base: int = 32768,
        channel_max: int = 128,
        period: int = 64,
    ):
        super().__init__()
        if not 1 <= num_blocks <= MAX_BLOCKS:
            raise ValueError(f"num_blocks must be from 1 to {MAX_BLOCKS}, not {num_blocks}")
        self.w_dim = w_dim
        widths = [min(channel_base // 2 ** (i + 2), channel_max) for i in range(num_blocks)]
        self.blocks = torch.nn.ModuleList(
            BackgroundBlock(before, width, w_dim, OUTPUTS, period)
            for before, width in zip([0, *widths[:-1]], widths, strict=True)
        )
        self.num_ws = sum(block.num_conv for block in self.blocks) + 1

    def forward(self, points: Tensor, ws: Tensor) -> Tensor:
        """points [N, P, 4], ws [N, num_ws, w_dim] -> r, g, b, raw density [N, P, 4], float32."""
        misc.assert_shape(ws, [None, self.num_ws, self.w_dim])
        x, total, first = points, 0, 0
        for block in self.blocks:
            x, part = block(x, ws[:, first : first + block.num_conv + 1])
            total = total + part
            first += block.num_conv
        return total[..., 0].transpose(1, 2)
