"""Frames a second of an orbit around one seed, FFHQ-512 at full size with random weights, and the
memory of the process as the video gets longer.

python -m benchmarks.video [--frames=24] [--length=64] [--repeats=3] [--side=64]
    [--sample-mult=2] [--threads=2] [--device=cuda] [--json=out/video.json]

The plain loop asks the generator for every frame anew, as published scripts do: backbone, volume
rendering, super-resolution. Both write an mp4, which is part of the time; the encoder runs beside,
so that its work is not among the CPU seconds.
"""

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import numpy as np
import psutil
import torch

from benchmarks.common import faces_512, machine, quartiles, table, timed, write_json
from eg3d import filming, latent_paths, pictures, views
from eg3d.generate import Style
from eg3d.model import Model
from eg3d.video import write_video
from training.volumetric_rendering.draws import FixedDraws

SEED = 0


def frames_once(model: Model, style: Style, count: int, seed: int = SEED) -> Iterator[np.ndarray]:
    """Frames as gen_videos.py makes them."""
    seeds = latent_paths.deal([seed], (1, 1))
    for take in latent_paths.takes(model, style, seeds, views.orbit(model, count)):
        yield filming.picture(model, style, *take, (1, 1))


def frames_plain(model: Model, style: Style, count: int) -> Iterator[np.ndarray]:
    """The same frames by a loop over `G.synthesis`."""
    G, kwargs = model.generator, model.rendering_kwargs
    names = ("depth_resolution", "depth_resolution_importance")
    before = {name: kwargs[name] for name in names}
    ws = model.mapping(model.latents([SEED]))
    try:
        kwargs.update({name: int(before[name] * style.samples) for name in names})
        for label in views.orbit(model, count).label():
            options = dict(neural_rendering_resolution=style.resolution, noise_mode="const")
            image = G.synthesis(ws, label[None], draws=FixedDraws(), **options)["image"]
            yield pictures.to_uint8(image)[0]
    finally:
        kwargs.update(before)


def memory(frames: Iterator[np.ndarray], path: Path, marks: tuple[int, ...]) -> dict[int, float]:
    """MB of this process, resident, when the frames of these numbers were handed on."""
    found, process = {}, psutil.Process()

    def watched() -> Iterator[np.ndarray]:
        for index, frame in enumerate(frames, start=1):
            yield frame
            if index in marks:
                found[index] = process.memory_info().rss / 2**20

    write_video(path, watched())
    return found


@click.command()
@click.option("--frames", type=click.IntRange(min=2), default=24, show_default=True)
@click.option("--length", default=64, show_default=True, help="Frames of the video for the memory.")
@click.option("--repeats", type=click.IntRange(min=2), default=3, show_default=True)
@click.option("--side", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--sample-mult", type=float, default=2.0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: what torch chooses.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "path", help="Also write all measurements to this file.")
@torch.inference_mode()
def main(frames, length, repeats, side, sample_mult, threads, device, path) -> None:
    """Measures both ways in turns."""
    if threads:
        torch.set_num_threads(threads)
    model = Model.of(faces_512().to(device))
    style = Style(resolution=side, samples=sample_mult)
    ways = {"backbone once": frames_once, "plain loop": frames_plain}
    for make in ways.values():
        next(make(model, style, frames))  # The first picture takes longer.
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "orbit.mp4"
        cpu = {name: [] for name in ways}

        def film(name: str) -> None:
            start = time.process_time()
            write_video(video, ways[name](model, style, frames))
            cpu[name].append(time.process_time() - start)

        seconds = timed({name: partial(film, name) for name in ways}, repeats, warmup=0)
        marks = tuple(sorted({8, length // 2, length}))
        megabytes = memory(frames_once(model, style, length), video, marks)
    rows = [
        {
            "way": name,
            "frames/s": frames / min(s),
            "median": frames / quartiles(s)["median"],
            "CPU seconds a frame": min(cpu[name]) / frames,
        }
        for name, s in seconds.items()
    ]
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(f"\n{table(rows)}\n")
    click.echo(table([{"frame": mark, "MB": mb} for mark, mb in megabytes.items()]))
    if path:
        write_json(path, frames=frames, seconds=seconds, cpu=cpu, megabytes=megabytes)


if __name__ == "__main__":
    main()
