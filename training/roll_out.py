"""How the layers of a network see three feature planes (Mimic3D, Chen et al. 2023, section 3.3).

The planes are xy, yz and zx, named by width and height: P_xy[c, y, x], P_yz[c, z, y] and
P_zx[c, x, z]. So the height of each is the width of the next one in the circle, which is all that
the exchange of features has to know.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def aware3d(x: Tensor) -> Tensor:
    """What each point of a plane can know of the other two: means over the axis that it lacks.

    x [3 N, C, H, H], a plane an item, those of a sample in a row -> [3 N, 3 C, H, H]: for each
    plane its own features and those means, always in the order xy, yz, zx.
    """
    planes = x.unflatten(0, (-1, 3))
    # Over the height of the next plane: a function of its width, which is the height here.
    from_next = planes.mean(dim=3).unsqueeze(4).expand_as(planes).roll(-1, dims=1)
    # Over the width of the one after it: a function of its height, which is the width here.
    from_after = planes.mean(dim=4).unsqueeze(3).expand_as(planes).roll(-2, dims=1)
    circles = (planes, from_next, from_after)
    slots = [circles[(slot - plane) % 3][:, plane] for plane in range(3) for slot in range(3)]
    return torch.stack(slots, dim=1).reshape(len(x), -1, *x.shape[2:])


def aware3d_attention(x: Tensor) -> Tensor:
    """As `aware3d` with attention in place of means: each point asks the line of points that the
    other plane has for it, by the products of their features.

    [3 N, C, H, H] -> [3 N, 3 C, H, H]; here a plane itself comes first, then the next ones.
    """
    planes = x.unflatten(0, (-1, 3))
    # [N, 3, height, width, C]: one axis numbers the lines, the other one the points of a line.
    rows, columns = planes.permute(0, 1, 3, 4, 2), planes.permute(0, 1, 4, 3, 2)
    of_next, of_after = columns.roll(-1, dims=1), rows.roll(-2, dims=1)
    from_next = F.scaled_dot_product_attention(rows, of_next, of_next, scale=1)
    from_after = F.scaled_dot_product_attention(columns, of_after, of_after, scale=1)
    found = [planes, from_next.permute(0, 1, 4, 2, 3), from_after.permute(0, 1, 4, 3, 2)]
    return torch.cat(found, dim=2).flatten(0, 1)


class RollOut(NamedTuple):
    """Where a layer finds the planes, and what it reads of the others.

    Args:
        exchange: makes the input of the convolution of that of the layer.
        gathered: by how much that has more channels.
        separate: planes that are items of the batch; each has styles of its own.
        abreast: planes side by side, the number of the plane being the innermost part of the width.
    """

    exchange: Callable[[Tensor], Tensor] | None = None
    gathered: int = 1
    separate: int = 1
    abreast: int = 1

    def gather(self, x: Tensor) -> Tensor:
        """[separate N, C, H, W] -> [separate N, gathered C, H, W]."""
        return x if self.exchange is None else self.exchange(x)

    def styles(self, styles: Tensor) -> Tensor:
        """[N, separate I] -> [separate N, I]."""
        return (
            styles if self.separate == 1 else styles.unflatten(1, (self.separate, -1)).flatten(0, 1)
        )

    def planes(self, x: Tensor) -> Tensor:
        """[separate N, C, H, abreast W] -> [N, separate abreast C, H, W]: planes after planes."""
        if self.abreast > 1:
            x = x.unflatten(3, (-1, self.abreast)).permute(0, 4, 1, 2, 3).flatten(1, 2)
        return x if self.separate == 1 else x.reshape(-1, self.separate * x.shape[1], *x.shape[2:])


ROLL_OUTS = {
    None: RollOut(),
    "b": RollOut(aware3d, gathered=3, separate=3),
    "a": RollOut(aware3d_attention, gathered=3, separate=3),
    "s": RollOut(separate=3),
    "w": RollOut(abreast=3),
}


def roll_out_of(name: str | None) -> RollOut:
    """The entry of `ROLL_OUTS`: the planes are channels (None), exchange means ('b') or attend to
    each other ('a'), keep apart ('s') or lie side by side ('w'). Raises ValueError for others."""
    if name not in ROLL_OUTS:
        raise ValueError(f"roll_out must be one of {tuple(ROLL_OUTS)}, not {name!r}")
    return ROLL_OUTS[name]
