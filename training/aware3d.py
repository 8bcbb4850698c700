"""Three feature planes that know of each other, and finer ones made of them (Mimic3D, Chen et al.
2023, section 3.3).

Beside the image of the backbone, whose channels are the planes, runs a second stream of planes that
exchange features. Planes come and go as channels of one image, [N, 3 C, H, W].
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from torch_utils import persistence
from training.synthesis import SynthesisBlock, resolutions

MAX_FINER = 2  # blocks after the stream


@persistence.persistent_class
class Aware3DBlock(torch.nn.Module):
    """One level of the stream, and after the last one the blocks that make finer planes.

    Args:
        channels: of one plane.
        w_dim: size of the latents.
        resolution: side of the planes that come in.
        up: factor between that and the side of the stream's planes; 1 at the last level.
        attention: exchange features by attention in place of means.
        finer: how many blocks follow; the first one doubles the side.
        block_kwargs: options of the synthesis blocks.
    """

    def __init__(
        self,
        channels: int,
        w_dim: int,
        resolution: int,
        up: int = 2,
        attention: bool = False,
        finer: int = 0,
        **block_kwargs,
    ):
        super().__init__()
        roll_out = "a" if attention else "b"
        self.block = _plane_block(channels, w_dim, resolution * up, up, roll_out, **block_kwargs)
        _add_finer(self, channels, w_dim, resolution * up, finer, **block_kwargs)

    def forward(
        self, img: Tensor, stream: Tensor | None, ws: Tensor, finer: bool = True, **block_kwargs
    ) -> list[Tensor]:
        """Image and stream so far [N, 3 C, R, R] (None at first), ws [N, L, w_dim], of which the
        last one is used -> planes of the stream [N, 3 C, R up, R up], then those of each of the
        finer blocks unless these are left out."""
        planes = img if stream is None else img + stream
        blocks = self.children() if finer else [self.block]
        return _in_turn(blocks, planes, ws, **block_kwargs)

    def finer(self, planes: Tensor, ws: Tensor, **block_kwargs) -> list[Tensor]:
        """The finer planes that `forward` left out, of the planes that it returned."""
        _, *blocks = self.children()
        return _in_turn(blocks, planes, ws, **block_kwargs)


@persistence.persistent_class
class SR3DBlock(torch.nn.Module):
    """The blocks that make finer planes, for a backbone without a stream.

    Args:
        channels: of one plane.
        w_dim: size of the latents.
        resolution: side of the planes that come in; twice that is the side of those made.
        block_kwargs: options of the synthesis blocks.
    """

    def __init__(self, channels: int, w_dim: int, resolution: int, **block_kwargs):
        super().__init__()
        _add_finer(self, channels, w_dim, resolution, MAX_FINER, **block_kwargs)

    def forward(self, img: Tensor, ws: Tensor, **block_kwargs) -> list[Tensor]:
        """img [N, 3 C, R, R], ws [N, L, w_dim], of which the last one is used -> what each block
        makes, [N, 3 C, 2 R, 2 R]."""
        return _in_turn(self.children(), img, ws, **block_kwargs)


def aware3d_resolutions(img_resolution: int) -> list[int]:
    """The levels of a stream that runs through the whole backbone: [4, 8, ..., img_resolution]."""
    return resolutions(img_resolution)


def finer_blocks(retidx: Sequence[int] | None, add_block: int) -> int:
    """How many blocks for finer planes these options of a backbone ask for, 0 to 2."""
    return 0 if retidx is None or add_block else -1 - min(retidx)


def check_options(
    img_resolution: int,
    img_channels: int,
    retidx: Sequence[int] | None,
    add_block: int,
    roll_out: str | None,
    aware3d_res: Sequence[int],
    aware3d_att: bool,
    add_sr_module: bool,
) -> None:
    """Raises ValueError for options of a backbone that mean nothing, or nothing together."""
    known = resolutions(img_resolution)
    first = known.index(aware3d_res[0]) if aware3d_res and aware3d_res[0] in known else 0
    if list(aware3d_res) != known[first : first + len(aware3d_res)]:
        raise ValueError(
            f"aware3d_res must be some of {known} without a gap, not {list(aware3d_res)}"
        )
    if aware3d_att and not aware3d_res:
        raise ValueError("aware3d_att needs aware3d_res, the levels that it is for")
    if add_block < 0:
        raise ValueError(f"add_block must be a number from 0, not {add_block}")
    if img_channels % 3 and (aware3d_res or add_sr_module or roll_out):
        raise ValueError(f"img_channels must be those of three planes, not {img_channels}")
    if roll_out == "s":
        raise ValueError("roll_out 's' is for blocks that get planes: a backbone starts from none")
    if roll_out is not None and (aware3d_res or add_sr_module):
        raise ValueError(f"roll_out {roll_out!r} goes without aware3d_res and add_sr_module")

    allowed = range(-1 - MAX_FINER, 0)
    if retidx is not None and not (retidx and all(i in allowed for i in retidx)):
        raise ValueError(f"retidx must be some of {list(allowed)}, not {retidx}")
    reach = 0 if retidx is None else -1 - min(retidx)
    if add_sr_module:
        if aware3d_res or reach < MAX_FINER:
            raise ValueError("add_sr_module needs retidx [-3, -1], and no aware3d_res")
    elif finer_blocks(retidx, add_block) and img_resolution not in aware3d_res:
        raise ValueError(
            f"retidx {list(retidx)} needs add_sr_module, or aware3d_res up to {img_resolution}"
        )
    elif add_block and reach >= len(known) + add_block:
        raise ValueError(f"retidx {list(retidx)} reaches back further than there are planes")


def _plane_block(
    channels: int, w_dim: int, resolution: int, up: int, roll_out: str, **block_kwargs
) -> SynthesisBlock:
    return SynthesisBlock(
        channels,
        channels,
        w_dim=w_dim,
        resolution=resolution,
        img_channels=channels,
        is_last=True,
        up=up,
        roll_out=roll_out,
        **block_kwargs,
    )


def _add_finer(
    module: torch.nn.Module, channels: int, w_dim: int, resolution: int, count: int, **block_kwargs
) -> None:
    """`block2` doubles the resolution, `block3` keeps that. They leave the planes apart, but one
    alone exchanges means."""
    roll_out = "b" if count == 1 else "s"
    for i, up in enumerate((2, 1)[:count]):
        block = _plane_block(channels, w_dim, 2 * resolution, up, roll_out, **block_kwargs)
        module.add_module(f"block{i + 2}", block)


def _in_turn(
    blocks: Iterable[SynthesisBlock], planes: Tensor, ws: Tensor, **block_kwargs
) -> list[Tensor]:
    """What each block makes of the planes before it, [N, 3 C, H, W], with the last latent."""
    ws = ws[:, -1:].expand(-1, 3, -1)
    apart = planes.unflatten(1, (3, -1)).flatten(0, 1)
    made = []
    for block in blocks:
        _, apart = block(apart, None, ws, **block_kwargs)
        made.append(apart.reshape(planes.shape[0], -1, *apart.shape[2:]))
    return made
