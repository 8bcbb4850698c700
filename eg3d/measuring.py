"""What `calc_metrics.py` measures: a generator, the real pictures it learned from, its run."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eg3d.errors import InputError
from eg3d.loading import load_all, newest
from eg3d.model import pick_device

OPTIONS_FILE = "training_options.json"


@dataclass(frozen=True)
class Subject:
    """A generator in evaluation mode; how its real pictures are opened; its file, and the run
    directory that this lies in, if it does."""

    generator: torch.nn.Module
    dataset_kwargs: dict[str, Any]
    snapshot: str
    run_dir: Path | None


def open_subject(
    network: str,
    data: str | None = None,
    mirror: bool | None = None,
    trust: bool = False,
    device: torch.device | str | None = None,
) -> Subject:
    """Opens a snapshot, or the newest one of a run directory, for measuring its G_ema.

    Args:
        data: the real pictures; by default those that the snapshot names as its training data.
        device: default a GPU if there is one.
        mirror: whether the training saw mirrored copies too; by default as the snapshot says.
        trust: see `eg3d.load`.

    Raises InputError where the file cannot be used or real pictures are not to be found.
    """
    snapshot = os.fspath(newest(network))
    content = load_all(snapshot, trust)
    generator = content["G_ema"]
    if generator is None:
        raise InputError(f"{snapshot}: has no network G_ema")
    if not hasattr(generator, "rendering_kwargs"):
        raise InputError(f"{snapshot}: G_ema is no tri-plane generator")
    return Subject(
        generator.to(pick_device(device)),
        _dataset(snapshot, generator, content["training_set_kwargs"] or {}, data, mirror),
        snapshot,
        _run_dir(snapshot),
    )


def _dataset(
    snapshot: str,
    generator: torch.nn.Module,
    trained_on: dict[str, Any],
    data: str | None,
    mirror: bool | None,
) -> dict[str, Any]:
    path = data or trained_on.get("path")
    if path is None:
        raise InputError(f"{snapshot}: does not name its training data; give it by --data=ZIP|DIR")
    is_shards = "://" in str(path) or str(path).lower().endswith(".tar")  # found when opened
    if not is_shards and not os.path.exists(path):
        if data is not None:
            raise InputError(f"--data={data}: no such file or folder")
        raise InputError(
            f"{snapshot}: its training data {path} are not here; say where by --data=ZIP|DIR"
        )
    return dict(
        class_name="training.dataset.ImageFolderDataset",
        path=str(path),
        resolution=generator.img_resolution,
        use_labels=generator.c_dim > 0,
        use_classes=generator.class_dim > 0,
        xflip=bool(trained_on.get("xflip", False) if mirror is None else mirror),
    )


def _run_dir(snapshot: str) -> Path | None:
    folder = Path(snapshot).parent
    return folder if (folder / OPTIONS_FILE).is_file() else None
