"""Dual discrimination (EG3D, Chan et al. 2022, section 4.2): the discriminator sees the final
picture and the enlarged raw rendering together, so that the two agree."""

import torch
from torch import Tensor

from torch_utils import persistence
from torch_utils.ops import resampling, upfirdn2d
from training.cameras import split_label
from training.networks_stylegan2 import Discriminator


def filtered_resizing(
    image_orig_tensor: Tensor, size: int, f: Tensor, filter_mode: str | float = "antialiased"
) -> Tensor:
    """Resizes [N, C, h, h] to [N, C, size, size].

    Args:
        f: filter of the mode 'classic', which resamples through twice the size.
        filter_mode: 'antialiased', 'classic', 'none' (plain bilinear), or a number t between 0 and
            1 that blends none (0) and antialiased (1).
    """
    images = image_orig_tensor

    def bilinear(x: Tensor, side: int, antialias: bool) -> Tensor:
        if x.shape[-2:] == (side, side):
            return x
        return resampling.resize(x, side, side, antialias)

    if filter_mode == "antialiased":
        return bilinear(images, size, antialias=True)
    if filter_mode == "none":
        return bilinear(images, size, antialias=False)
    if filter_mode == "classic":
        larger = bilinear(upfirdn2d.upsample2d(images, f, up=2), 2 * size + 2, antialias=False)
        return upfirdn2d.downsample2d(larger, f, down=2, flip_filter=True, padding=-1)
    if isinstance(filter_mode, (int, float)) and 0 <= filter_mode <= 1:
        plain = bilinear(images, size, antialias=False)
        return plain.lerp(bilinear(images, size, antialias=True), float(filter_mode))
    raise ValueError(
        f"filter_mode must be antialiased, classic, none or a number from 0 to 1: {filter_mode!r}"
    )


def noisy_label(c: Tensor, strength: float) -> Tensor:
    """Adds Gaussian noise of `strength` standard deviations of the batch; none for a batch of 1."""
    if strength <= 0:
        return c
    noise = torch.randn_like(c)
    return c if c.shape[0] < 2 else c + noise * c.std(dim=0) * strength


@persistence.persistent_class
class DualDiscriminator(Discriminator):
    """({'image': [N, 3, R, R], 'image_raw': [N, 3, h, h]}, c [N, c_dim]) -> logits [N, 1].

    `disc_c_noise` is the noise on the label's camera, in standard deviations of the batch.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        *args,
        disc_c_noise: float = 0,
        **kwargs,
    ):
        super().__init__(c_dim, img_resolution, 2 * img_channels, *args, **kwargs)
        self.disc_c_noise = disc_c_noise
        self.register_buffer("resample_filter", upfirdn2d.setup_filter([1, 3, 3, 1]))

    def forward(
        self, img: dict[str, Tensor], c: Tensor, update_emas: bool = False, **block_kwargs
    ) -> Tensor:
        """Logits [N, 1] of the pair of pictures at label `c`."""
        if self.disc_c_noise > 0:
            camera, classes = split_label(c)
            c = torch.cat([noisy_label(camera, self.disc_c_noise), classes], dim=1)
        return super().forward(self._stack(img), c, update_emas=update_emas, **block_kwargs)

    def _stack(self, img: dict[str, Tensor], raw_gain: float = 1) -> Tensor:
        image, raw = img["image"], img["image_raw"]
        raw = filtered_resizing(raw, image.shape[-1], self.resample_filter)
        return torch.cat([image, raw if raw_gain == 1 else raw * raw_gain], dim=1)


@persistence.persistent_class
class DummyDualDiscriminator(DualDiscriminator):
    """Dual discriminator whose raw picture fades out over the first 500,000 / 32 calls."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.raw_fade = 1.0

    def forward(
        self, img: dict[str, Tensor], c: Tensor, update_emas: bool = False, **block_kwargs
    ) -> Tensor:
        """As DualDiscriminator, one call further into the fade."""
        self.raw_fade = max(0.0, self.raw_fade - 32 / 500000)
        stacked = self._stack(img, raw_gain=self.raw_fade)
        return Discriminator.forward(self, stacked, c, update_emas=update_emas, **block_kwargs)


@persistence.persistent_class
class SingleDiscriminator(Discriminator):
    """Looks at img['image'] alone. `sr_upsample_factor` and `disc_c_noise` have no meaning here."""

    def __init__(self, *args, sr_upsample_factor: int = 1, disc_c_noise: float = 0, **kwargs):
        super().__init__(*args, **kwargs)

    def forward(
        self, img: dict[str, Tensor], c: Tensor, update_emas: bool = False, **kwargs
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Logits [N, 1] of the final picture at label `c`; `kwargs` as of `Discriminator`."""
        return super().forward(img["image"], c, update_emas=update_emas, **kwargs)
