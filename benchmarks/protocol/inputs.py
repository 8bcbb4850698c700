"""What the protocol measures with: networks with random weights, and data sets of toy cars."""

from pathlib import Path

import torch

from benchmarks.common import faces_512, small_faces
from dataset_preprocessing.conversion.convert import Recipe, convert
from dataset_preprocessing.procedural import make_dataset
from training.dual_discriminator import DualDiscriminator
from training.triplane import TriPlaneGenerator

_CARS = 64  # pixels a side of the toys, which are enlarged where larger ones are wanted
_SMALL = dict(channel_base=64, channel_max=8)


class Inputs:
    """Networks and data, made when they are asked for first.

    Args:
        folder: where data sets that are made are put.
        data: a data set to take instead.
        quick: tiny networks, few pictures.
    """

    def __init__(self, folder: Path, data: str | None = None, quick: bool = False):
        self._folder = folder
        self._data = data
        self._quick = quick
        self._networks: dict[str, tuple[TriPlaneGenerator, DualDiscriminator]] = {}

    def networks(self, device: torch.device) -> tuple[TriPlaneGenerator, DualDiscriminator]:
        """G and D of FFHQ-512 for inference, or `quick` tiny ones."""
        if str(device) not in self._networks:
            G = small_faces() if self._quick else faces_512()
            torch.manual_seed(1)
            smaller = _SMALL if self._quick else {}
            # The published one computes in half precision where its four largest sides are.
            D = DualDiscriminator(G.c_dim, G.img_resolution, 3, num_fp16_res=4, **smaller)
            D.eval().requires_grad_(False)
            self._networks[str(device)] = G.to(device), D.to(device)
        return self._networks[str(device)]

    def cars(self, side: int) -> str:
        """The data set that was given, else 64 cars (`quick`: 8) of `side` pixels."""
        if self._data is not None:
            return self._data
        toys, larger = self._folder / "cars.zip", self._folder / f"cars{side}.zip"
        if not toys.exists():
            count = 8 if self._quick else 64
            make_dataset(toys, num_images=count, resolution=min(side, _CARS), seed=0)
        if side <= _CARS:
            return str(toys)
        if not larger.exists():
            convert(toys, larger, Recipe(size=(side, side)))
        return str(larger)

    @property
    def folder(self) -> Path:
        """For files that a benchmark writes."""
        return self._folder
