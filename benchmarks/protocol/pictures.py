"""B1, B2: pictures of FFHQ-512's generator, and its modules and the discriminator one by one."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.generator_cpu import face_camera
from benchmarks.protocol.clock import Work
from benchmarks.protocol.measuring import Case, Protocol
from benchmarks.protocol.ways import GRAPH, KERNELS, PLAIN, Way
from training.triplane import TriPlaneGenerator
from training.volumetric_rendering.draws import FixedDraws

EXACT = (Way(PLAIN, "float32"), Way(PLAIN, "bf16"))
SHIPPED = (Way(PLAIN, "half"), Way(KERNELS, "half"), Way(KERNELS, "half + tf32"))
GRAPHS = (Way(GRAPH, "half + tf32"),)

# Milliseconds of a picture of given planes, batch 1, by the side of the rendering: what arithmetic
# and memory of an H200 allow at best, and the aim.
_FRAMES = {64: (0.38, 1.0), 128: (0.74, 1.5)}
# GFLOP of a picture's parts, of the renderer by its side.
_PARTS = {"backbone": 93.7, "super-resolution": 197.6, 64: 3.3, 128: 13.2}
# Seconds of the published design on two CPU cores.
_REFERENCE = {
    "backbone": 0.70,
    "renderer 64^2": 0.51,
    "renderer 128^2": 2.55,
    "super-resolution": 2.4,
}


def sides(protocol: Protocol) -> tuple[int, ...]:
    """Of the volume rendering."""
    return (64, 128) if protocol.full else (8,)


def picture(
    G: TriPlaneGenerator, way: Way, side: int, batch: int, given: bool, device: torch.device
) -> Work:
    """Pictures of latents, or of planes that are there, from the front."""
    c = face_camera().to(device).expand(batch, -1)
    options = way.network_options

    def shade(planes: Tensor, ws: Tensor) -> Tensor:
        return G.render(planes, ws, c, side, FixedDraws(), **options)["image"]

    def whole(z: Tensor) -> Tensor:
        ws = G.mapping(z, c)
        return shade(G.planes(ws, noise_mode="const", **options), ws)

    inputs = partial(scene, G, batch) if given else lambda: (noise(batch, G.z_dim, like=c),)
    call = way.repeated(shade if given else whole, device)
    return without_gradients(lambda tensors: call(*tensors), inputs)


def without_gradients(run: Callable, fresh: Callable) -> Work:
    """Work of inference."""
    return Work(torch.no_grad()(run), torch.no_grad()(fresh))


def noise(*shape: int, like: Tensor) -> Tensor:
    """Normal numbers on the same device."""
    return torch.randn(shape, device=like.device)


def scene(G: TriPlaneGenerator, batch: int) -> tuple[Tensor, Tensor]:
    """Planes and ws of noise, which take as long as those of a face."""
    weight, extent = next(G.parameters()), G.backbone.synthesis.img_resolution
    planes = noise(batch, 3, 32, extent, extent, like=weight)
    return planes, noise(batch, G.backbone.num_ws, G.w_dim, like=weight)


def b1(protocol: Protocol) -> None:
    """A picture: mapping, backbone, rendering, super-resolution; and one of planes given."""
    G, _ = protocol.inputs.networks(protocol.device)
    if protocol.full and not protocol.on_gpu:
        protocol.leave_out("batches of 8 and 32", "seconds a picture on a CPU; see batch 1")
    ways = protocol.able(*EXACT, *SHIPPED, *GRAPHS)
    for given in (True, False):
        for side in sides(protocol):
            for batch in (1, 8, 32) if protocol.on_gpu else (1,):
                aims = _FRAMES.get(side) if given and protocol.on_gpu and batch == 1 else None
                floor, target = aims or (None, None)
                for way in ways:
                    case = Case(
                        f"{'planes given' if given else 'picture'} {side}^2",
                        way,
                        partial(picture, G, way, side, batch, given, protocol.device),
                        batch,
                        flop=_flop(side, given) * batch if protocol.full else None,
                        floor=floor,
                        target=target,
                    )
                    protocol.measure(case)


def _flop(side: int, given: bool) -> float:
    return 1e9 * (_PARTS[side] + _PARTS["super-resolution"] + (not given) * _PARTS["backbone"])


def modules(protocol: Protocol, way: Way, batch: int) -> dict[str, Callable[[], Work]]:
    """Forward passes by name."""
    G, D = protocol.inputs.networks(protocol.device)
    options, c = way.network_options, face_camera().to(protocol.device).expand(batch, -1)

    def latents() -> Tensor:
        return noise(batch, G.backbone.num_ws, G.w_dim, like=c)

    def backbone() -> Work:
        return without_gradients(lambda ws: G.planes(ws, noise_mode="const", **options), latents)

    def renderer(side: int) -> Work:
        pose, lens = c[:, :16].unflatten(1, (4, 4)), c[:, 16:].unflatten(1, (3, 3))
        rays = G.ray_sampler(pose, lens, side)
        return without_gradients(
            lambda tensors: G.march(tensors[0], *rays, draws=FixedDraws()), partial(scene, G, batch)
        )

    def superresolution() -> Work:
        side = sides(protocol)[-1]

        def run(tensors):
            features, raw, ws = tensors
            return G.superresolution(raw, features, ws, noise_mode="none", **options)

        def fresh():
            features = noise(batch, 32, side, side, like=c)
            return features, features[:, :3].clone(), latents()

        return without_gradients(run, fresh)

    def discriminator() -> Work:
        def pictures() -> dict[str, Tensor]:
            sizes = dict(image=G.img_resolution, image_raw=sides(protocol)[0])
            return {name: noise(batch, 3, s, s, like=c) for name, s in sizes.items()}

        return without_gradients(lambda images: D(images, c, **options), pictures)

    return {
        "backbone": backbone,
        **{f"renderer {side}^2": partial(renderer, side) for side in sides(protocol)},
        "super-resolution": superresolution,
        "discriminator": discriminator,
    }


def b2(protocol: Protocol) -> None:
    """Modules, with the arithmetic and the traffic that they achieve."""
    batch = 8 if protocol.on_gpu else 1
    for way in protocol.able(*EXACT, *SHIPPED):
        for name, prepare in modules(protocol, way, batch).items():
            reference = None if protocol.quick or protocol.on_gpu else _REFERENCE.get(name)
            note = f"published design on two cores: {1e3 * reference:.0f}" if reference else ""
            protocol.measure(Case(name, way, prepare, batch, count=True, note=note))
