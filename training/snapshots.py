"""Snapshots: the weights worth keeping, in the published pickle layout, and sample pictures."""

import copy
import os
from pathlib import Path

import numpy as np
import torch

from dnnlib.util import replacing
from torch_utils.pickle_writing import PortablePickler, plain_numbers
from training.image_grid import save_image_grid
from training.volumetric_rendering.draws import FixedDraws


def save_snapshot(path: str | Path, training_set_kwargs: dict | None, **networks) -> None:
    """Writes `{training_set_kwargs, G, D, G_ema, augment_pipe}` as a pickle, atomically.

    Networks are stored in eval mode, without gradients, on the CPU. The same networks give the
    same bytes.
    """
    data = {"training_set_kwargs": plain_numbers(training_set_kwargs)}
    for name in ("G", "D", "G_ema", "augment_pipe"):
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
        """{'image', 'image_raw', 'image_depth'}, each [N, C, H, W]; the same draws every time."""
        parts = [
            G(z, c, noise_mode="const", draws=FixedDraws())
            for z, c in zip(self.z.split(self.chunk), self.c.split(self.chunk), strict=True)
        ]
        names = ("image", "image_raw", "image_depth")
        return {name: torch.cat([p[name].float().cpu() for p in parts]).numpy() for name in names}

    def save(self, G: torch.nn.Module, run_dir: str | Path, stem: str) -> dict[str, np.ndarray]:
        """Writes <stem>.png, <stem>_raw.png, <stem>_depth.png; returns the grids by suffix."""
        images = self.render(G)
        depth = -images["image_depth"]
        wanted = {
            "": (images["image"], (-1, 1)),
            "_raw": (images["image_raw"], (-1, 1)),
            "_depth": (depth, (depth.min(), depth.max())),
        }
        return {
            suffix: save_image_grid(
                img, Path(run_dir, f"{stem}{suffix}.png"), drange, self.grid_size
            )
            for suffix, (img, drange) in wanted.items()
        }
