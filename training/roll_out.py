"""Where the layers of a network find three feature planes, and what they make of them together."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from training.plane_exchange import attention_conv2d, aware3d_conv2d


class RollOut(NamedTuple):
    """Where a layer finds the planes, and what it reads of the others.

    Args:
        convolve: takes the place of `modulated_conv2d` where planes exchange features.
        gathered: by how much its weights have more input channels then.
        separate: planes that are items of the batch; each has styles of its own.
        abreast: planes side by side, the number of the plane being the innermost part of the width.
    """

    convolve: Callable[..., Tensor] | None = None
    gathered: int = 1
    separate: int = 1
    abreast: int = 1

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
    "b": RollOut(aware3d_conv2d, gathered=3, separate=3),
    "a": RollOut(attention_conv2d, gathered=3, separate=3),
    "s": RollOut(separate=3),
    "w": RollOut(abreast=3),
}


def roll_out_of(name: str | None) -> RollOut:
    """The entry of `ROLL_OUTS`: the planes are channels (None), exchange means ('b') or attend to
    each other ('a'), keep apart ('s') or lie side by side ('w'). Raises ValueError for others."""
    if name not in ROLL_OUTS:
        raise ValueError(f"roll_out must be one of {tuple(ROLL_OUTS)}, not {name!r}")
    return ROLL_OUTS[name]
