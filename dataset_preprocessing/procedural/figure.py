"""Draw the figure of docs/datasets.md: python -m dataset_preprocessing.procedural.figure."""

from pathlib import Path

import click
import numpy as np
from PIL import Image

from dataset_preprocessing.procedural.cameras import look_at_origin, sample_label
from dataset_preprocessing.procedural.categories import CATEGORIES
from dataset_preprocessing.procedural.render import render_model

_COLUMNS, _ELEVATION, _SAMPLES = 8, 0.4, 5


@click.command()
@click.option("--dest", required=True, help="PNG file to write.", metavar="PNG")
@click.option("--category", type=click.Choice(list(CATEGORIES)), default="cars", show_default=True)
@click.option("--resolution", default=96, show_default=True, help="Side of each picture.")
@click.option("--seed", default=5, show_default=True, help="Which models.")
def main(dest: str, category: str, resolution: int, seed: int) -> None:
    """Two rows of random models and cameras, and a row of one model turning."""
    rng = np.random.default_rng(seed)
    sample = CATEGORIES[category].sample
    views = [(sample(rng), sample_label(rng)) for _ in range(2 * _COLUMNS)]
    model = sample(rng)
    turns = 2 * np.pi * (np.arange(_COLUMNS) + 0.5) / _COLUMNS
    views += [(model, look_at_origin(turn, _ELEVATION)) for turn in turns]
    images = [render_model(model, label, resolution, _SAMPLES).image for model, label in views]
    rows = [np.hstack(images[i : i + _COLUMNS]) for i in range(0, len(images), _COLUMNS)]
    Path(dest).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(dest, optimize=True)


if __name__ == "__main__":
    main()
