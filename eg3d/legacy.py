"""Snapshots for programs written for the original layout: a dict of live networks."""

import copy
import io
from pathlib import Path
from typing import Any, BinaryIO

import click
import torch

from dnnlib.util import open_url, replacing
from eg3d.command_line import CONTEXT, one_line_errors
from eg3d.errors import SnapshotError
from eg3d.loading import load_all
from torch_utils.misc import copy_params_and_buffers
from torch_utils.pickle_writing import PortablePickler

__all__ = ["load_network_pkl", "main"]

_HALF = {"num_fp16_res": 4, "conv_clamp": 256}
_TENSORFLOW = b"dnnlib.tflib.network"  # the module that such a file names first of all


def load_network_pkl(f: BinaryIO, force_fp16: bool = False) -> dict[str, Any]:
    """The networks of an open snapshot; nothing of the file is run.

    Returns 'G', 'D', 'G_ema', 'augment_pipe' (networks on the CPU, in eval mode, without gradients)
    and 'training_set_kwargs' (a dict), each None where the file has none. `force_fp16` gives G, D
    and G_ema anew with half precision in the four largest resolutions of backbone and
    discriminator; their settings stay. Raises SnapshotError.
    """
    if not f.seekable():
        f = io.BytesIO(f.read())
    start = f.tell()
    head = f.read(4096)
    f.seek(start)
    if _TENSORFLOW in head:
        name = getattr(f, "name", "the file")
        raise SnapshotError(
            f"{name}: TensorFlow pickles are not supported: they hold StyleGAN2 networks, which "
            "make pictures without a third dimension, and code that needs TensorFlow 1"
        )
    data = load_all(f)
    if force_fp16:
        for name in ("G", "D", "G_ema"):
            if data[name] is not None:
                data[name] = _with_half_precision(data[name])
    return data


def _with_half_precision(network: torch.nn.Module) -> torch.nn.Module:
    """The network as its constructor makes it with _HALF: same weights, same settings."""
    kwargs = network.init_kwargs
    options = kwargs.get("synthesis_kwargs", kwargs)
    if all(options.get(name) == value for name, value in _HALF.items()):
        return network
    options.update(_HALF)
    twin = type(network)(*network.init_args, **kwargs).eval().requires_grad_(False)
    for name, buffer in network.named_buffers(recurse=False):
        if not hasattr(twin, name):  # dataset_label_std, which training adds
            twin.register_buffer(name, buffer.clone())
    copy_params_and_buffers(network, twin, require_all=True)
    # What the constructor does not know of: published programs lose it here.
    for name in ("neural_rendering_resolution", "rendering_kwargs"):
        if hasattr(network, name):
            setattr(twin, name, copy.deepcopy(getattr(network, name)))
    if hasattr(network, "renderer"):
        twin.renderer.plane_axes = network.renderer.plane_axes.clone()
    return twin


@click.command(context_settings=CONTEXT)
@click.option("--source", required=True, metavar="PATH|URL", help="Snapshot to read.")
@click.option(
    "--dest",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="Snapshot to write.",
)
@click.option(
    "--force-fp16",
    type=bool,
    default=False,
    show_default=True,
    help="Half precision in the four largest resolutions of backbone and discriminator.",
)
@one_line_errors
def main(source: str, dest: Path, force_fp16: bool) -> None:
    """Reads a snapshot and writes it again, in the published layout."""
    with open_url(source) as file:
        data = load_network_pkl(file, force_fp16=force_fp16)
    with replacing(dest) as temporary, open(temporary, "wb") as file:
        PortablePickler(file, protocol=4).dump(data)
    click.echo(f"{dest}: {', '.join(name for name, value in data.items() if value is not None)}")
