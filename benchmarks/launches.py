"""Operators and memory traffic of a training step's networks, with kernels and without, as a GPU
would run them. Counted on fake tensors: needs neither a GPU nor the memory.

python -m benchmarks.launches [--batch=4] [--json=out/launches.json]

An operator that is no view is taken for one launch (some are several, convolutions above all) that
reads its arguments and writes its results once. Half precision where a GPU has it.
"""

from collections.abc import Callable
from contextlib import ExitStack
from unittest import mock

import click
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.common import faces_512, machine, table, write_json
from torch_utils.memory_count import fake_copies
from training.dual_discriminator import DualDiscriminator


class Traffic(TorchDispatchMode):
    """Counts operators and the bytes that they read and write."""

    def __init__(self):
        super().__init__()
        self.operators = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if not view and func.namespace != "prim":
            results = out if isinstance(out, tuple | list) else [out]
            tensors = [t for t in (*args, *results) if isinstance(t, torch.Tensor)]
            self.operators += 1
            self.bytes += sum(_bytes(t) for t in tensors)
        return out


def _bytes(t: torch.Tensor) -> int:
    """What has to be read: an expanded axis is there once."""
    sides = [n for n, stride in zip(t.shape, t.stride(), strict=True) if stride]
    return torch.Size(sides).numel() * t.itemsize


def as_on_a_gpu(kernels: bool) -> ExitStack:
    """Half precision in the blocks that are meant for it; kernels for everything, or nothing."""
    stack = ExitStack()
    for module in ("synthesis", "discriminator"):
        name = f"training.{module}.in_half_precision"
        stack.enter_context(mock.patch(name, lambda block, force_fp32, x: block.use_fp16))
    for module in ("epilogue_ops", "upfirdn2d_ops"):
        name = f"torch_utils.ops.{module}.use_triton"
        stack.enter_context(mock.patch(name, lambda x: kernels))
    return stack


def parts(G, D, batch: int) -> dict[str, tuple[torch.nn.Module, Callable[[], torch.Tensor]]]:
    """The networks around the renderer, each with a function that gives what it makes."""
    ws = torch.randn(batch, G.backbone.num_ws, 512, requires_grad=True)
    features = torch.randn(batch, 32, 128, 128, requires_grad=True)
    pictures = dict(image=torch.randn(batch, 3, 512, 512), image_raw=torch.randn(batch, 3, 64, 64))
    label = torch.randn(batch, 25)
    upscale = G.superresolution

    def backbone():
        return G.backbone.synthesis(ws)

    def superresolution():
        return upscale(features[:, :3].clone(), features, ws, noise_mode="none")

    return {
        "backbone": (G.backbone.synthesis, backbone),
        "super-resolution": (upscale, superresolution),
        "discriminator": (D, lambda: D(pictures, label)),
    }


def counted(network: torch.nn.Module, run: Callable[[], torch.Tensor], kernels: bool) -> dict:
    """Operators and bytes of a forward pass and of its gradients."""
    with as_on_a_gpu(kernels):
        with Traffic() as forward:
            y = run()
        with Traffic() as backward:
            parameters = list(network.parameters())
            torch.autograd.grad(y, parameters, torch.empty_like(y), allow_unused=True)
    return dict(forward=forward, backward=backward)


@click.command()
@click.option("--batch", default=4, type=click.IntRange(min=4), show_default=True)
@click.option("--json", "path", help="Also write the counts to this file.")
def main(batch: int, path: str | None):
    """Counts launches and traffic (GB an image) of FFHQ-512's networks."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    G, D = fake_copies(mode, [faces_512(), DualDiscriminator(25, 512, 3)])
    G.train().requires_grad_(True)
    rows = []
    with mode:
        for name, (network, run) in parts(G, D, batch).items():
            plain, kernels = (counted(network, run, choice) for choice in (False, True))
            for which in ("forward", "backward"):
                before, after = plain[which], kernels[which]
                rows.append(
                    {
                        "part": f"{name}, {which}",
                        "operators, plain": before.operators,
                        "with kernels": after.operators,
                        "GB an image, plain": before.bytes / 1e9 / batch,
                        "GB with kernels": after.bytes / 1e9 / batch,
                    }
                )
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(table(rows))
    if path:
        write_json(path, batch=batch, rows=rows)


if __name__ == "__main__":
    main()
