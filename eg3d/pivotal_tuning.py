"""Pivotal tuning (Roich et al. 2021): a generator that makes a picture exactly from its latents.

The latents of an inversion, the pivot, stay; the weights that turn latents into pictures move.
Locality regularisation, if wanted, holds what the generator makes of latents near the pivot: here
from random views, so that it holds their shapes too.
"""

import copy
from dataclasses import dataclass, replace

import torch

from eg3d import views
from eg3d.errors import InputError
from eg3d.inversion import Callback, Inversion, Step, checked, full_precision
from eg3d.latents import MOST_SEED
from eg3d.likeness import Likeness, Perceptual
from eg3d.model import Model
from eg3d.pose_search import up_axis


@dataclass(frozen=True)
class TuningOptions:
    """How a generator is tuned. Raises InputError.

    rate: of Adam. locality_weight: of how far the tuned generator's picture is from the given one's
    for a latent between the pivot and a random one, at most `locality_distance` from the pivot; it
    more than doubles the time. seed: of these latents and their cameras.
    """

    steps: int = 350
    rate: float = 3e-4
    locality_weight: float = 0.0
    locality_distance: float = 30.0
    seed: int = 0

    def __post_init__(self):
        if self.steps < 1:
            raise InputError(f"{self.steps} steps of tuning: must be 1 or more")


def tune(
    model: Model,
    inversion: Inversion,
    image: torch.Tensor,
    options: TuningOptions | None = None,
    perceptual: Perceptual | None = None,
    callback: Callback | None = None,
) -> Model:
    """A copy of the model with the inversion's noise maps, tuned to make the picture [1, 3, R, R],
    -1 to 1, of the inversion's latents and camera.

    What maps z to latents stays as it is. On a CPU the same arguments give the same result. Raises
    InputError.
    """
    options = options or TuningOptions()
    given = inversion.model(model)
    image, camera = checked(model, image, inversion.camera)
    tuned = replace(given, generator=copy.deepcopy(given.generator).requires_grad_(True))
    # What maps z to latents is never run with gradients, so that Adam leaves it alone.
    adam = torch.optim.Adam(tuned.generator.parameters(), lr=options.rate)
    likeness = Likeness(image, perceptual)
    with full_precision(tuned.generator):
        for step in range(options.steps):
            picture = tuned.scenes_of(inversion.ws).render(camera).image
            terms = likeness.terms(picture)
            loss = sum(terms.values())
            if options.locality_weight:
                terms["locality"] = _drift(given, tuned, inversion, options, step, perceptual)
                loss = loss + options.locality_weight * terms["locality"]
            adam.zero_grad()
            loss.backward()
            adam.step()
            if callback is not None:
                callback(Step.of(step, picture, terms, likeness))
    tuned.generator.requires_grad_(False)
    return tuned


def _drift(
    given: Model,
    tuned: Model,
    inversion: Inversion,
    options: TuningOptions,
    step: int,
    perceptual: Perceptual | None,
) -> torch.Tensor:
    """Distance between the pictures that both models make of a latent near the pivot, from a random
    view."""
    seed = (options.seed + step) % (MOST_SEED + 1)
    pivot = inversion.ws
    with torch.no_grad():
        away = given.mapping(given.latents([seed]), classes=given.classes([seed])) - pivot
        length = away.square().sum(2, keepdim=True).sqrt()
        ws = pivot + away * (options.locality_distance / length).clamp(max=1)
        camera = views.random_views(given, [seed], up_axis(inversion.camera))
        target = given.scenes_of(ws).render(camera).image
    picture = tuned.scenes_of(ws).render(camera).image
    return sum(Likeness(target, perceptual).terms(picture).values())
