"""Draw the figure of docs/data.md: python -m dataset_preprocessing.procedural.figure."""

from pathlib import Path

import click
import numpy as np
from PIL import Image

from dataset_preprocessing.procedural.cameras import look_at_origin, sample_label
from dataset_preprocessing.procedural.cars import sample_car
from dataset_preprocessing.procedural.render import render_car

_COLUMNS, _ELEVATION, _SAMPLES = 8, 0.4, 5


@click.command()
@click.option("--dest", required=True, help="PNG file to write.", metavar="PNG")
@click.option("--resolution", default=96, show_default=True, help="Side of each picture.")
@click.option("--seed", default=5, show_default=True, help="Which cars.")
def main(dest: str, resolution: int, seed: int) -> None:
    """Two rows of random cars and cameras, and a row of one car turning."""
    rng = np.random.default_rng(seed)
    views = [(sample_car(rng), sample_label(rng)) for _ in range(2 * _COLUMNS)]
    car = sample_car(rng)
    turns = 2 * np.pi * (np.arange(_COLUMNS) + 0.5) / _COLUMNS
    views += [(car, look_at_origin(turn, _ELEVATION)) for turn in turns]
    images = [render_car(car, label, resolution, _SAMPLES).image for car, label in views]
    rows = [np.hstack(images[i : i + _COLUMNS]) for i in range(0, len(images), _COLUMNS)]
    Path(dest).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(dest, optimize=True)


if __name__ == "__main__":
    main()
