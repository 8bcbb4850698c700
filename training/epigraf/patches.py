"""Which patches EpiGRAF renders and cuts out while it trains (Skorokhodov et al. 2022).

A patch has a scale, its side as a share of the picture's, and an offset of its left and lower edge,
shares too (`training.views.PatchView`). Early in training patches are whole pictures at a coarse
resolution, later mostly small parts at a fine one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.epigraf.schedules import linear_schedule
from training.views import PatchView

CHOICES = {
    "distribution": ("beta", "uniform", "discrete_uniform"),
    "grouping": ("strided", "contiguous"),
}
DISCRETE_SCALES = (0.25, 1.0)


@dataclass(frozen=True)
class PatchSampler:
    """How scales and offsets are drawn. Offsets are uniform among those with which a patch lies
    inside the picture.

    distribution: of the scale. 'beta': min_scale + (max_scale - min_scale) * Beta(alpha, beta),
        beta from beta_start to beta_end; 'uniform' from a least scale to max_scale, and
        'discrete_uniform' the same among DISCRETE_SCALES, the least from max_scale to min_scale.
        A beta near 0 means max_scale nearly always.
    anneal_kimg: thousands of images until beta or least scale have their last value.
    group_size: samples with the same patch: those that minibatch standard deviation compares, see
        `MinibatchStdLayer`; None: the whole batch.
    grouping: 'strided': sample i has patch i mod (N / group_size), as that layer forms its groups;
        'contiguous': group_size neighbours have the same, as published, which mixes different
        patches in a group wherever N is greater than group_size.
    """

    distribution: str = "beta"
    min_scale: float = 0.125
    max_scale: float = 1.0
    anneal_kimg: float = 10000
    alpha: float = 1.0
    beta_start: float = 0.001
    beta_end: float = 0.8
    group_size: int | None = 4
    grouping: str = "strided"

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"patch {name} is {value!r}; must be one of {', '.join(allowed)}")
        if not 0 < self.min_scale <= self.max_scale <= 1:
            raise ValueError(
                f"patch min_scale, max_scale are {self.min_scale}, {self.max_scale}; must be above "
                "0, in this order, and at most 1"
            )
        if min(self.alpha, self.beta_start, self.beta_end) <= 0:
            raise ValueError(
                f"patch alpha, beta_start, beta_end are {self.alpha}, {self.beta_start}, "
                f"{self.beta_end}; must be above 0"
            )
        if self.group_size is not None and self.group_size < 1:
            raise ValueError(f"patch group_size is {self.group_size}; must be 1 or more")
        if self.distribution == "discrete_uniform" and self.max_scale not in DISCRETE_SCALES:
            raise ValueError(
                f"patch max_scale is {self.max_scale}; must be one of {DISCRETE_SCALES}"
            )

    def check_size(self, resolution: int, full: int) -> None:
        """Raises ValueError where the smallest of patches with `resolution` pixels a side are
        finer than pictures of `full` pixels."""
        if self.min_scale * full < resolution:
            raise ValueError(
                f"patch min_scale is {self.min_scale}; must be at least {resolution / full:g} for "
                f"patches of {resolution} pixels in pictures of {full}"
            )

    def beta(self, nimg: float) -> float:
        """Second parameter of the Beta distribution when `nimg` images were seen."""
        return linear_schedule(nimg, self.beta_start, self.beta_end, self.anneal_kimg)

    def least_scale(self, nimg: float) -> float:
        """Smallest possible scale when `nimg` images were seen."""
        if self.distribution == "beta":
            return self.min_scale
        return linear_schedule(nimg, self.max_scale, self.min_scale, self.anneal_kimg)

    def sample(
        self, count: int, nimg: float, resolution: int, device: torch.device | str | None = None
    ) -> PatchView:
        """Patches of `count` pictures, a new draw in each group. Draws all scales, then all
        offsets."""
        group = count if self.group_size is None else min(self.group_size, count)
        if count % group:
            raise ValueError(f"a batch of {count} does not divide into groups of {group} patches")
        draws = self._scale_draws(count // group, nimg).to(device)
        scales = self.scales_from_draws(draws, nimg).float()[:, None].expand(-1, 2)
        offsets = torch.rand(scales.shape, device=device) * (1 - scales)
        return PatchView(self._spread(scales, group), self._spread(offsets, group), resolution)

    def _scale_draws(self, count: int, nimg: float) -> Tensor:
        """What `scales_from_draws` takes, in double precision on the CPU: near 1 floats are coarse
        against the powers that a Beta distribution needs."""
        if self.distribution == "beta" and self.alpha != 1:
            parameters = torch.tensor([self.alpha, self.beta(nimg)], dtype=torch.float64)
            return torch.distributions.Beta(*parameters).sample([count])
        return torch.rand([count], dtype=torch.float64)

    def scales_from_draws(self, draws: Tensor, nimg: float) -> Tensor:
        """Scales [n] that random numbers [n] mean: uniform in [0, 1), but Beta-distributed for
        'beta' with an alpha other than 1."""
        least = self.least_scale(nimg)
        if self.distribution == "discrete_uniform":
            possible = [s for s in DISCRETE_SCALES if least <= s <= self.max_scale]
            return draws.new_tensor(possible)[(draws * len(possible)).long()]
        if self.distribution == "beta" and self.alpha == 1:
            # The inverse of the cumulative distribution 1 - (1 - x)^beta.
            draws = 1 - (1 - draws) ** (1 / self.beta(nimg))
        return least + (self.max_scale - least) * draws

    def _spread(self, values: Tensor, group: int) -> Tensor:
        """A row for each group, [n, 2] -> a row for each sample, [n * group, 2]."""
        if self.grouping == "strided":
            return values.repeat(group, 1)
        return values.repeat_interleave(group, dim=0)
