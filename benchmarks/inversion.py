"""How near inversion comes: a model's own pictures of new seeds, and real ones.

python -m benchmarks.inversion --network=FILE [--seeds=30-32] [--data=cars.zip] [--images=3]
    [--steps=500] [--tune-steps=350] [--json=out/inversion.json]

Own pictures: the camera is given, or guessed 10 degrees off, or guessed to be that of another seed.
Real pictures, the last ones of `--data`: their cameras are given. Means over the pictures.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import numpy as np
import torch

from benchmarks.common import table, write_json
from eg3d import pictures, views
from eg3d.camera_offsets import angle_between, moved
from eg3d.inversion import SPACES, Inversion, Options, invert
from eg3d.likeness import Likeness
from eg3d.model import Model, load
from eg3d.option_types import SeedList
from eg3d.pivotal_tuning import TuningOptions, tune
from training.cameras import Camera
from training.dataset import ImageFolderDataset

OTHER_VIEWS = (-0.4, 0.4)  # radians to the side
GUESSES = ("given", "10 degrees off", "another seed's")


@torch.no_grad()
def rendered(model: Model, ws: torch.Tensor, camera: Camera) -> torch.Tensor:
    """A picture [1, 3, R, R] with the 256 values of a file."""
    image = model.scenes_of(ws).render(camera).image
    return as_tensor(pictures.to_uint8(image)[0])


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 [R, R, 3] -> [1, 3, R, R] in [-1, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def guessed(model: Model, seed: int, camera: Camera, kind: str) -> Camera:
    """The camera to begin with, of one of GUESSES."""
    if kind == "given":
        return camera
    if kind == "another seed's":
        return views.random_views(model, [seed + 5001])
    axis = np.random.RandomState(seed).randn(3) * (1, 1, 0.3)  # mostly a step on the orbit
    turn = math.radians(10) * axis / np.linalg.norm(axis)
    return moved(camera, torch.tensor([*turn, 0, 0, 0], dtype=torch.float32), model.pivot)


def own(model: Model, seed: int, space: str, kind: str, steps: int) -> dict[str, float]:
    """Measures of one picture that the model made."""
    camera, truth = views.random_views(model, [seed + 5000]), model.mapping(model.latents([seed]))
    image, guess = rendered(model, truth, camera), guessed(model, seed, camera, kind)
    options = Options(space, steps, optimise_pose=kind != "given")
    found, seconds = clocked(partial(invert, model, image, guess, options))
    sides = [moved(camera, torch.tensor([0, y, 0, 0, 0, 0]), model.pivot) for y in OTHER_VIEWS]
    beside = [
        Likeness(rendered(model, truth, side)).psnr(rendered(model, found.ws, side))
        for side in sides
    ]
    return {
        "PSNR": Likeness(image).psnr(rendered(model, found.ws, found.camera)),
        "other views": sum(beside) / len(beside),
        "guess off": angle_between(guess, camera),
        "found off": angle_between(found.camera, camera),
        "CPU s": seconds,
    }


def real(
    model: Model, image: torch.Tensor, camera: Camera, steps: int, tune_steps: int
) -> dict[str, dict[str, float]]:
    """Measures of one picture that the model did not make, for each way of inverting it."""
    ways = {
        "w": Options(steps=steps),
        "w+": Options("w+", steps),
        "w, noise": Options(steps=steps, optimise_noise=True),
    }
    rows, found, likeness = {}, {}, Likeness(image)

    def note(name: str, changed: Model, result: Inversion, seconds: float) -> None:
        picture = rendered(changed, result.ws, result.camera)
        rows[name] = {"PSNR": likeness.psnr(picture), "CPU s": seconds}

    for name, options in ways.items():
        found[name], seconds = clocked(partial(invert, model, image, camera, options))
        note(name, found[name].model(model), found[name], seconds)
    for weight in (0.0, 0.1):
        options = TuningOptions(tune_steps, locality_weight=weight)
        tuned, seconds = clocked(partial(tune, model, found["w"], image, options))
        note(f"w, tuned, locality {weight:g}", tuned, found["w"], seconds)
    return rows


def clocked(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and the CPU seconds that it took."""
    start = time.process_time()
    return work(), time.process_time() - start


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of every column."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


@click.command()
@click.option("--network", required=True)
@click.option("--seeds", type=SeedList(), default="30-32", show_default=True)
@click.option("--data", help="Real pictures, the model's training data.")
@click.option("--images", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--tune-steps", type=click.IntRange(min=1), default=350, show_default=True)
@click.option("--json", "path", help="Also write the tables to this file.")
def main(network, seeds, data, images, steps, tune_steps, path) -> None:
    """Prints one table of a model's own pictures and, with --data, one of real ones."""
    model = load(network, device="cpu")
    tables = {"own": [], "real": []}
    for kind in GUESSES:
        for space in SPACES:
            rows = [own(model, seed, space, kind, steps) for seed in seeds]
            tables["own"].append({"camera": kind, "space": space, **means(rows)})
    print(table(tables["own"]))
    if data:
        dataset = ImageFolderDataset(data, use_labels=True)
        rows = []
        for index in range(len(dataset) - images, len(dataset)):
            pixels, label = dataset[index]
            image = as_tensor(pixels.transpose(1, 2, 0))
            camera = Camera.from_label(torch.from_numpy(label)[None])
            rows.append(real(model, image, camera, steps, tune_steps))
        tables["real"] = [{"way": way, **means([row[way] for row in rows])} for way in rows[0]]
        print(table(tables["real"]))
    if path:
        write_json(path, **tables)


if __name__ == "__main__":
    main()
