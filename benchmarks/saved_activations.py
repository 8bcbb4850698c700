"""Bytes that training FFHQ-512 keeps for the backward pass, part by part, and what recomputation
saves of them. Counted on fake tensors: needs neither the memory nor a GPU.

python -m benchmarks.saved_activations [--sides=64,128] [--batch=4] [--json=out/saved.json]
"""

from collections.abc import Callable

import click
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import faces_512, machine, table, write_json
from torch_utils.memory_count import LiveBytes, fake_copies, saved_bytes
from training import recomputation
from training.dual_discriminator import DualDiscriminator
from training.loss import StyleGAN2Loss
from training.phases import Phase
from training.rehearsal import noise_batch, rehearse
from training.volumetric_rendering.draws import RandomDraws

MB = 1e6


def kept(G, D, batch, side: int) -> dict[str, Callable[[], object]]:
    """The parts of a pass through both networks, as functions without arguments."""
    with torch.no_grad():
        ws = G.mapping(batch.gen_z, batch.gen_c)
        planes = G.planes(ws).requires_grad_()
        pictures = G.render(planes, ws, batch.gen_c, side)
    ws.requires_grad_()
    label = batch.gen_c
    rays = G.ray_sampler(
        label[:, :16].unflatten(1, (4, 4)), label[:, 16:].unflatten(1, (3, 3)), side
    )
    features = torch.empty(len(label), 32, side, side, requires_grad=True)
    seen = {name: pictures[name].requires_grad_() for name in ("image", "image_raw")}

    def renderer():
        return G.renderer(planes, G.decoder, *rays, G.rendering_kwargs, draws=RandomDraws())

    def superresolution():
        return G.superresolution(features[:, :3].clone(), features, ws, noise_mode="none")

    return {
        "backbone": lambda: G.planes(ws),
        f"renderer {side}": renderer,
        "super-resolution": superresolution,
        "discriminator": lambda: D(seen, label),
    }


def generator_phase(G, D, batch, side: int, choice: str) -> dict[str, float]:
    """What the phase Gmain keeps and has allocated at most, MB an image, and its arithmetic."""
    render = G.synthesis
    parts = recomputation.parts_of(choice)
    G.synthesis = lambda *args, **kwargs: render(*args, **kwargs, recompute=parts)
    try:
        loss = StyleGAN2Loss(G, D, neural_rendering_resolution_initial=side)
        known = [*G.parameters(), *G.buffers(), *D.parameters(), *D.buffers()]
        saved = saved_bytes(lambda: [term.loss for term in loss.generator(batch, 0)], known)
        phase = Phase("Gmain", G, None, (loss.generator,), 1)
        with LiveBytes() as live:
            rehearse(phase, batch, 0)
        # Apart: while it counts, it keeps tensors.
        with FlopCounterMode(display=False) as flops:
            rehearse(phase, batch, 0)
    finally:
        del G.synthesis  # the method is seen again
    G.requires_grad_(True)
    count = len(batch.gen_c)
    return dict(
        kept=saved / MB / count,
        peak=live.peak / MB / count,
        gflop=flops.get_total_flops() / 1e9 / count,
    )


@click.command()
@click.option("--sides", default="64,128", help="Sides of the rendering.", show_default=True)
@click.option("--batch", default=4, type=click.IntRange(min=4), show_default=True)
@click.option("--json", "path", help="Also write the counts to this file.")
def main(sides: str, batch: int, path: str | None):
    """Counts MB an image: kept by each part, and kept and at most allocated by the phase Gmain."""
    networks = [faces_512(), DualDiscriminator(25, 512, 3)]
    parts, phases = [], []
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    G, D = fake_copies(mode, networks)
    G.train().requires_grad_(True)
    with mode:
        images = noise_batch(batch, G.z_dim, G.img_resolution, torch.device("cpu"))
        known = [*G.parameters(), *G.buffers(), *D.parameters(), *D.buffers()]
        for side in map(int, sides.split(",")):
            for name, part in kept(G, D, images, side).items():
                size = saved_bytes(part, known) / MB / batch
                # Modelled: a CPU has no half precision, in which a GPU runs nearly all of these.
                share = 0.5 if name in ("super-resolution", "discriminator") else 1
                row = {"part": name, "float32": round(size), "half": round(size * share)}
                parts += [row] if row not in parts else []
            for choice in recomputation.CHOICES:
                counts = generator_phase(G, D, images, side, choice)
                row = {"rendering": side, "--recompute": choice}
                phases.append(row | {name: round(value) for name, value in counts.items()})
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(f"{table(parts)}\n\n{table(phases)}")
    if path:
        write_json(path, parts=parts, phases=phases)


if __name__ == "__main__":
    main()
