"""What a viewer's user takes home: pictures, meshes, videos of a camera path, as bytes of files."""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from eg3d import trajectories, video
from eg3d.errors import InputError
from eg3d.model import Model
from eg3d.shape_files import write_mesh
from eg3d.viewer import viewpoint
from eg3d.viewer.jobs import Report
from eg3d.viewer.session import Session
from eg3d.viewer.state import ViewState
from training.cameras import Camera


def png(pixels: np.ndarray) -> bytes:
    """A picture uint8 [H, W, 3] as a PNG file."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def mesh(session: Session, model: Model, state: ViewState, resolution: int, ending: str) -> bytes:
    """The surface that the state shows, in world units, as a mesh file. Raises InputError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mesh.{ending}"
        write_mesh(path, session.surface(model, state, resolution), up=state.up)
        return path.read_bytes()


def film(session: Session, state: ViewState, ending: str, report: Report) -> bytes:
    """A video of the state along its camera path, at full quality. Raises InputError."""
    model = session.model(state)
    cameras = path(model, state)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"path.{ending}"
        video.write_video(file, _frames(session, state, cameras, report), state.fps)
        return file.read_bytes()


def path(model: Model, state: ViewState) -> Camera:
    """The cameras of the state's path, one for each frame. Raises InputError."""
    model = viewpoint.with_lens(model, state)
    if state.path != "keyframes":
        return trajectories.named(model, state.path, state.frames, up=state.up)
    if not state.keyframes:
        raise InputError("path through keyframes: there are none yet, add some")
    keys = Camera.from_label(torch.tensor(state.keyframes)).to(model.device)
    return trajectories.between(keys, state.frames, viewpoint.target(model, state))


def through(state: ViewState, camera: Camera) -> ViewState:
    """The state seen through a camera, N = 1."""
    degrees = viewpoint.diagonal_fov(camera.intrinsics[0])
    pose = tuple(camera.cam2world[0].flatten().tolist())
    return replace(state, camera=pose, fov=degrees)


def _frames(
    session: Session, state: ViewState, cameras: Camera, report: Report
) -> Iterator[np.ndarray]:
    for index in range(len(cameras)):
        report(index / len(cameras))
        yield session.draw(through(state, cameras[index])).picture.pixels


def next_capture(folder: Path) -> int:
    """The number of the next file there: 1 more than the highest that a name begins with."""
    numbers = [0]
    for each in folder.iterdir():
        digits = each.name[: len(each.name) - len(each.name.lstrip("0123456789"))]
        numbers.append(int(digits or 0))
    return max(numbers) + 1
