"""The camera of a picture, as far as it shows before it is known what the picture is of.

The mean latent is the model's blurred idea of everything. Rendered from many sides it tells where
a picture was taken from, well enough for an inversion to begin there: begun too far off, latents
learn to look right from the wrong side.
"""

import torch

from eg3d import views
from eg3d.camera_offsets import moved
from eg3d.likeness import Likeness
from eg3d.model import Model
from eg3d.scene import Scene
from training.cameras import Camera

VIEWS = 128
# A view takes the place of the guess if its error is below this share of the guess's: see
# docs/inversion.md for how it was chosen.
CLEARLY_NEARER = 0.8
STEPS = 50
RATE = 0.01  # radians and world units
_SAME_ROLL = 0.1  # radians


def find_camera(model: Model, likeness: Likeness, ws: torch.Tensor, guess: Camera) -> Camera:
    """The camera (N = 1) from which latents ws [1, L or 1, w_dim] come near the target.

    It begins at the guess or, where that is clearly nearer, at the best of many views all over the
    range that the model knows, with the lens of the guess; and is refined from there. The same
    arguments give the same camera.
    """
    with torch.no_grad():
        scene = model.scenes_of(ws)
        around = views.random_views(model, range(VIEWS), up_axis(guess)).cam2world
        around = Camera(around, guess.intrinsics.expand(VIEWS, 3, 3))
        errors = torch.stack([_error(scene, around[i], likeness) for i in range(VIEWS)])
        stays = errors.min() >= CLEARLY_NEARER * _error(scene, guess, likeness)
    start = guess if stays else around[int(errors.argmin())]
    offset = torch.zeros(6, device=model.device, requires_grad=True)
    adam = torch.optim.Adam([offset], lr=RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    for _ in range(STEPS):
        adam.zero_grad()
        error = _error(scene, moved(start, offset, model.pivot), likeness)
        error.backward(inputs=[offset])
        adam.step()
        falling.step()
    return moved(start, offset.detach(), model.pivot)


def _error(scene: Scene, camera: Camera, likeness: Likeness) -> torch.Tensor:
    return sum(likeness.terms(scene.render(camera).image).values())


def up_axis(camera: Camera) -> str:
    """The axis of the world, 'y' or 'z', against which a camera (N = 1) is rolled less; y where
    they hardly differ."""
    pose = camera.cam2world[0]
    roll = torch.atan2(pose[:3, 0].abs(), -pose[:3, 1])  # of right against each axis
    return "z" if roll[2] < roll[1] - _SAME_ROLL else "y"
