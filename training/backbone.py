"""The backbone (EG3D, Chan et al. 2022, section 4.2): from latents to an image whose channels are
three feature planes; on demand with Mimic3D's stream of planes that know of each other."""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from torch_utils import misc, persistence
from training.aware3d import Aware3DBlock, SR3DBlock, check_options, finer_blocks
from training.layers import MappingNetwork
from training.roll_out import ROLL_OUTS
from training.synthesis import (
    SynthesisBlock,
    block_channels,
    first_fp16_resolution,
    resolutions,
)


@persistence.persistent_class
class SynthesisNetwork(torch.nn.Module):
    """Blocks `b4`, `b8`, ... from a constant to [N, img_channels, img_resolution, img_resolution].

    The colour layer of a block shares its latent with the first convolution of the next one.

    Args:
        w_dim: size of the latents.
        img_resolution: side of the image.
        img_channels: its channels, those of all three planes.
        channel_base, channel_max: widths of the blocks, see `block_channels`.
        num_fp16_res: how many of the last resolutions run in half precision on a GPU.
        aware3d_res: resolutions at which planes know of each other (`b3d4`, `b3d8`, ...), in a row.
            From the last of them on, what these blocks made is the image.
        aware3d_att: they exchange features by attention, not by means.
        retidx: which planes to return, counted from the end; more than those of the backbone are
            made as needed: [-3, -1] are its own and, of twice the side, details to be added.
        add_block: how many blocks of the last resolution follow.
        add_sr_module: the details are made without `aware3d_res` too.
        roll_out: how all layers see the planes, see `training.roll_out`; for experiments.
        aware3d_init: factor on the first weights of what the stream puts out. Its output layers
            have three times the inputs that their gain is for, so that planes grow from level to
            level; less than 1 lets training start from planes of EG3D's size.
        block_kwargs: options of the blocks.
    """

    add_block = 0
    retidx: Sequence[int] | None = None
    roll_out: str | None = None

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 4,
        aware3d_res: Sequence[int] = (),
        aware3d_att: bool = False,
        retidx: Sequence[int] | None = None,
        add_block: int = 0,
        add_sr_module: bool = False,
        roll_out: str | None = None,
        aware3d_init: float = 1,
        **block_kwargs,
    ):
        super().__init__()
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = img_resolution.bit_length() - 1
        self.img_channels = img_channels
        self.num_fp16_res = num_fp16_res
        self.block_resolutions = resolutions(img_resolution)
        # Attributes only where they say something: files of plain networks stay as they were.
        for name, value in dict(add_block=add_block, retidx=retidx, roll_out=roll_out).items():
            if value != getattr(self, name):
                setattr(self, name, value)
        stream = dict(aware3d_res=aware3d_res, aware3d_att=aware3d_att, add_sr_module=add_sr_module)
        check_options(img_resolution, img_channels, retidx, add_block, roll_out, **stream)

        self.num_ws = 0
        in_channels = 0
        for level in self._levels():
            res = min(level, img_resolution)
            out_channels = block_channels(res, channel_base, channel_max)
            block = SynthesisBlock(
                in_channels,
                out_channels,
                w_dim=w_dim,
                resolution=res,
                img_channels=img_channels if roll_out is None else img_channels // 3,
                is_last=level == img_resolution + add_block,
                use_fp16=res >= first_fp16_resolution(img_resolution, num_fp16_res),
                up=None if level == res else 1,
                roll_out=roll_out,
                **block_kwargs,
            )
            self.add_module(f"b{level}", block)
            self.num_ws += block.num_conv + (block.num_torgb if block.is_last else 0)
            in_channels = out_channels
        self._add_stream(**stream, **block_kwargs)
        for res in aware3d_res:
            getattr(self, f"b3d{res}").block.torgb.weight.data *= aware3d_init

    def _add_stream(
        self, aware3d_res: Sequence[int], aware3d_att: bool, add_sr_module: bool, **block_kwargs
    ) -> None:
        sizes = (self.img_channels // 3, self.w_dim)
        finer = finer_blocks(self.retidx, self.add_block)
        for level in self._levels():
            res = min(level, self.img_resolution)
            if res in aware3d_res:
                last = res == aware3d_res[-1]
                options = dict(up=1 if last else 2, finer=finer if last else 0, **block_kwargs)
                block = Aware3DBlock(*sizes, res, attention=aware3d_att, **options)
                self.add_module(f"b3d{level}", block)
        if aware3d_res:  # published weights have it so
            self.b4.const = torch.nn.Parameter(self.b4.const.detach()[None])
        if add_sr_module:
            self.sr3d = SR3DBlock(*sizes, self.img_resolution, **block_kwargs)

    def forward(
        self, ws: Tensor, finer: bool = True, **block_kwargs
    ) -> Tensor | tuple[Tensor, ...]:
        """ws [N, num_ws, w_dim] -> [N, img_channels, img_resolution, img_resolution], float32.

        With several `retidx` a tuple of such tensors, in their order: for [-3, -1] the planes as
        without it, and the details, [N, img_channels, 2 img_resolution, 2 img_resolution].
        Without `finer` the planes alone, whatever `retidx` are.
        """
        retidx = self.retidx if finer and self.retidx else (-1,)
        last = deque(self.levels(ws, finer, **block_kwargs), maxlen=-min(retidx))
        chosen = tuple(last[i].contiguous() for i in retidx)
        return chosen if len(chosen) > 1 else chosen[0]

    def details(self, planes: Tensor, ws: Tensor, **block_kwargs) -> Tensor:
        """The details, [N, img_channels, 2 img_resolution, 2 img_resolution], of planes that were
        made of ws without them."""
        if hasattr(self, "sr3d"):
            return self.sr3d(planes, ws, **block_kwargs)[-1]
        return getattr(self, f"b3d{self.img_resolution}").finer(planes, ws, **block_kwargs)[-1]

    def levels(self, ws: Tensor, finer: bool = True, **block_kwargs) -> Iterator[Tensor]:
        """The planes [N, img_channels, r, r] as they grow, after each block; `retidx` are places
        among these. Where there is a stream they are its planes. Last come the finer ones."""
        misc.assert_shape(ws, [None, self.num_ws, self.w_dim])
        ws = ws.to(torch.float32)
        x = img = stream = None
        first = 0
        for level in self._levels():
            block = getattr(self, f"b{level}")
            aware = getattr(self, f"b3d{level}", None)
            latents = ws[:, first : first + block.num_conv + block.num_torgb]
            first += block.num_conv
            if aware is None and stream is not None:
                img, stream = stream, None  # the stream has ended and becomes the image
            x, img = block(x, img, latents, **block_kwargs)
            if aware is None:
                yield ROLL_OUTS[self.roll_out].planes(img)
            else:
                stream, *more = aware(img, stream, latents, finer, **block_kwargs)
                yield stream
                yield from more
        if finer and hasattr(self, "sr3d"):
            yield from self.sr3d(img, ws, **block_kwargs)

    def _levels(self) -> list[int]:
        """The numbers in the names of the blocks: resolutions, then those of `add_block`."""
        more = range(self.img_resolution + 1, self.img_resolution + 1 + self.add_block)
        return [*self.block_resolutions, *more]


@persistence.persistent_class
class Generator(torch.nn.Module):
    """Mapping and synthesis: z [N, z_dim], c [N, c_dim] -> image. EG3D's backbone."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict | None = None,
        **synthesis_kwargs,
    ):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **synthesis_kwargs)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(
            z_dim, c_dim, w_dim, num_ws=self.num_ws, **(mapping_kwargs or {})
        )

    def forward(
        self,
        z: Tensor,
        c: Tensor,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
        **synthesis_kwargs,
    ) -> Tensor:
        """z [N, z_dim], c [N, c_dim] -> [N, img_channels, img_resolution, img_resolution]."""
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff, update_emas=update_emas)
        return self.synthesis(ws, update_emas=update_emas, **synthesis_kwargs)
