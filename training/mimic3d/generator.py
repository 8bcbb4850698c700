"""The generator of Mimic3D (Chen et al. 2023): one scene, rendered by two branches.

The backbone makes coarse planes P^c and residual planes P^r of twice their side, whose features add
up. The 2D branch renders P^c coarsely and enlarges the picture by super-resolution, as EG3D does;
the 3D branch renders P^c + P^r at the resolution of the final picture. No network works on that
picture, so that what is seen from one side agrees with what is seen from another.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils import persistence
from training.dual_discriminator import filtered_resizing
from training.triplane import PLANE_CHANNELS, PLANE_RESOLUTION, TriPlaneGenerator
from training.views import FullView, View, WindowView, random_windows
from training.volumetric_rendering.depths import Limit, ray_limits
from training.volumetric_rendering.draws import Draws
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.renderer import (
    Planes,
    Rendered,
    TriPlaneField,
    render_rays,
)

COARSE = ("3d", "2d", "detail")  # the branch by the published argument `coarse`
ACTIVATIONS = {None: torch.nn.Identity(), "tanh": torch.tanh, "sigmoid": torch.sigmoid}

Options = Mapping[str, Any] | RenderingOptions
Rendering = tuple[Tensor, Tensor, Tensor]


@persistence.persistent_class
class DualTriPlaneGenerator(TriPlaneGenerator):
    """z [N, z_dim], camera label c [N, 25] -> pictures of one branch, and windows of the other.

    `rendering_kwargs['branch']` says what is rendered: '2d' P^c, with super-resolution; '3d' both
    planes; 'detail' P^r alone. Geometry and densities are those of both.

    Args:
        triplane_resolution: side of P^c, the published name of `plane_resolution`.
        triplane_act: of the planes: None, 'tanh' or 'sigmoid'.
        depth_guided_sample: above 0, the 3D branch looks only so far before and behind the surface
            of P^c.
        neural_rendering_resolution: side of the 2D branch's rendering.
        aware3d_res: resolutions of the 3D-aware stream, default all of the backbone.
        retidx: which planes of the stream are P^c and P^r.
        triplane_channels, blur_plane, decoder_output_dim: accepted from published files, where they
            are always as here.
        kwargs: those of `TriPlaneGenerator`.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"branch": ("2d", "3d", "detail")}

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        triplane_resolution: int | None = None,
        triplane_channels: int = 3 * PLANE_CHANNELS,
        triplane_act: str | None = None,
        blur_plane: int = 0,
        decoder_output_dim: int = PLANE_CHANNELS,
        neural_rendering_resolution: int = 64,
        depth_guided_sample: float = 0,
        aware3d_res: Sequence[int] | None = None,
        retidx: Sequence[int] = (-3, -1),
        plane_resolution: int = PLANE_RESOLUTION,
        rendering_kwargs: dict | None = None,
        **kwargs,
    ):
        # Published files do not name the axes: there are no others.
        rendering_kwargs = {"plane_axes": "cyclic", **(rendering_kwargs or {})}
        fixed = dict(
            triplane_channels=(triplane_channels, 3 * PLANE_CHANNELS),
            decoder_output_dim=(decoder_output_dim, PLANE_CHANNELS),
            blur_plane=(blur_plane, 0),
            retidx=(list(retidx), [-3, -1]),
            plane_axes=(rendering_kwargs["plane_axes"], "cyclic"),
        )
        for name, (value, possible) in fixed.items():
            if value != possible:
                raise ValueError(f"{name} is {value!r}; must be {possible!r}")
        if triplane_act not in ACTIVATIONS:
            raise ValueError(f"triplane_act is {triplane_act!r}; must be None, 'tanh' or 'sigmoid'")
        side = triplane_resolution or plane_resolution
        if aware3d_res is None:
            aware3d_res = [4 << i for i in range(side.bit_length() - 2)]
        super().__init__(
            z_dim,
            c_dim,
            w_dim,
            img_resolution,
            img_channels,
            plane_resolution=side,
            aware3d_res=aware3d_res,
            retidx=retidx,
            rendering_kwargs=rendering_kwargs,
            **kwargs,
        )
        self.neural_rendering_resolution = neural_rendering_resolution
        self.triplane_act = triplane_act
        self.depth_guided_sample = depth_guided_sample

    # -- Planes ----------------------------------------------------------------------------------

    def planes(
        self,
        ws: Tensor,
        update_emas: bool = False,
        branch: str | None = None,
        **synthesis_kwargs,
    ) -> Tensor:
        """ws [N, num_ws, w_dim] -> what a branch renders, by default the one that is shown: for
        '2d' P^c alone, [N, 3, 32, h, h]; else both sets, packed as [N, 3, 5 * 32, h, h]: four
        texels of P^r lie in one place. `plane_sets` takes them apart."""
        plain = self._branch({} if branch is None else {"branch": branch}) == "2d"
        made = self.backbone.synthesis(
            ws, update_emas=update_emas, finer=not plain, **synthesis_kwargs
        )
        return _as_planes(made) if plain else _packed(*map(_as_planes, made))

    def complete(
        self, planes: Tensor, ws: Tensor, options: Options | None = None, **synthesis_kwargs
    ) -> Tensor:
        """See `TriPlaneGenerator.complete`: adds P^r where it is needed and missing."""
        plain = options is not None and self._branch(options) == "2d"
        if plain or _has_details(planes):
            return planes
        details = self.backbone.synthesis.details(planes.flatten(1, 2), ws, **synthesis_kwargs)
        return _packed(planes, _as_planes(details))

    def plane_sets(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Packed planes -> P^c [N, 3, 32, h, h] and P^r [N, 3, 32, 2 h, 2 h], as they are rendered.
        Raises ValueError for P^c alone."""
        if not _has_details(planes):
            raise ValueError(
                "planes are those of the 2D branch alone; G.complete(planes, ws) adds the finer "
                "ones, G.planes(ws, branch='3d') makes both"
            )
        coarse, detail = planes.tensor_split([PLANE_CHANNELS], dim=2)
        act = ACTIVATIONS[self.triplane_act]
        return act(coarse), act(F.pixel_shuffle(detail, 2))

    def field(
        self, planes: Tensor, options: Options | None = None, draws: Draws | None = None
    ) -> TriPlaneField:
        """See `TriPlaneGenerator.field`; of both sets, whichever branch the options name."""
        options = self.rendering_kwargs if options is None else options
        return self.renderer.field(self.plane_sets(planes), self.decoder, options, draws)

    # -- Pictures --------------------------------------------------------------------------------

    def march(
        self,
        planes: Tensor,
        origins: Tensor,
        directions: Tensor,
        options: Options | None = None,
        draws: Draws | None = None,
        chunk: int | None = None,
    ) -> Rendering:
        """See `TriPlaneGenerator.march`; of the branch that the options name."""
        options = self.rendering_kwargs if options is None else options
        branch, options = self._branch(options), RenderingOptions.from_kwargs(options)
        if branch == "2d":  # the finer planes need not be there
            shown = ACTIVATIONS[self.triplane_act](planes[:, :, :PLANE_CHANNELS])
        else:
            coarse, detail = self.plane_sets(planes)
            shown = detail if branch == "detail" else (coarse, detail)

        def rendered(sets: Planes, limits: tuple[Limit, Limit] | None = None) -> Rendered:
            field = self.renderer.field(sets, self.decoder, options, draws)
            return render_rays(field, origins, directions, options, draws, chunk, limits)

        reach, limits = self.depth_guided_sample, None
        if branch == "3d" and reach > 0:
            near, far = ray_limits(origins, directions, options)
            with torch.no_grad():
                depth = rendered(coarse).depth
            limits = (depth - reach).clamp(min=near), (depth + reach).clamp(max=far)
        return rendered(shown, limits)[:3]

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
        """See `TriPlaneGenerator.render`. The side is by default `usual_side`; a rendering larger
        than what the super-resolution expects is the final picture."""
        options = self.rendering_kwargs if options is None else options
        side = neural_rendering_resolution or self.usual_side(options)
        sr = self.superresolution
        if view is None and (sr is None or side > sr.input_resolution):
            view = FullView(side)  # a view is not enlarged
        return super().render(
            planes, ws, c, side, draws, options, recompute, view, chunk, **synthesis_kwargs
        )

    def usual_side(self, options: Options | None = None) -> int:
        """The side of a rendering by these options, where nothing else is asked for."""
        plain = self._branch(self.rendering_kwargs if options is None else options) == "2d"
        return self.neural_rendering_resolution if plain else self.img_resolution

    def of_branch(self, branch: str) -> dict[str, Any]:
        """The generator's own options, to render another branch with."""
        return dict(self.rendering_kwargs, branch=branch)

    def windows(
        self,
        planes: Tensor,
        ws: Tensor,
        c: Tensor,
        window: View,
        pictures: Mapping[str, Tensor] | None = None,
        **render_kwargs,
    ) -> dict[str, Tensor]:
        """Windows of the 3D branch's pictures, and the same ones cut out of `pictures`, which the
        2D branch rendered and to which no gradient flows.

        Returns:
            'patch_image_raw' [N, 3, n, n]; with `pictures` also 'patch_image' of the final picture
            and 'patch_image_gr' of the enlarged raw one.
        """
        options = self.of_branch("3d")
        rendered = self.render(planes, ws, c, view=window, options=options, **render_kwargs)
        result = {"patch_image_raw": rendered["image"]}
        if pictures is not None:
            raw = filtered_resizing(pictures["image_raw"].detach(), self.img_resolution, f=None)
            result["patch_image"] = window.crop(pictures["image"].detach())
            result["patch_image_gr"] = window.crop(raw)
        return result

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
        ret_plane: bool = False,
        patch_scale: float = 1,
        run_full: bool = True,
        coarse: int | None = None,
        **synthesis_kwargs,
    ) -> dict[str, Tensor]:
        """See `TriPlaneGenerator.synthesis`. The published arguments are for existing programs.

        Args:
            ret_plane: also 'plane', a list of both sets of planes.
            patch_scale: below 1, also the pictures of `windows`, at random places, of this share of
                the final picture's side.
            run_full: False leaves out the whole picture.
            coarse: 0, 1, 2 for the branches '3d', '2d', 'detail'; default what
                `rendering_kwargs['branch']` says.
        """
        options = self.rendering_kwargs if coarse is None else self.of_branch(COARSE[coarse])
        if use_cached_backbone and self._last_planes is not None:
            planes = self._last_planes
        else:
            both = cache_backbone or ret_plane or patch_scale < 1
            branch = "3d" if both else self._branch(options)
            planes = self.planes(ws, update_emas, branch, **synthesis_kwargs)
        if cache_backbone:
            self._last_planes = planes.detach()
        common = dict(draws=draws, recompute=recompute, chunk=chunk, **synthesis_kwargs)
        pictures = None
        if run_full:
            pictures = self.render(
                planes, ws, c, neural_rendering_resolution, options=options, view=view, **common
            )
        result = dict(pictures or {})
        if ret_plane:
            result["plane"] = list(self.plane_sets(planes))
        if patch_scale < 1:
            side = round(self.img_resolution * patch_scale)
            corners = random_windows(len(c), side, self.img_resolution, device=c.device)
            window = WindowView(corners, side, self.img_resolution)
            result |= self.windows(planes, ws, c, window, pictures, **common)
        return result

    def sample_mixed(self, *args, **kwargs) -> dict[str, Tensor]:
        """See `TriPlaneGenerator.sample_mixed`; of both sets, whichever branch is shown."""
        return super().sample_mixed(*args, branch="3d", **kwargs)

    def _branch(self, options: Options) -> str:
        """The branch that options name, else the generator's own ones."""
        own = self.rendering_kwargs.get("branch", self.choices["branch"][0])
        branch = options.get("branch", own) if isinstance(options, Mapping) else own
        if branch not in self.choices["branch"]:
            raise ValueError(f"branch is {branch!r}; must be '2d', '3d' or 'detail'")
        return branch


def _as_planes(channels: Tensor) -> Tensor:
    """[N, 3 * 32, h, h] -> [N, 3, 32, h, h]"""
    return channels.unflatten(1, (3, PLANE_CHANNELS))


def _packed(coarse: Tensor, detail: Tensor) -> Tensor:
    return torch.cat([coarse, F.pixel_unshuffle(detail, 2)], dim=2)


def _has_details(planes: Tensor) -> bool:
    return planes.shape[2] > PLANE_CHANNELS
