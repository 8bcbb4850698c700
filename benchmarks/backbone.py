"""What a stream of planes that know of each other adds to the backbone: time, memory, arithmetic.

python -m benchmarks.backbone [--side=256] [--batch=4] [--repeats=5] [--json=out/backbone.json]

Bytes kept for the backward pass and operations are counted on fake tensors; times are of the device
that is there. `means in full` is the stream with the plain twin of its convolutions, which makes
the means of the other planes as images.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.common import machine, quartiles, table, timed, write_json
from torch_utils.memory_count import saved_bytes
from training import plane_exchange
from training.aware3d import aware3d_resolutions
from training.networks_stylegan2 import SynthesisNetwork

MB = 1e6
SIZES = dict(w_dim=512, img_channels=96, num_fp16_res=0, conv_clamp=None)


def backbones(side: int) -> dict[str, dict]:
    """Options of `SynthesisNetwork` by name."""
    stream = dict(aware3d_res=aware3d_resolutions(side))
    return {
        "plain": {},
        "stream, means in full": stream,
        "stream": stream,
        "stream and details": dict(stream, retidx=[-3, -1]),
        "stream by attention": dict(stream, aware3d_att=True),
    }


@contextmanager
def convolutions_of(name: str) -> Iterator[None]:
    """Within: those of the stream that the name of a backbone means."""
    suffice = plane_exchange._strips_suffice
    if name.endswith("in full"):
        plane_exchange._strips_suffice = lambda *_: False
    try:
        yield
    finally:
        plane_exchange._strips_suffice = suffice


def counted(side: int, batch: int, options: dict) -> dict[str, float]:
    """MB kept for the backward pass, and GFLOP of a forward pass, for each sample."""
    # Here: it imports Triton, which tests of kernels have to set up first.
    from torch.utils.flop_counter import FlopCounterMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        G = SynthesisNetwork(img_resolution=side, **SIZES, **options)
        ws = torch.empty(batch, G.num_ws, G.w_dim)
        saved = saved_bytes(lambda: G(ws), [*G.parameters(), *G.buffers(), ws])
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            G(ws)
    return dict(kept=saved / MB / batch, gflop=flops.get_total_flops() / 1e9 / batch)


def passes(side: int, batch: int, device: str, name: str, options: dict) -> dict[str, Callable]:
    """A forward pass, and one with gradients."""
    G = SynthesisNetwork(img_resolution=side, **SIZES, **options).to(device)
    ws = torch.randn(batch, G.num_ws, G.w_dim, device=device)

    def forward():
        with convolutions_of(name):
            made = G(ws)
        if device == "cuda":
            torch.cuda.synchronize()
        return made if isinstance(made, tuple) else (made,)

    def both():
        sum(planes.sum() for planes in forward()).backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return {f"{name}: forward": torch.no_grad()(forward), f"{name}: both": both}


@click.command()
@click.option("--side", default=256, type=click.IntRange(min=8), show_default=True)
@click.option("--batch", default=4, type=click.IntRange(min=1), show_default=True)
@click.option("--repeats", default=5, type=click.IntRange(min=2), show_default=True)
@click.option("--json", "path", help="Also write the measurements to this file.")
def main(side: int, batch: int, repeats: int, path: str | None):
    """Counts and times forward passes, and forward passes with their gradients."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = backbones(side)
    functions = {}
    for name in options:
        functions |= passes(side, batch, device, name, options[name])
    seconds = timed(functions, repeats)
    rows = []
    for name in options:
        with convolutions_of(name):
            numbers = counted(side, batch, options[name])
        row: dict[str, object] = {"backbone": name}
        row["MB kept a sample"], row["GFLOP a sample"] = numbers["kept"], numbers["gflop"]
        for what in ("forward", "both"):
            row[f"ms a sample, {what}"] = (
                quartiles(seconds[f"{name}: {what}"])["median"] / batch * 1e3
            )
        rows.append(row)
    click.echo(", ".join(f"{k} {v}" for k, v in (machine() | dict(device=device)).items()))
    click.echo(table(rows))
    if path:
        write_json(path, device=device, rows=rows, seconds=seconds)


if __name__ == "__main__":
    main()
