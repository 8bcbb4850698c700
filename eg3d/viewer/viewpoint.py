"""Where a viewer looks from: poses, the published angles yaw and pitch, and the canvas."""

import math
from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch

from eg3d.model import Model
from eg3d.viewer.state import ViewState
from eg3d.views import UP
from training.cameras import Camera, look_at, orbit_position

# Points that a camera can look at, by name; None is the model's own.
TARGETS = {
    "model": None,
    "FFHQ": (0.0, 0.0, 0.2),
    "AFHQ": (0.0, 0.0, -0.06),
    "ShapeNet": (0.0, 0.0, 0.0),
}


def with_lens(model: Model, state: ViewState) -> Model:
    """The model with the lens that the state asks for."""
    return model if state.fov is None else model.with_fov(state.fov)


def camera(model: Model, state: ViewState) -> Camera:
    """The camera of a state, N = 1, with the lens of `model`."""
    if state.camera is None:
        return turned(model, state, 0.0, 0.0)
    pose = torch.tensor(state.camera).view(1, 4, 4).to(model.intrinsics)
    return Camera(pose, model.intrinsics[None])


def turned(
    model: Model, state: ViewState, yaw: float, pitch: float, radius: float | None = None
) -> Camera:
    """The camera at these published angles from the front that looks at the state's target, N = 1.

    radius: distance from the world's origin, default the model's.
    """
    angles = math.pi / 2 + torch.tensor([yaw, pitch], dtype=torch.float64)
    position = orbit_position(*angles, radius or model.radius)[None]
    if state.up == "z":
        position = position.roll(1, dims=1)  # front z to x, right x to y, up y to z
    pose = look_at(position.to(model.intrinsics), target(model, state), UP[state.up])
    return Camera(pose, model.intrinsics[None])


def angles(camera: Camera, up: str = "y") -> tuple[float, float, float]:
    """Yaw and pitch in the published sense, and distance from the origin: `turned` backwards."""
    x, y, z = camera.cam2world[0, :3, 3].double().tolist()
    if up == "z":
        x, y, z = y, z, x
    distance = math.sqrt(x * x + y * y + z * z)
    height = y / distance if distance else 0.0
    return math.atan2(z, -x) - math.pi / 2, -height * math.pi / 2, distance


def target(model: Model, state: ViewState) -> Sequence[float]:
    """The world point that the camera goes around."""
    return model.pivot if state.target is None else state.target


def conditioning(model: Model, state: ViewState) -> Camera:
    """What the latents are conditioned on: the front, the view, or free angles."""
    if state.conditioning == "front":
        return model.camera
    if state.conditioning == "camera":
        return camera(model, state)
    return turned(model, ViewState(up=state.up), state.cond_yaw, state.cond_pitch)


def vertical_fov(model: Model, canvas: tuple[int, int], aspect: float = 1.0) -> float:
    """Radians from bottom to top of a canvas (width, height) on which the picture is letterboxed.

    aspect: width of the picture over its height.
    """
    share = min(canvas[0] / canvas[1] / aspect, 1.0)
    return 2 * math.atan(0.5 / model.intrinsics[1, 1].item() / share)


def lens_fov(lens: torch.Tensor) -> float:
    """Radians from top to bottom of pictures taken with a lens [3, 3]."""
    return 2 * math.atan(0.5 / lens[1, 1].item())


def diagonal_fov(lens: torch.Tensor) -> float:
    """Degrees across the diagonal of a lens [3, 3]: `eg3d.cameras.FOV_to_intrinsics` backwards."""
    return math.atan(1 / (lens[0, 0].item() * 1.414)) * 360 / 3.14159


def letterbox(pixels: np.ndarray, canvas: tuple[int, int], grey: int = 255) -> np.ndarray:
    """The picture [H, W, 3] amid bars, in the proportions of a canvas (width, height)."""
    height, width = pixels.shape[:2]
    wide = max(round(height * canvas[0] / canvas[1]), width)
    high = max(round(width * canvas[1] / canvas[0]), height)
    framed = np.full((high, wide, 3), grey, dtype=np.uint8)
    top, left = (high - height) // 2, (wide - width) // 2
    framed[top : top + height, left : left + width] = pixels
    return framed


def enlarged(pixels: np.ndarray, side: int) -> np.ndarray:
    """The picture at least `side` high: JPEG halves the resolution of colours, which shows in
    small pictures that a browser enlarges."""
    height, width = pixels.shape[:2]
    if height >= side:
        return pixels
    size = (round(width * side / height), side)
    return np.asarray(PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BICUBIC))
