"""`python -m eg3d invert`: the latents of a given picture, in files that every command takes."""

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from tqdm import tqdm

from dnnlib.util import EasyDict, replacing, set_offline
from eg3d import pictures, views
from eg3d.camera_offsets import moved
from eg3d.command_line import CONTEXT, FiniteFloat, choice_options, one_line_errors, showing
from eg3d.files import make_folder
from eg3d.inversion import SPACES, Callback, Inversion, Options, Step, invert
from eg3d.latents import write_ws
from eg3d.likeness import Likeness, load_perceptual
from eg3d.loading import newest, read
from eg3d.model import Model, load
from eg3d.pivotal_tuning import TuningOptions, tune
from eg3d.targets import read_camera, read_picture
from training.cameras import Camera
from training.network_files import NetworkFile, NetworkFileError, write_networks
from training.network_record import from_module

_SIDE_YAWS = (0.4, -0.4)  # of the comparison, radians


@click.command("invert", context_settings=CONTEXT)
@click.argument("image", metavar="IMAGE", type=click.Path(path_type=Path))
@click.option(
    "--network",
    required=True,
    metavar="PATH|URL",
    help="Snapshot (.pkl, .safetensors) or run directory; its G_ema is used.",
)
@click.option("--outdir", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option(
    "--camera",
    metavar="JSON|NUMBERS",
    help="The picture's camera: a JSON file of one label, the dataset.json that has the picture, "
    "or 25 numbers.  [default: the front]",
)
@click.option(
    "--optimize-pose", is_flag=True, help="Look for the camera; --camera is a first guess."
)
@click.option(
    "--space",
    type=click.Choice(SPACES),
    default="w",
    show_default=True,
    help="One latent for all layers, or one for each.",
)
@click.option("--steps", type=click.IntRange(min=1), default=Options.steps, show_default=True)
@click.option(
    "--noise",
    is_flag=True,
    help="Fit the backbone's noise maps too; they are kept in network-tuned.pkl.",
)
@click.option(
    "--tune-steps",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Steps of pivotal tuning afterwards; the generator goes to network-tuned.pkl.",
)
@click.option(
    "--locality",
    type=FiniteFloat(above=0),
    help="Weight of what tuning changes for other latents, such as 0.1.  [default: not held]",
)
@click.option(
    "--perceptual",
    metavar="PATH|URL",
    help="TorchScript file of VGG16 or LPIPS: pictures are to look alike, too.",
)
@click.option(
    "--trace", type=click.IntRange(min=0), default=0, help="Write so many intermediate pictures."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@choice_options
@click.option("--device", help="Such as cpu or cuda:1.  [default: a GPU if there is one]")
@click.option(
    "--trust",
    is_flag=True,
    help="Unpickle the file, for classes of your own; it may run any code.",
)
@click.option("--offline", is_flag=True, help="Download nothing; use what was downloaded before.")
@one_line_errors
def main(**options):
    """Finds the latents that make IMAGE: OUTDIR/projected_w.npz, with the camera beside it."""
    opts = EasyDict(options)
    changes_network = bool(opts.tune_steps or opts.noise)
    _check_combination(opts, changes_network)
    if opts.offline:
        set_offline(True)
    network = newest(opts.network)
    model = showing(load(network, device=opts.device, trust=opts.trust), opts)
    content = _writable(read(network)) if changes_network else None
    image, camera = _target(opts, model)
    perceptual = None
    if opts.perceptual:
        perceptual = load_perceptual(opts.perceptual, model.img_resolution, model.device)
    watch = _Watch(make_folder(opts.outdir), opts.steps + opts.tune_steps, opts.trace)

    settings = Options(opts.space, opts.steps, opts.optimize_pose, opts.noise, seed=opts.seed)
    found = invert(model, image, camera, settings, perceptual, watch.stage("inversion"))
    write_ws(opts.outdir / "projected_w.npz", found.ws)
    views.to_file(opts.outdir / "camera.json", found.camera)
    models = [found.model(model)]
    if opts.tune_steps:
        tuning = TuningOptions(opts.tune_steps, locality_weight=opts.locality or 0, seed=opts.seed)
        models.append(tune(model, found, image, tuning, perceptual, watch.stage("tuning")))
    watch.close()
    if changes_network:
        _write_network(opts.outdir / "network-tuned.pkl", content, models[-1])
    _compare(opts.outdir / "comparison.png", models, found, image)


def _check_combination(opts: EasyDict, changes_network: bool) -> None:
    if opts.trust and changes_network:
        raise click.UsageError(
            "--trust goes with neither --tune-steps nor --noise: what has classes of your own "
            "cannot be written"
        )
    if opts.locality and not opts.tune_steps:
        raise click.UsageError("--locality needs --tune-steps")


def _target(opts: EasyDict, model: Model) -> tuple[torch.Tensor, Camera]:
    """The picture and its camera; says what was done to them."""
    white = bool(model.rendering_kwargs.get("white_back", False))
    image, notes = read_picture(opts.image, model.img_resolution, white)
    if opts.camera:
        camera = read_camera(opts.camera, opts.image)
    else:
        camera = model.camera
        if not opts.optimize_pose:
            notes.append("camera: taken to be the front; else give --camera or --optimize-pose")
    for note in notes:
        click.echo(note, err=True)
    return image, camera


class _Watch:
    """Shows progress, and writes losses and intermediate pictures, of `total` steps in stages."""

    def __init__(self, folder: Path, total: int, pictures_wanted: int):
        self._folder = folder
        self._bar = tqdm(total=total, unit="step", disable=None)
        self._wanted = set(np.linspace(0, total - 1, pictures_wanted).round().astype(int))
        self._lines = []

    def stage(self, name: str) -> Callback:
        """What the steps of a stage are to call."""
        self._bar.set_description(name)

        def see(step: Step) -> None:
            if len(self._lines) in self._wanted:
                path = self._folder / f"trace{len(self._lines):05d}.png"
                pictures.write_png(path, pictures.to_uint8(step.image)[0])
            self._lines.append(json.dumps({"stage": name, "step": step.index, **step.losses}))
            self._bar.set_postfix_str(f"{step.losses['psnr']:.1f} dB", refresh=False)
            self._bar.update()

        return see

    def close(self) -> None:
        """Ends the progress bar and writes losses.jsonl."""
        self._bar.close()
        _write_text(self._folder / "losses.jsonl", "\n".join(self._lines) + "\n")


@torch.no_grad()
def _compare(path: Path, models: list[Model], found: Inversion, image: torch.Tensor) -> None:
    """Writes the picture, what each model makes of it, and two side views of the last one in a row;
    says how near they come."""
    likeness = Likeness(image.to(models[0].device))
    row = [image]
    for name, model in zip(("inversion", "tuning"), models, strict=False):
        scene = model.scenes_of(found.ws)
        row.append(scene.render(found.camera).image)
        click.echo(f"{name}: {likeness.psnr(row[-1]):.1f} dB PSNR")
    for yaw in _SIDE_YAWS:
        turn = torch.tensor([0, yaw, 0, 0, 0, 0], device=model.device)
        row.append(scene.render(moved(found.camera, turn, model.pivot)).image)
    row = [pictures.to_uint8(picture)[0] for picture in row]
    pictures.write_png(path, pictures.tile(row, len(row), 1))


def _writable(content: NetworkFile) -> NetworkFile:
    """The networks of a file that can be written again; says which cannot, and why."""
    records = {}
    for name, record in content.records.items():
        try:
            content.build(name)
            records[name] = record
        except NetworkFileError as error:
            click.echo(f"network-tuned.pkl: will be without {name}: {error}", err=True)
    return replace(content, records=records)


def _write_network(path: Path, content: NetworkFile, model: Model) -> None:
    """The networks of a file, with the model's generator as G_ema."""
    records = {**content.records, "G_ema": from_module(model.generator)}
    write_networks(path, replace(content, records=records))


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)
