"""The EG3D generator (Chan et al. 2022, figure 4): backbone -> three feature planes -> volume
rendering -> super-resolution."""

import math
from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import Tensor

import dnnlib
from torch_utils import persistence
from training.cameras import LABEL_SIZE, Camera, split_label
from training.networks_stylegan2 import FullyConnectedLayer, Generator
from training.recomputation import run_drawing
from training.views import FullView, View
from training.volumetric_rendering.draws import Draws
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.ray_sampler import RaySampler
from training.volumetric_rendering.renderer import ImportanceRenderer, TriPlaneField

PLANE_CHANNELS = 32
PLANE_RESOLUTION = 256

# Points rendered at a time where no gradients are needed: a batch of 32 renderings of 64 x 64 rays
# in one go, a picture of 512 x 512 rays in two.
POINTS_AT_ONCE = 1 << 24


class OSGDecoder(torch.nn.Module):
    """The decoder of the planes: mean over the planes, one hidden layer of 64, softplus.

    Not view dependent. Checkpoints refer to this class by name.
    """

    averages_planes = True

    def __init__(self, n_features: int, options: dict):
        super().__init__()
        self.hidden_dim = 64
        lr_multiplier = options["decoder_lr_mul"]
        outputs = 1 + options["decoder_output_dim"]
        self.net = torch.nn.Sequential(
            FullyConnectedLayer(n_features, self.hidden_dim, lr_multiplier=lr_multiplier),
            torch.nn.Softplus(),
            FullyConnectedLayer(self.hidden_dim, outputs, lr_multiplier=lr_multiplier),
        )

    def forward(
        self, sampled_features: Tensor, ray_directions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Features [N, planes, P, C] -> {'rgb': [N, P, K] in (-0.001, 1.001), 'sigma': [N, P, 1]}.

        `sigma` is the raw density, before the softplus of the ray marcher. The slightly widened
        sigmoid is that of mip-NeRF (Barron et al. 2021).
        """
        n, planes, points, channels = sampled_features.shape
        x = sampled_features[:, 0] if planes == 1 else sampled_features.mean(dim=1)
        sigma, rgb = self.net(x.reshape(n * points, channels)).tensor_split([1], dim=1)
        rgb = torch.add(rgb.new_full((), -0.001), torch.sigmoid(rgb), alpha=1.002)
        return {"rgb": rgb.reshape(n, points, -1), "sigma": sigma.reshape(n, points, 1)}

    def two_layers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights and biases as they act: [64, C], [64], [1 + K, 64], [1 + K]."""
        first, last = self.net[0], self.net[2]
        return (
            first.weight * first.weight_gain,
            first.bias * first.bias_gain,
            last.weight * last.weight_gain,
            last.bias * last.bias_gain,
        )


@persistence.persistent_class
class TriPlaneGenerator(torch.nn.Module):
    """z [N, z_dim], camera label c [N, 25] -> {'image', 'image_raw', 'image_depth'}.

    With a greater `c_dim` labels are [N, c_dim]: a class, one-hot, follows the camera. Only the
    mapping looks at it.

    `choices` of a class are entries of `rendering_kwargs` that say what is shown, the usual first.
    Where `superresolution_module` is None the rendering itself is the picture.

    Args:
        c_dim: 25, or 25 and as many as there are classes.
        img_resolution: side of the final picture.
        img_channels: recorded only; pictures have 3 channels.
        sr_num_fp16_res: above 0, super-resolution runs in half precision on a GPU.
        mapping_kwargs: options of `MappingNetwork`.
        rendering_kwargs: see docs/options.md; `plane_axes` 'legacy' (default, what published
            weights mean), 'orthogonal' or 'cyclic' (default with `aware3d_res`).
        sr_kwargs: options of the super-resolution module.
        plane_resolution: side of the feature planes.
        synthesis_kwargs: options of the backbone's `SynthesisNetwork`.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    pixel_grid: ClassVar[str] = "centres"  # of whole pictures, see `training.views`

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        sr_num_fp16_res: int = 0,
        mapping_kwargs: dict | None = None,
        rendering_kwargs: dict | None = None,
        sr_kwargs: dict | None = None,
        plane_resolution: int = PLANE_RESOLUTION,
        **synthesis_kwargs,
    ):
        super().__init__()
        if c_dim < LABEL_SIZE:
            raise ValueError(
                f"c_dim must be {LABEL_SIZE} (a camera label, see docs/cameras.md), more for "
                f"classes, not {c_dim}"
            )
        rendering_kwargs = {} if rendering_kwargs is None else rendering_kwargs
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.neural_rendering_resolution = 64
        self.rendering_kwargs = rendering_kwargs
        self._last_planes = None

        # Planes that know of each other follow each other in a circle (Mimic3D).
        usual_axes = "cyclic" if synthesis_kwargs.get("aware3d_res") else "legacy"
        self.renderer = ImportanceRenderer(rendering_kwargs.get("plane_axes", usual_axes))
        self.ray_sampler = RaySampler()
        self.backbone = self._backbone(plane_resolution, mapping_kwargs or {}, synthesis_kwargs)
        self.superresolution = self._superresolution(sr_num_fp16_res, sr_kwargs or {})
        self.decoder = self._decoder()

    @property
    def class_dim(self) -> int:
        """How many classes the labels tell apart; 0: labels are cameras alone."""
        return self.c_dim - LABEL_SIZE

    @property
    def own_choices(self) -> Mapping[str, tuple[str, ...]]:
        """Those of `choices` that this network, as it was configured, leaves."""
        return self.choices

    def usual_side(self, options: Mapping | RenderingOptions | None = None) -> int:
        """The side of a rendering by these options, where nothing else is asked for."""
        return self.neural_rendering_resolution

    # What a method may make of its own.

    def _backbone(self, side: int, mapping: Mapping, synthesis: Mapping) -> torch.nn.Module:
        return Generator(
            self.z_dim,
            self.c_dim,
            self.w_dim,
            img_resolution=side,
            img_channels=3 * PLANE_CHANNELS,
            mapping_kwargs=mapping,
            **synthesis,
        )

    def _decoder(self) -> torch.nn.Module:
        lr_multiplier = self.rendering_kwargs.get("decoder_lr_mul", 1)
        options = dict(decoder_lr_mul=lr_multiplier, decoder_output_dim=PLANE_CHANNELS)
        return OSGDecoder(PLANE_CHANNELS, options)

    def _superresolution(self, num_fp16_res: int, kwargs: Mapping) -> torch.nn.Module | None:
        name = self.rendering_kwargs["superresolution_module"]
        if name is None:
            return None
        return dnnlib.util.construct_class_by_name(
            class_name=name,
            channels=PLANE_CHANNELS,
            img_resolution=self.img_resolution,
            sr_num_fp16_res=num_fp16_res,
            sr_antialias=self.rendering_kwargs["sr_antialias"],
            **kwargs,
            **({} if self.w_dim == 512 else {"w_dim": self.w_dim}),
        )

    def __getstate__(self) -> dict:
        return {**vars(self), "_last_planes": None}  # a cache is neither saved nor copied

    def mapping(
        self,
        z: Tensor,
        c: Tensor,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
    ) -> Tensor:
        """z [N, z_dim], conditioning label c [N, c_dim] -> ws [N, num_ws, w_dim]. A camera alone,
        [N, 25], is of the class number `rendering_kwargs['class_index']`, usually 0."""
        camera, classes = self._conditions(c)
        if self.rendering_kwargs["c_gen_conditioning_zero"]:
            camera = torch.zeros_like(camera)
        camera = camera * self.rendering_kwargs.get("c_scale", 0)
        return self.backbone.mapping(
            z,
            torch.cat([camera, classes], dim=1),
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            update_emas=update_emas,
        )

    def _conditions(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Camera [N, 25] and class [N, class_dim] of labels, see `mapping`."""
        camera, classes = split_label(c)
        if classes.shape[1] == 0 and self.class_dim > 0:
            classes = c.new_zeros(len(c), self.class_dim)
            classes[:, self.rendering_kwargs.get("class_index", 0)] = 1
        return camera, classes

    def planes(self, ws: Tensor, update_emas: bool = False, **synthesis_kwargs) -> Tensor:
        """ws [N, num_ws, w_dim] -> feature planes [N, 3, 32, H, W], float32."""
        planes = self.backbone.synthesis(ws, update_emas=update_emas, **synthesis_kwargs)
        return planes.unflatten(1, (3, PLANE_CHANNELS))

    def complete(
        self,
        planes: Tensor,
        ws: Tensor,
        options: Mapping | RenderingOptions | None = None,
        **synthesis_kwargs,
    ) -> Tensor:
        """What `planes` returned for ws, with what rendering by `options` needs besides; default
        all that anything needs, `field` and every one of `choices`.

        A method's `planes` may leave out what `rendering_kwargs` do not show; here nothing is.
        """
        return planes

    def field(
        self,
        planes: Tensor,
        options: Mapping | RenderingOptions | None = None,
        draws: Draws | None = None,
    ) -> TriPlaneField:
        """What `planes` returned, N scenes, as a function of world points; `options` take the place
        of `rendering_kwargs`."""
        options = self.rendering_kwargs if options is None else options
        return self.renderer.field(planes, self.decoder, options, draws)

    def march(
        self,
        planes: Tensor,
        origins: Tensor,
        directions: Tensor,
        options: Mapping | RenderingOptions | None = None,
        draws: Draws | None = None,
        chunk: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rays [N, M, 3] through what `planes` returned -> features [N, M, K], depth and opacity
        [N, M, 1]; `chunk` rays of a scene at a time, default all."""
        options = self.rendering_kwargs if options is None else options
        return self.renderer(
            planes, self.decoder, origins, directions, options, draws=draws, chunk=chunk
        )

    def _shade(self, planes, ws, view, origins, directions, options, draws, chunk):
        """What `view` shows: features, depth and opacity of its rays, see `march`."""
        return self.march(planes, origins, directions, options, draws, chunk)

    def render(
        self,
        planes: Tensor,
        ws: Tensor,
        c: Tensor,
        neural_rendering_resolution: int | None = None,
        draws: Draws | None = None,
        options: dict | None = None,
        recompute: Collection[str] = (),
        view: View | None = None,
        chunk: int | None = None,
        **synthesis_kwargs,
    ) -> dict[str, Tensor]:
        """Renders what `planes` returned from cameras c [N, 25 or more].

        Args:
            ws: [N, L, w_dim], for the super-resolution.
            neural_rendering_resolution: side of the whole picture's rendering.
            options: take the place of `rendering_kwargs`.
            recompute: the parts, 'renderer' and 'sr', whose activations are not kept for the
                backward pass but computed again.
            view: a part of the picture to render, without super-resolution; default all of it.
            chunk: rays of a picture rendered at a time; default all where gradients are enabled,
                else as many as `POINTS_AT_ONCE` allows.

        Returns the pictures of `synthesis`.
        """
        options = self.rendering_kwargs if options is None else options
        whole = view is None
        if view is None:
            side = neural_rendering_resolution or self.usual_side(options)
            view = FullView(side, self.pixel_grid)
        if chunk is None and not torch.is_grad_enabled():
            chunk = rays_at_once(options, POINTS_AT_ONCE, len(c))
        rays = view.rays(Camera.from_label(c))

        def volume(draws: Draws | None, planes: Tensor, *rays: Tensor) -> tuple[Tensor, ...]:
            return self._shade(planes, ws, view, *rays, options, draws, chunk)

        rendered = run_drawing(volume, draws, planes, *rays, again="renderer" in recompute)
        features, depth, opacity = (as_image(values) for values in rendered)
        raw = features[:, :3].clone()  # Super-resolution may add to it in place.
        image = raw
        if whole and self.superresolution is not None:
            synthesis_kwargs["noise_mode"] = options["superresolution_noise_mode"]
            if "sr" in recompute:
                synthesis_kwargs["recompute"] = True
            image = self.superresolution(raw, features, ws, **synthesis_kwargs)
        return {
            "image": image,
            "image_raw": raw,
            "image_depth": depth,
            "image_opacity": opacity,
            "image_features": features,
        }

    def synthesis(
        self,
        ws: Tensor,
        c: Tensor,
        neural_rendering_resolution: int | None = None,
        update_emas: bool = False,
        cache_backbone: bool = False,
        use_cached_backbone: bool = False,
        draws: Draws | None = None,
        recompute: Collection[str] = (),
        view: View | None = None,
        chunk: int | None = None,
        **synthesis_kwargs,
    ) -> dict[str, Tensor]:
        """ws [N, num_ws, w_dim], rendering camera c [N, 25 or more] -> pictures, nominally in
        [-1, 1].

        Args:
            neural_rendering_resolution: side h of the rendering; default `usual_side`.
            cache_backbone, use_cached_backbone: keep the planes on this object, reuse them. For
                existing programs; `eg3d.Scene` does it without hidden state.
            draws: where the renderer's random numbers come from, default fresh ones.
            recompute, view, chunk: see `render`.
            synthesis_kwargs: `noise_mode` ('random', 'const', 'none'; backbone only),
                `force_fp32`, `fused_modconv`.

        Returns:
            'image' [N, 3, R, R], 'image_raw' [N, 3, h, h], 'image_depth' [N, 1, h, h] (Euclidean
            distance along the ray), 'image_opacity' [N, 1, h, h], 'image_features' [N, 32, h, h].
        """
        if use_cached_backbone and self._last_planes is not None:
            planes = self._last_planes.unflatten(1, (3, PLANE_CHANNELS))
        else:
            planes = self.planes(ws, update_emas=update_emas, **synthesis_kwargs)
        if cache_backbone:
            # Without the graph: a cache that keeps it alive could be neither copied nor saved.
            self._last_planes = planes.flatten(1, 2).detach()
        return self.render(
            planes,
            ws,
            c,
            neural_rendering_resolution,
            draws,
            recompute=recompute,
            view=view,
            chunk=chunk,
            **synthesis_kwargs,
        )

    def sample(
        self,
        coordinates: Tensor,
        directions: Tensor,
        z: Tensor,
        c: Tensor,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
        **synthesis_kwargs,
    ) -> dict[str, Tensor]:
        """Radiance field at world points [N, P, 3] -> {'rgb': [N, P, 32], 'sigma': [N, P, 1]}."""
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff, update_emas=update_emas)
        return self.sample_mixed(
            coordinates, directions, ws, update_emas=update_emas, **synthesis_kwargs
        )

    def sample_mixed(
        self,
        coordinates: Tensor,
        directions: Tensor,
        ws: Tensor,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
        **synthesis_kwargs,
    ) -> dict[str, Tensor]:
        """As `sample`, from intermediate latents; the truncation arguments are ignored."""
        planes = self.planes(ws, update_emas=update_emas, **synthesis_kwargs)
        return self.field(planes)(coordinates, directions)

    def forward(
        self,
        z: Tensor,
        c: Tensor,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        neural_rendering_resolution: int | None = None,
        update_emas: bool = False,
        cache_backbone: bool = False,
        use_cached_backbone: bool = False,
        **synthesis_kwargs,
    ) -> dict[str, Tensor]:
        """`mapping` and `synthesis` with one label for conditioning and rendering."""
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff, update_emas=update_emas)
        return self.synthesis(
            ws,
            c,
            neural_rendering_resolution,
            update_emas,
            cache_backbone,
            use_cached_backbone,
            **synthesis_kwargs,
        )


def rays_at_once(options: Mapping, points: int, pictures: int = 1) -> int:
    """Rays of each of some pictures that take so many sample points together, at least one."""
    samples = options["depth_resolution"] + options["depth_resolution_importance"]
    return max(points // (pictures * samples), 1)


def as_image(values: Tensor) -> Tensor:
    """Values of rays [N, side^2, K], row by row, as pictures [N, K, side, side]."""
    side = math.isqrt(values.shape[1])
    return values.transpose(1, 2).unflatten(2, (side, side)).contiguous()
