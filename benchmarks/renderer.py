"""Milliseconds and memory of the volume renderer at the sizes of FFHQ-512: forward, and forward
with gradients of planes and decoder, by each implementation that the device has.

python -m benchmarks.renderer [--field=usual|sets|linear] [--sides=64,128,256] [--batch=1]
    [--repeats=20] [--json=FILE]

Planes are noise, 3 x 32 channels of 256 x 256; 48 + 48 samples a ray. `--field=sets` adds a second
set of 512 x 512, with cyclic axes; `linear` has one of 512 x 512, a hidden layer of leaky ReLU,
three linear colours and the classic ray marcher. On a CPU only the plain way runs. The kernels run
in each precision: `float32`, `tf32` products, `float16` planes. The largest difference of their
features from the plain float32 ones is in the table too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import machine, quartiles, table, timed, write_json
from benchmarks.generator_cpu import face_camera
from torch_utils.ops.choice import set_ops, why_not_triton
from training.presets import PRESETS
from training.triplane import OSGDecoder
from training.volumetric_rendering.draws import FixedDraws
from training.volumetric_rendering.ray_sampler import RaySampler
from training.volumetric_rendering.renderer import ImportanceRenderer

OPTIONS = dict(PRESETS["ffhq"].rendering, clamp_mode="softplus", disparity_space_sampling=False)
WAYS = {  # operators, 10-bit factors of products allowed, dtype of the planes
    "plain": ("torch", False, torch.float32),
    "plain tf32": ("torch", True, torch.float32),
    "triton float32": ("triton", False, torch.float32),
    "triton tf32": ("triton", True, torch.float32),
    "triton float16": ("triton", False, torch.float16),
}


def osg_decoder() -> OSGDecoder:
    """With 32 colours."""
    return OSGDecoder(32, dict(decoder_lr_mul=1, decoder_output_dim=32))


class LinearDecoder(torch.nn.Module):
    """Leaky ReLU between two layers, three linear colours."""

    averages_planes = True
    hidden_activation, color_activation = "lrelu", "linear"

    def __init__(self):
        super().__init__()
        shapes = [(64, 32), (64,), (4, 64), (4,)]
        self.layers = torch.nn.ParameterList(torch.randn(shape) / 8 for shape in shapes)

    def two_layers(self) -> tuple[Tensor, ...]:
        return tuple(self.layers)

    def forward(self, features: Tensor, directions: Tensor | None = None) -> dict[str, Tensor]:
        w1, b1, w2, b2 = self.layers
        hidden = F.leaky_relu(F.linear(features[:, 0], w1, b1), 0.2) * 2**0.5
        sigma, rgb = F.linear(hidden, w2, b2).tensor_split([1], dim=-1)
        return {"rgb": rgb, "sigma": sigma}


CLASSIC = dict(ray_marcher="classic", importance_smoothing=False, density_bias=0.0)
FIELDS = {  # sides of the sets of planes, their axes, decoder, options besides the usual
    "usual": ((256,), "legacy", osg_decoder, {}),
    "sets": ((256, 512), "cyclic", osg_decoder, {}),
    "linear": ((512,), "xy_xz_yz", LinearDecoder, CLASSIC),
}


class Renderings:
    """A batch of scenes of noise and the frontal camera's rays, `side` x `side` of them."""

    def __init__(self, kind: str, side: int, batch: int, device: torch.device):
        torch.manual_seed(0)
        camera = face_camera().to(device).expand(batch, -1)
        pose, lens = camera[:, :16].unflatten(1, (4, 4)), camera[:, 16:].unflatten(1, (3, 3))
        self.rays = RaySampler()(pose, lens, side)
        sides, axes, decoder, changes = FIELDS[kind]
        self.planes = [torch.randn(batch, 3, 32, s, s, device=device) for s in sides]
        self.decoder = decoder().to(device)
        self.renderer = ImportanceRenderer(axes)
        self.options = {**OPTIONS, **changes}
        self.synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def render(self, planes: list[Tensor]) -> tuple[Tensor, ...]:
        """Features, depth and opacity, always at the same samples."""
        return self.renderer(planes, self.decoder, *self.rays, self.options, FixedDraws())

    def forward(self, way: str) -> Tensor:
        """Features without gradients."""
        with chosen(way), torch.no_grad():
            features = self.render([planes.to(WAYS[way][2]) for planes in self.planes])[0]
            self.synchronize()
        return features

    def backward(self, way: str) -> tuple[Tensor, ...]:
        """Gradients of the mean square of everything rendered."""
        with chosen(way):
            planes = [planes.to(WAYS[way][2]).requires_grad_() for planes in self.planes]
            loss = sum(x.square().mean() for x in self.render(planes))
            grads = torch.autograd.grad(loss, [*planes, *self.decoder.parameters()])
            self.synchronize()
        return grads


@contextmanager
def chosen(way: str) -> Iterator[None]:
    """The operators and the precision of products that a way stands for."""
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    operators, products.allow_tf32, _ = WAYS[way]
    set_ops(operators)
    try:
        yield
    finally:
        set_ops(None)
        products.allow_tf32 = before


def peak_megabytes(function: Callable[[], object], device: torch.device) -> float | None:
    """By how much (2^20 bytes) a call's memory exceeds what is there before; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    function()
    return round((torch.cuda.max_memory_allocated(device) - before) / 2**20, 1)


def measure(kind: str, side: int, batch: int, device: torch.device, ways: list[str], repeats: int):
    """Rows of the table, and all seconds by way and pass."""
    scene = Renderings(kind, side, batch, device)
    passes = {"forward": scene.forward, "with gradients": scene.backward}
    functions = {
        f"{way}, {name}": (lambda run=run, way=way: run(way))
        for way in ways
        for name, run in passes.items()
    }
    seconds = timed(functions, repeats, warmup=5 if device.type == "cuda" else 1)
    exact = scene.forward("plain")
    rows = []
    for way in ways:
        features = scene.forward(way)
        assert features.isfinite().all(), way
        row = dict(rays=f"{side}^2", batch=batch, way=way)
        for name in passes:
            function = functions[f"{way}, {name}"]
            row[f"{name}, ms"] = quartiles(seconds[f"{way}, {name}"])["median"] * 1e3
            row[f"{name}, MB"] = peak_megabytes(function, device)
        rows.append(row | dict(difference=f"{(features - exact).abs().max().item():.1e}"))
    return rows, seconds


@click.command()
@click.option(
    "--field", "kind", default="usual", type=click.Choice(list(FIELDS)), show_default=True
)
@click.option("--sides", default="64,128,256", help="Rays a side.", show_default=True)
@click.option("--batch", default=1, type=click.IntRange(min=1), show_default=True)
@click.option("--repeats", default=20, type=click.IntRange(min=2), show_default=True)
@click.option("--json", "path", help="Also write all measurements to this file.")
def main(kind: str, sides: str, batch: int, repeats: int, path: str | None):
    """Measures all ways in turns."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    problem = why_not_triton()
    able = device.type == "cuda" and not problem
    ways = [way for way in WAYS if able or WAYS[way][0] == "torch"]
    if device.type == "cpu":
        ways.remove("plain tf32")  # a CPU has no such products
    about = machine()
    about["device"] = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    rows, seconds = [], {}
    for side in map(int, sides.split(",")):
        more, seconds[side] = measure(kind, side, batch, device, ways, repeats)
        rows += more
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    if problem and device.type == "cuda":
        click.echo(f"plain operators only: Triton {problem}")
    click.echo(table(rows))
    if path:
        write_json(path, device=about["device"], rows=rows, seconds=seconds)


if __name__ == "__main__":
    main()
