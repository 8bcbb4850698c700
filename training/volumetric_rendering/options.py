"""The options of the volume renderer: one frozen, validated value instead of a dictionary."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

Kwargs = Mapping[str, Any]

CHOICES = {
    "clamp_mode": ("softplus", "relu"),
    "ray_marcher": ("midpoint", "classic"),
    "depth_jitter": ("forward", "bins"),
    "ray_limits": ("reference", "exact"),
    "importance_bins": ("reference", "centered"),
    "empty_depth": ("batch", "ray"),
}

# What one ray marcher knows and the other does not; at other values than the default, an error.
CLASSIC_ONLY = ("last_delta", "last_back")
MIDPOINT_ONLY = ("importance_bins",)


@dataclass(frozen=True)
class RenderingOptions:
    """How a field is rendered. Distances are in world units along the unit ray.

    depth_resolution: coarse samples a ray; depth_resolution_importance: fine samples (0: none).
    ray_start, ray_end: limits of every ray, or both 'auto' for each ray's passage through the box.
    box_warp: side of the cube that the planes cover.
    disparity_space_sampling: coarse samples evenly spaced in 1/depth.
    clamp_mode: density = softplus or relu of (raw density + density_bias).
    white_back: light that nothing absorbs is white instead of black.
    density_noise: standard deviation of noise added to raw densities.
    density_bias: see clamp_mode.
    ray_marcher: 'midpoint' integrates over the segments between samples, with values in their
        middle, and gives features 2 F - 1; 'classic' (NeRF: Mildenhall et al. 2020, equation 3)
        lets a sample stand for the way to the next, gives features F and depth as the plain sum
        of weight times depth, and makes white of the first three channels only. It adds its
        density noise itself, fresh in the coarse and in the final pass.
    last_delta: classic only: length of the way that the last sample stands for.
    last_back: classic only: the last sample takes all light that would be left.
    importance_smoothing: fine samples follow the blurred coarse weights plus 0.01; without, the
        weights themselves plus 1e-5.
    depth_jitter: 'forward' moves a coarse depth by up to one interval away from the camera, so
        that the last one may lie behind ray_end; 'bins' moves it between the middles of its
        intervals, so that none lies outside of the limits.
    plane_align_corners: the box's faces lie on the centres of the outer texels, not their edges.

    The last three choose between the behaviour that released models were trained with (default)
    and its correction:
    ray_limits: 'reference' lets 'auto' limits begin behind a camera that stands inside the box, and
        ends missed rays at the largest entry distance; 'exact' begins at the camera, ends missed
        rays at the largest exit distance, and shows background if every ray of the batch misses.
    importance_bins: 'reference' places fine samples half a coarse interval too near and never in
        the last one and a half; 'centered' places them in the intervals the weights belong to.
    empty_depth: depth of a ray that nothing absorbs: the largest sample depth of the 'batch', or of
        the 'ray'. With the classic marcher light that passes counts nothing ('batch', as published)
        or as from the last sample of its 'ray'.
    """

    depth_resolution: int
    depth_resolution_importance: int
    ray_start: float | str
    ray_end: float | str
    box_warp: float
    disparity_space_sampling: bool
    clamp_mode: str
    white_back: bool = False
    density_noise: float = 0.0
    density_bias: float = -1.0
    ray_marcher: str = "midpoint"
    last_delta: float = 1e10
    last_back: bool = False
    importance_smoothing: bool = True
    depth_jitter: str = "forward"
    plane_align_corners: bool = False
    ray_limits: str = "reference"
    importance_bins: str = "reference"
    empty_depth: str = "batch"

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"rendering option {name} is {getattr(self, name)!r}; "
                    f"possible: {', '.join(map(repr, allowed))}"
                )
        self._check_limits()
        self._check_counts()
        self._check_marcher()
        if not self.box_warp > 0:
            raise ValueError(f"rendering option box_warp is {self.box_warp!r}; must be positive")
        if not self.density_noise >= 0:
            raise ValueError(
                f"rendering option density_noise is {self.density_noise!r}; must be >= 0"
            )

    def _check_limits(self):
        limits = (self.ray_start, self.ray_end)
        texts = [value for value in limits if isinstance(value, str)]
        if texts and limits != ("auto", "auto"):
            raise ValueError(
                f"rendering options ray_start, ray_end are {limits[0]!r}, {limits[1]!r}; "
                "give two numbers, or 'auto' for both"
            )
        if not texts and not self.ray_start < self.ray_end:
            raise ValueError(
                f"rendering option ray_start {self.ray_start} must be less than ray_end "
                f"{self.ray_end}"
            )
        if not texts and self.disparity_space_sampling and self.ray_start <= 0:
            raise ValueError(
                f"rendering option ray_start is {self.ray_start}; disparity_space_sampling "
                "divides by it, so it must be positive"
            )

    def _check_counts(self):
        coarse, fine = self.depth_resolution, self.depth_resolution_importance
        if fine < 0:
            raise ValueError(
                f"rendering option depth_resolution_importance is {fine}; must be 0 or more"
            )
        least = 4 if fine > 0 else 2
        if coarse < least:
            raise ValueError(
                f"rendering option depth_resolution is {coarse}; must be at least {least} "
                f"with depth_resolution_importance {fine}"
            )

    def _check_marcher(self):
        if not self.last_delta > 0:
            raise ValueError(
                f"rendering option last_delta is {self.last_delta!r}; must be positive"
            )
        if not math.isfinite(self.density_bias):
            raise ValueError(
                f"rendering option density_bias is {self.density_bias!r}; must be a finite number"
            )
        others = MIDPOINT_ONLY if self.ray_marcher == "classic" else CLASSIC_ONLY
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in others and value != field.default:
                raise ValueError(
                    f"rendering option {field.name} is {value!r}; with ray_marcher "
                    f"{self.ray_marcher!r} it has no effect: leave it at {field.default!r}"
                )

    @property
    def marcher_noise(self) -> float:
        """Density noise that the ray marcher adds; 0 where the field does."""
        return self.density_noise if self.ray_marcher == "classic" else 0.0

    @property
    def auto_limits(self) -> bool:
        """Whether each ray's limits are its passage through the box."""
        return self.ray_start == "auto"

    @classmethod
    def from_kwargs(cls, rendering_kwargs: "Kwargs | RenderingOptions") -> "RenderingOptions":
        """Pick the renderer's keys out of a model's `rendering_kwargs`; other keys are ignored.

        A RenderingOptions is returned as it is. KeyError names a required key that is missing.
        """
        if isinstance(rendering_kwargs, cls):
            return rendering_kwargs
        for field in fields(cls):
            if field.default is MISSING and field.name not in rendering_kwargs:
                raise KeyError(f"rendering_kwargs lacks {field.name!r}")
        known = [field.name for field in fields(cls)]
        return cls(**{key: rendering_kwargs[key] for key in known if key in rendering_kwargs})


def read_option(options: "Kwargs | RenderingOptions", name: str, default: Any = MISSING) -> Any:
    """One option of a dictionary or RenderingOptions; KeyError if it is required and missing."""
    if isinstance(options, RenderingOptions):
        return getattr(options, name)
    if name in options:
        return options[name]
    if default is MISSING:
        raise KeyError(f"rendering_kwargs lacks {name!r}")
    return default
