"""Snapshots: the weights worth keeping, in the published pickle layout, and sample pictures."""

import copy
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dnnlib.util import replacing
from torch_utils.pickle_writing import PortablePickler, plain_numbers
from training.cameras import Camera
from training.image_grid import save_image_grid
from training.surfaces import normal_picture
from training.volumetric_rendering.draws import FixedDraws

# Of the picture of views: how many samples, from where (radians), and how large at most.
VIEWED = 8
YAWS = (-0.4, 0.0, 0.4)
VIEW_SIZE = 256


def save_snapshot(path: str | Path, training_set_kwargs: dict | None, **networks) -> None:
    """Writes `{training_set_kwargs, G, D, G_ema, ..., augment_pipe}` as a pickle, atomically.

    Networks are stored in eval mode, without gradients, on the CPU. The same networks give the
    same bytes.
    """
    data = {"training_set_kwargs": plain_numbers(training_set_kwargs)}
    published = ("G", "D", "G_ema")
    others = [name for name in networks if name not in (*published, "augment_pipe")]
    for name in (*published, *others, "augment_pipe"):
        module = networks.get(name)
        data[name] = None if module is None else detached(module)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        PortablePickler(file, protocol=4).dump(data)
        file.flush()
        os.fsync(file.fileno())


def detached(module: torch.nn.Module) -> torch.nn.Module:
    """A copy in eval mode, without gradients, on the CPU."""
    return copy.deepcopy(module).eval().requires_grad_(False).cpu()


class Sampler:
    """Renders one fixed set of latents and cameras again and again, to watch a model learn.

    Args:
        z: [N, z_dim] latents.
        c: [N, 25] cameras, for conditioning and rendering.
        grid_size: (columns, rows) with columns * rows == N.
        chunk: pictures rendered at a time.
    """

    def __init__(self, z: torch.Tensor, c: torch.Tensor, grid_size: tuple[int, int], chunk: int):
        self.z = z
        self.c = c
        self.grid_size = grid_size
        self.chunk = chunk

    def state_dict(self) -> dict:
        """The latents and cameras."""
        return dict(z=self.z.cpu(), c=self.c.cpu())

    def load_state_dict(self, state: dict) -> None:
        """Takes over the latents and cameras, unless this grid has another size."""
        if state["z"].shape == self.z.shape:
            self.z, self.c = (state[key].to(self.z.device) for key in ("z", "c"))

    @torch.no_grad()
    def render(self, G: torch.nn.Module) -> dict[str, np.ndarray]:
        """{'image', 'image_raw', 'image_depth', 'image_opacity'}, each [N, C, H, W]; the same draws
        every time."""
        parts = [
            G(z, c, noise_mode="const", draws=FixedDraws())
            for z, c in zip(self.z.split(self.chunk), self.c.split(self.chunk), strict=True)
        ]
        names = ("image", "image_raw", "image_depth", "image_opacity")
        return {name: torch.cat([p[name].float().cpu() for p in parts]).numpy() for name in names}

    @torch.no_grad()
    def render_views(self, G: torch.nn.Module) -> np.ndarray:
        """The first samples, at most `VIEWED`, each from its own camera turned by each of `YAWS`
        around the model's pivot: [samples * views, 3, H, W], the views of a sample in a row.

        Pictures of more than `VIEW_SIZE` pixels are made smaller.
        """
        pivot = G.rendering_kwargs.get("avg_camera_pivot", (0.0, 0.0, 0.0))
        camera = Camera.from_label(self.c)
        up = vertical(camera)
        views = []
        for i in range(min(VIEWED, len(self.z))):
            ws = G.mapping(self.z[i : i + 1], self.c[i : i + 1])
            planes = G.planes(ws, noise_mode="const")
            labels = [turn(camera[i], yaw, pivot, up).label() for yaw in YAWS]
            pictures = [G.render(planes, ws, c, draws=FixedDraws())["image"] for c in labels]
            views.append(shrunk(torch.cat(pictures).float(), VIEW_SIZE).cpu())
        return torch.cat(views).numpy()

    def save(self, G: torch.nn.Module, run_dir: str | Path, stem: str) -> dict[str, np.ndarray]:
        """Writes <stem>.png, <stem>_raw.png, <stem>_depth.png, <stem>_normal.png (the colours of
        `surfaces.normal_picture`) and <stem>_views.png (a row for each sample of `render_views`);
        returns the grids by suffix."""
        images = self.render(G)
        depth = -images["image_depth"]
        views = self.render_views(G)
        wanted = {
            "": (images["image"], (-1, 1), self.grid_size),
            "_raw": (images["image_raw"], (-1, 1), self.grid_size),
            "_depth": (depth, (depth.min(), depth.max()), self.grid_size),
            "_normal": (self._normals(images), (-1, 1), self.grid_size),
            "_views": (views, (-1, 1), (len(YAWS), len(views) // len(YAWS))),
        }
        return {
            suffix: save_image_grid(img, Path(run_dir, f"{stem}{suffix}.png"), drange, grid_size)
            for suffix, (img, drange, grid_size) in wanted.items()
        }

    def _normals(self, images: dict[str, np.ndarray]) -> np.ndarray:
        depth, opacity = (torch.from_numpy(images[f"image_{k}"]) for k in ("depth", "opacity"))
        return normal_picture(depth, opacity, Camera.from_label(self.c.cpu())).numpy()


def vertical(camera: Camera) -> torch.Tensor:
    """The axis [3] of the world that is up in the pictures of N cameras, as nearly as one is."""
    up = -camera.cam2world[:, :3, 1].mean(0)
    axis = up.abs().argmax()
    return torch.nn.functional.one_hot(axis, 3).to(up).copysign(up[axis])


def turn(camera: Camera, yaw: float, pivot: Sequence[float], up: torch.Tensor) -> Camera:
    """Cameras moved by `yaw` radians to their right on a circle around the line through `pivot`
    along `up` [3], so that the pivot stays where it is in the picture."""
    pose = camera.cam2world
    x, y, z = up.tolist()
    cross = pose.new_tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = torch.eye(3).to(pose) + math.sin(yaw) * cross + (1 - math.cos(yaw)) * cross @ cross
    pivot = pose.new_tensor(pivot)
    turned = pose.clone()
    turned[:, :3, :3] = rotation @ pose[:, :3, :3]
    turned[:, :3, 3] = (pose[:, :3, 3] - pivot) @ rotation.T + pivot
    return Camera(turned, camera.intrinsics)


def shrunk(images: torch.Tensor, limit: int) -> torch.Tensor:
    """Images [N, C, H, W] by a whole factor smaller, so that no side is longer than `limit`."""
    factor = -(-max(images.shape[2:]) // limit)
    return images if factor == 1 else torch.nn.functional.avg_pool2d(images, factor)
