"""The generator of EpiGRAF (Skorokhodov et al. 2022, section 3.1): three planes, a decoder, and
nothing behind the volume renderer but, where it is wanted, a background."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from torch_utils import persistence
from training.epigraf.background import inverse_distances, plane_background, sphere_background
from training.epigraf.background_network import BackgroundINR
from training.epigraf.cameras import angles_from_label
from training.epigraf.decoder import rgb_decoder
from training.epigraf.mapping import PoseMappingNetwork
from training.networks_stylegan2 import SynthesisNetwork
from training.triplane import PLANE_CHANNELS, TriPlaneGenerator
from training.volumetric_rendering.draws import Draws, RandomDraws
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.renderer import TriPlaneField, render_rays

BACKGROUNDS = ("none", "plane", "sphere")
PLANE_RESOLUTION = 512

# Published planes lie in a world whose x, y and z are z, y and -x of the one that labels mean:
# (x,y), (x,z), (y,z) there are these axes here, once the last two planes are turned upside down.
PLANE_AXES = ((2, 1, 0), (2, 0, 1), (1, 0, 2))
MIRRORED = (1, 2)


class PlaneBackbone(torch.nn.Module):
    """Mapping and synthesis, of which the synthesis takes the first latents, a background the rest.

    `num_ws` counts both.
    """

    def __init__(self, mapping: PoseMappingNetwork, synthesis: SynthesisNetwork):
        super().__init__()
        self.mapping = mapping
        self.synthesis = synthesis
        self.num_ws = mapping.num_ws


@persistence.persistent_class
class EpigrafGenerator(TriPlaneGenerator):
    """z [N, z_dim], label c [N, 25] -> pictures rendered at their full resolution.

    `rendering_kwargs['layers']` says what is shown: 'all', the 'foreground' or the 'background'.

    Args:
        mapping_kwargs: options of `PoseMappingNetwork`; `camera_cond` shows poses to it.
        decoder_kwargs: options of `decoder.rgb_decoder`.
        background: what is behind the volume: 'none', a 'plane' (a picture) or a 'sphere' (a
            network around the scene).
        background_kwargs: options of `BackgroundINR`.
        plane_resolution: side of the planes.
        kwargs: those of `TriPlaneGenerator`, without super-resolution.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "layers": ("all", "foreground", "background")
    }
    pixel_grid: ClassVar[str] = "corners"
    nested_arguments: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mapping_kwargs": ("PoseMappingNetwork", "MappingNetwork"),
        "decoder_kwargs": ("LinearRGBDecoder", "EncodedRGBDecoder"),
        "background_kwargs": ("BackgroundINR",),
    }

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict | None = None,
        rendering_kwargs: dict | None = None,
        decoder_kwargs: dict | None = None,
        background: str = "none",
        background_kwargs: dict | None = None,
        plane_resolution: int = PLANE_RESOLUTION,
        conv_clamp: float | None = 256,
        num_fp16_res: int = 0,
        **kwargs,
    ):
        if background not in BACKGROUNDS:
            raise ValueError(f"background is {background!r}; must be one of {BACKGROUNDS}")
        # Plain values may be set before a module is one; the constructor asks for the networks.
        self.background = background
        self._background_kwargs = dict(background_kwargs or {})
        self._decoder_kwargs = dict(decoder_kwargs or {})
        super().__init__(
            z_dim,
            c_dim,
            w_dim,
            img_resolution,
            img_channels,
            mapping_kwargs=mapping_kwargs,
            rendering_kwargs=rendering_kwargs,
            plane_resolution=plane_resolution,
            conv_clamp=conv_clamp,
            num_fp16_res=num_fp16_res,
            **kwargs,
        )
        self.neural_rendering_resolution = img_resolution
        self.renderer.plane_axes = torch.eye(3)[torch.tensor(PLANE_AXES)]

    @property
    def own_choices(self) -> Mapping[str, tuple[str, ...]]:
        """Without a background there are no layers to choose from."""
        return {} if self.background == "none" else self.choices

    def _backbone(self, side: int, mapping: Mapping, synthesis: Mapping) -> torch.nn.Module:
        channels = 3 * PLANE_CHANNELS + (3 if self.background == "plane" else 0)
        planes = SynthesisNetwork(self.w_dim, side, channels, **synthesis)
        num_ws = planes.num_ws
        self.background_network = None
        if self.background == "sphere":
            self.background_network = BackgroundINR(self.w_dim, **self._background_kwargs)
            num_ws += self.background_network.num_ws
        mapping = PoseMappingNetwork(
            self.z_dim, self.class_dim, self.w_dim, num_ws, camera_raw_scalars=True, **mapping
        )
        return PlaneBackbone(mapping, planes)

    def _decoder(self) -> torch.nn.Module:
        return rgb_decoder(PLANE_CHANNELS, **self._decoder_kwargs)

    # -- Latents and planes ----------------------------------------------------------------------

    def mapping(
        self,
        z: Tensor,
        c: Tensor,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
    ) -> Tensor:
        """See `TriPlaneGenerator.mapping`."""
        pose, class_label = self._conditions(c)
        return self.backbone.mapping(
            z,
            class_label,
            truncation_psi,
            truncation_cutoff,
            update_emas,
            angles=angles_from_label(pose),
        )

    def planes(self, ws: Tensor, update_emas: bool = False, **synthesis_kwargs) -> Tensor:
        """ws [N, num_ws, w_dim] -> planes [N, 3, 32, H, W], float32; with a background that is a
        plane [N, 3, 33, H, W], the last channel of each being one of that picture's."""
        synthesis = self.backbone.synthesis
        channels = synthesis(ws[:, : synthesis.num_ws], update_emas=update_emas, **synthesis_kwargs)
        picture = channels[:, 3 * PLANE_CHANNELS :]
        planes = channels[:, : 3 * PLANE_CHANNELS].unflatten(1, (3, PLANE_CHANNELS))
        planes = torch.stack(
            [p.flip(-2) if i in MIRRORED else p for i, p in enumerate(planes.unbind(1))], dim=1
        )
        if self.background == "plane":
            planes = torch.cat([planes, picture.unsqueeze(2)], dim=2)
        return planes

    def field(
        self,
        planes: Tensor,
        options: Mapping | RenderingOptions | None = None,
        draws: Draws | None = None,
    ) -> TriPlaneField:
        """See `TriPlaneGenerator.field`."""
        return super().field(planes[:, :, :PLANE_CHANNELS], options, draws)

    # -- Pictures --------------------------------------------------------------------------------

    def march(
        self,
        planes: Tensor,
        origins: Tensor,
        directions: Tensor,
        options: Mapping | RenderingOptions | None = None,
        draws: Draws | None = None,
        chunk: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `TriPlaneGenerator.march`: the foreground."""
        return self._foreground(planes, origins, directions, options, draws, chunk)[:3]

    def _foreground(self, planes, origins, directions, options, draws, chunk):
        options = RenderingOptions.from_kwargs(options or self.rendering_kwargs)
        field = self.field(planes, options, draws)
        return render_rays(field, origins, directions, options, draws, chunk)

    def _shade(self, planes, ws, view, origins, directions, options, draws, chunk):
        layers = options.get("layers", "all")
        if layers not in self.choices["layers"]:
            raise ValueError(f"layers is {layers!r}; must be one of {self.choices['layers']}")
        if layers == "background" and self.background == "none":
            raise ValueError("layers is 'background', but this model has none")
        behind = self.background != "none" and layers != "foreground"
        if behind and options.get("white_back"):
            options = {**options, "white_back": False}  # what is behind is not white light
        front = self._foreground(planes, origins, directions, options, draws, chunk)
        if not behind:
            return front[:3]
        back = self._behind(planes, ws, view, origins, directions, options, draws, chunk)
        if layers == "background":
            return back, torch.zeros_like(front.depth), torch.zeros_like(front.opacity)
        features = front.features + back * front.transmittance
        return features, front.depth, front.opacity

    def _behind(self, planes, ws, view, origins, directions, options, draws, chunk) -> Tensor:
        """The colours [N, M, 3] of what is behind the volume."""
        if self.background == "plane":
            picture = planes[:, :, PLANE_CHANNELS]
            return plane_background(picture, self.img_resolution, view).flatten(2).transpose(1, 2)
        count, jitter = options.get("background_steps", 8), None
        if self.training:
            shape = (*origins.shape[:2], count, 1)
            jitter = (draws or RandomDraws()).coarse(shape, origins).squeeze(-1)
        inverse = inverse_distances(
            count, options.get("background_start", 1.0), jitter, origins.device
        )
        return sphere_background(
            self.background_network,
            ws[:, self.backbone.synthesis.num_ws :],
            _published_frame(origins),
            _published_frame(directions),
            inverse,
            chunk,
        )


def _published_frame(vectors: Tensor) -> Tensor:
    """Vectors [..., 3] of the labels' world in the axes that published networks know."""
    x, y, z = vectors.unbind(-1)
    return torch.stack([z, y, -x], dim=-1)


def published_keys(name: str) -> str:
    """The name in a published checkpoint's G of a tensor of `EpigrafGenerator`."""
    table: dict[str, Any] = {
        "backbone.synthesis.": "synthesis.tri_plane_decoder.",
        "backbone.mapping.": "mapping.",
        "decoder.net.": "synthesis.tri_plane_mlp.model.",
        "background_network.": "synthesis.bg_model.",
    }
    for ours, theirs in table.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
