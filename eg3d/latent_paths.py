"""Latents that change from frame to frame: seeds are the keyframes of the cells of a grid, and the
moving camera films them, conditions them, or both."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from eg3d.errors import InputError
from eg3d.generate import Style
from eg3d.model import Model
from eg3d.scene import Scene
from training.cameras import Camera

# What moves with the camera: the view, the label that the latents are conditioned on, or both.
INTERPOLATIONS = ("camera", "conditioning", "both")


def deal(
    seeds: Sequence[int],
    grid: tuple[int, int],
    keyframes: int | None = None,
    shuffle_seed: int | None = None,
) -> np.ndarray:
    """Seeds [cells, K]: the keyframes of each cell of a grid (columns, rows), row by row.

    Args:
        keyframes: K, with the seeds repeated as often as needed; default as many as make every
            seed occur once, which needs a multiple of the number of cells (else InputError).
        shuffle_seed: of the order in which seeds are dealt; default as given.
    """
    columns, rows = grid
    cells = columns * rows
    if keyframes is None:
        keyframes, left = divmod(len(seeds), cells)
        if left or not keyframes:
            raise InputError(
                f"a grid of {columns}x{rows} has {cells} cells, but there are {len(seeds)} seeds: "
                "must be a multiple, or set --num-keyframes"
            )
    dealt = np.resize(seeds, cells * keyframes)
    if shuffle_seed is not None:
        np.random.RandomState(shuffle_seed).shuffle(dealt)
    return dealt.reshape(cells, keyframes)


def shares(keyframes: int, frames: int) -> torch.Tensor:
    """How much of each keyframe is in each frame, [frames, K]: a closed loop through all keyframes.

    Cubic splines with continuous acceleration, also where the loop closes; rows sum to 1. Published
    videos approximate them by a spline through five rounds, of which the middle one is shown: 1.3 %
    off for two keyframes, 0.05 % for three.
    """
    times = np.arange(frames) * (keyframes / frames)
    corners = np.eye(keyframes)[[*range(keyframes), 0]]
    spline = CubicSpline(np.arange(keyframes + 1), corners, bc_type="periodic")
    return torch.from_numpy(spline(times)).float()


def takes(
    model: Model,
    style: Style,
    seeds: np.ndarray,
    camera: Camera,
    interpolation: str = "camera",
) -> Iterator[tuple[Scene, Camera]]:
    """For each camera of a path: the scenes of all cells, and the camera that films them, N = 1.

    One loop through the keyframes, seeds [cells, K] of `deal`. A scene is made again only where its
    latents have changed: with K = 1 and 'camera' never.

    Args:
        interpolation: what follows the camera path. 'camera': the view; latents are conditioned on
            the front. 'conditioning': the label that latents are conditioned on; the view is the
            front. 'both': the one label of both.
    """
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"{interpolation!r}: must be one of {', '.join(INTERPOLATIONS)}")
    if interpolation != "camera":
        if model.rendering_kwargs["c_gen_conditioning_zero"]:
            raise InputError(f"{interpolation!r} has no effect: this model ignores conditioning")
        if style.projected is not None:
            raise InputError(f"{interpolation!r} has no effect on latents that are given")
    return _takes(model, style, seeds, camera, interpolation)


def _takes(
    model: Model, style: Style, seeds: np.ndarray, camera: Camera, interpolation: str
) -> Iterator[tuple[Scene, Camera]]:
    cells, keyframes = seeds.shape
    keys = scene = None
    for index, share in enumerate(shares(keyframes, len(camera)).to(model.device)):
        if keys is None or interpolation != "camera":
            conditioning = model.camera if interpolation == "camera" else camera[index]
            keys = style.latents(model, seeds.flatten().tolist(), conditioning)
            keys = keys.unflatten(0, (cells, keyframes))
        ws = torch.einsum("k,cklw->clw", share, keys)
        if scene is None or not torch.equal(ws, scene.ws):
            scene = style.scenes_of(model, ws)
        yield scene, model.camera if interpolation == "conditioning" else camera[index]
