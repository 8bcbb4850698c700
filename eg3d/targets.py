"""What is to be inverted, from files: a picture, and the camera that took it."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

from dnnlib.util import one_line
from eg3d import views
from eg3d.errors import InputError
from training.cameras import LABEL_SIZE, Camera, check_label

_DEEP = ("I", "F")  # beginnings of Pillow's modes of more than 8 bits


def read_picture(path: str | Path, side: int, white: bool) -> tuple[torch.Tensor, list[str]]:
    """A square picture of any format as [1, 3, side, side], -1 to 1, and what was done to it.

    Where it is transparent it gets the model's background, white or black. Raises InputError.
    """
    try:
        with PIL.Image.open(path) as file:
            picture = PIL.ImageOps.exif_transpose(file)
            picture.load()
    except Exception as error:  # What damaged pictures raise has no bounds.
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"{path}: cannot be read as a picture: {reason}") from error
    if picture.mode.startswith(_DEEP):
        raise InputError(f"{path}: has more than 8 bits a channel; save it with 8")
    width, height = picture.size
    if width != height:
        raise InputError(f"{path}: is {width}x{height}; must be square, cut as the training data")
    notes = []
    if "A" in picture.getbands() or "transparency" in picture.info:
        notes.append(f"{path}: transparent; its background is made {'white' if white else 'black'}")
        picture = picture.convert("RGBA")
        ground = PIL.Image.new("RGBA", picture.size, "white" if white else "black")
        picture = PIL.Image.alpha_composite(ground, picture)
    picture = picture.convert("RGB")
    if width != side:
        notes.append(f"{path}: resized from {width} to {side} pixels, the model's")
        picture = picture.resize((side, side), PIL.Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return pixels[None].float() / 127.5 - 1, notes


def read_camera(source: str, picture: str | Path) -> Camera:
    """The camera (N = 1) of a picture. Raises InputError.

    source: 25 numbers with commas or spaces between them; a JSON file of one such label; or the
    dataset.json of a data set, in which the picture's path is looked up.
    """
    try:
        label = [float(number) for number in source.replace(",", " ").split()]
    except ValueError:
        return _from_file(source, picture)
    return _camera(label, f"camera {source!r}")


def _from_file(source: str, picture: str | Path) -> Camera:
    try:
        content = json.loads(Path(source).read_text())
    except (OSError, ValueError):
        content = None  # `views.from_file` says what is wrong
    if isinstance(content, dict):
        return _camera(_entry(content, source, picture), f"{source}: {picture}")
    camera = views.from_file(source)
    if len(camera) != 1:
        raise InputError(f"{source}: has {len(camera)} cameras; must be one, that of the picture")
    return camera


def _entry(content: dict, source: str, picture: str | Path) -> object:
    """The label of a data set whose file name agrees with the end of the picture's path."""
    entries = content.get("labels")
    pairs = isinstance(entries, list) and all(
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)
        for entry in entries
    )
    if not pairs:
        raise InputError(
            f"{source}: must hold one label of {LABEL_SIZE} numbers or, as that of a data set, "
            '{"labels": [[file name, label], ...]}'
        )
    own = Path(picture).absolute().parts
    names = {Path(name).parts: label for name, label in entries}
    for start in range(len(own)):  # the longest name first
        if own[start:] in names:
            return names[own[start:]]
    raise InputError(f"{source}: has no entry for {picture} among its {len(entries)} pictures")


def _camera(label: object, where: str) -> Camera:
    problem = check_label(label)
    if problem:
        raise InputError(f"{where}: {problem}")
    return Camera.from_label(torch.tensor([label], dtype=torch.float32))
