"""Volumes against looking up every point, and against fields that are known."""

import math

import numpy as np
import pytest
import torch

import eg3d
from eg3d.errors import InputError
from eg3d.scene import Scene
from eg3d.volume import EMPTY, PUBLISHED_BORDER, Volume, density_volume
from training.triplane import OSGDecoder
from training.volumetric_rendering.planes import generate_planes
from training.volumetric_rendering.renderer import TriPlaneField


def random_scene(generator, side=16, count=1, seed=3):
    """A scene of random planes whose density varies."""
    random = torch.Generator().manual_seed(seed)
    planes = 3 * torch.randn(count, 3, 32, side, side, generator=random)
    return Scene(planes, torch.zeros(count, 1, 16), generator)


def grid(resolution, side):
    """World points [R, R, R, 3], x slowest, one by one in double precision."""
    ticks = [i * side / (resolution - 1) - side / 2 for i in range(resolution)]
    return torch.tensor([[[[x, y, z] for z in ticks] for y in ticks] for x in ticks])


@pytest.mark.parametrize("axes", ["legacy", "orthogonal"])
def test_density_is_that_of_the_points(new_generator, axes):
    """Every voxel is where it says it is: no shear, faces included, in a box that is not of 1."""
    scene = random_scene(new_generator(plane_axes=axes, box_warp=1.6))
    volume = scene.volume(9, border=0)
    expected = scene.density(grid(9, 1.6).flatten(0, 2)[None]).view(9, 9, 9).numpy()
    assert expected.std() > 0.3
    assert np.abs(volume.density - expected).max() < 2e-5
    assert volume.density.dtype == np.float32
    last = np.array(volume.origin) + 8 * volume.spacing
    assert volume.origin == (-0.8, -0.8, -0.8) and last == pytest.approx([0.8] * 3)


@pytest.mark.parametrize("axes", ["legacy", "orthogonal"])
def test_density_without_the_tables_in_double_precision(new_generator, axes):
    """The tables lose no more to rounding than single precision does."""
    G = new_generator(plane_axes=axes)
    G.decoder.double()
    scene = random_scene(G)
    exact = Scene(scene.planes.double(), scene.ws, G)
    exact = density_volume(exact.field, 20, border=0, plain=True).density
    G.decoder.float()
    for plain in (False, True):
        error = density_volume(scene.field, 20, border=0, plain=plain).density - exact
        assert np.abs(error).max() < 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("scale", [1, 40, 3000])
def test_hidden_layers_whose_exponentials_overflow(new_generator, scale):
    scene = random_scene(new_generator())
    scene = Scene(scene.planes * scale, scene.ws, scene.generator)
    plain = density_volume(scene.field, 12, border=0, plain=True).density
    assert np.isfinite(plain).all() and plain.std() > 0.3
    error = np.abs(density_volume(scene.field, 12, border=0).density - plain)
    assert error.max() < 1e-5 * np.abs(plain).max()


class LeakyDecoder(torch.nn.Module):
    """Leaky ReLU with gain sqrt 2 between two layers."""

    averages_planes = True
    hidden_activation = "lrelu"

    def __init__(self):
        super().__init__()
        shapes = [(24, 5), (24,), (4, 24), (4,)]
        self.layers = torch.nn.ParameterList(torch.randn(shape) for shape in shapes)

    def two_layers(self):
        return tuple(self.layers)

    def forward(self, features, directions=None):
        w1, b1, w2, b2 = self.layers
        hidden = torch.nn.functional.leaky_relu(features[:, 0] @ w1.T + b1, 0.2) * 2**0.5
        return {"sigma": (hidden @ w2.T + b2)[..., :1]}


@pytest.mark.parametrize("axes", ["legacy", "cyclic", "xy_xz_yz"])
@pytest.mark.parametrize("sides", [(8,), (6, 9)], ids=["one set", "two sets"])
def test_leaky_relu_and_sets_of_planes(axes, sides, monkeypatch):
    """By tables as by points, also where texels' centres lie on the faces of the box."""
    sets = [torch.randn(1, 3, 5, side, side) for side in sides]
    for aligned in (False, True):
        field = TriPlaneField(
            sets, LeakyDecoder(), generate_planes(axes), 1.3, align_corners=aligned
        )
        plain = density_volume(field, 9, plain=True)
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(TriPlaneField, "__call__", None)  # no point is asked for
            tables = density_volume(field, 9)
        assert plain.density.std() > 0.3
        assert np.abs(tables.density - plain.density).max() < 2e-5
        assert tables.origin == (-0.65,) * 3


def test_sets_of_planes_with_softplus(new_generator):
    """The generator's own decoder, on the sum of two sets."""
    G = new_generator()
    sets = [3 * torch.randn(1, 3, 32, side, side) for side in (8, 11)]
    field = TriPlaneField(sets, G.decoder, G.renderer.plane_axes, 1)
    plain = density_volume(field, 9, plain=True).density
    assert np.abs(density_volume(field, 9).density - plain).max() < 2e-5
    one = density_volume(TriPlaneField(sets[0], G.decoder, G.renderer.plane_axes, 1), 9).density
    assert np.abs(one - plain).max() > 0.1


def test_planes_that_are_not_square(new_generator):
    """Their transposes cannot be added, but their tables can."""
    planes = torch.randn(1, 3, 32, 8, 12, generator=torch.Generator().manual_seed(0))
    scene = Scene(planes, torch.zeros(1, 1, 16), new_generator())
    plain = density_volume(scene.field, 7, border=0, plain=True)
    assert np.abs(scene.volume(7, border=0).density - plain.density).max() < 1e-5


def test_decoder_of_another_kind_is_asked_at_every_point(new_generator):
    class Other(OSGDecoder):
        def forward(self, features, directions=None):
            return {"sigma": features[:, 0, :, :1].square()}

    G = new_generator()
    G.decoder = Other(32, {"decoder_lr_mul": 1, "decoder_output_dim": 32})
    scene = random_scene(G)
    expected = scene.density(grid(5, 1.0).flatten(0, 2)[None]).view(5, 5, 5)
    assert expected.std() > 0.1
    assert torch.equal(torch.from_numpy(scene.volume(5, border=0).density), expected)


@pytest.mark.parametrize("plain", [False, True])
def test_memory_bounds_what_is_evaluated_at_once(generator, monkeypatch, plain):
    scene = random_scene(generator)
    whole = density_volume(scene.field, 24, 0, memory_mb=1000, plain=plain)
    most = [0]
    module, name = (torch.nn.functional, "softplus") if plain else (torch.Tensor, "log_")
    activation = getattr(module, name)

    def watched(hidden, *args, **kwargs):
        most[0] = max(most[0], hidden.nbytes)
        return activation(hidden, *args, **kwargs)

    monkeypatch.setattr(module, name, watched)
    parts = density_volume(scene.field, 24, 0, memory_mb=0.1, plain=plain)
    assert 0.02 * 2**20 < most[0] <= 0.05 * 2**20  # before the activation, as much after it
    assert np.abs(parts.density - whole.density).max() < 1e-5


@pytest.mark.parametrize("resolution, empty", [(2, 0), (8, 0), (9, 1), (16, 1), (64, 7)])
def test_published_border(generator, resolution, empty):
    """30 of 256 voxels at each face; none of a volume of up to 8, which they would empty."""
    assert empty == int(30 * resolution / 256)
    scene = random_scene(generator)
    whole, published = scene.volume(resolution, border=0), scene.volume(resolution)
    inside = (slice(empty, resolution - empty),) * 3
    assert np.abs(published.density[inside] - whole.density[inside]).max() < 1e-5
    outside = np.ones_like(published.density, dtype=bool)
    outside[inside] = False
    assert (published.density[outside] == EMPTY).all()
    assert outside.any() == (empty > 0)
    wide = scene.volume(resolution, border=0.49).density
    assert (wide != EMPTY).any() and PUBLISHED_BORDER == 30 / 256


def test_border_of_the_model(new_generator):
    scene = random_scene(new_generator(shape_border=0.25))
    assert (scene.volume(8).density == EMPTY).sum() == 8**3 - 4**3
    assert (scene.volume(8, border=0).density == EMPTY).sum() == 0


def test_turned_as_published(generator):
    """[x reversed, y, z] in the order of a .mrc, whose last index runs fastest and is its x."""
    volume = random_scene(generator).volume(6, border=0)
    turned = volume.turned()
    assert np.array_equal(turned.density.transpose(2, 1, 0), volume.density[::-1])
    for i, j, k in ((0, 0, 0), (1, 2, 4), (5, 3, 0)):
        x, y, z = np.array(volume.origin) + volume.spacing * np.array([i, j, k])
        there = (np.array([z, y, -x]) - turned.origin) / turned.spacing
        index = tuple(np.rint(there).astype(int))
        assert np.abs(there - index).max() < 1e-6
        assert turned.density[index] == volume.density[i, j, k]


def test_volume_that_is_no_cube_is_turned():
    density = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    turned = Volume(density, (1.0, 2.0, 3.0), 0.5).turned()
    assert turned.density.shape == (4, 3, 2) and turned.origin == (3.0, 2.0, -1.5)
    assert turned.density[3, 1, 0] == density[1, 1, 3]


@pytest.mark.parametrize(
    "options, line",
    [
        (dict(resolution=1), "resolution of a volume is 1: must be 2 or more"),
        (dict(border=0.5), "border of a volume is 0.5 of its side"),
        (dict(border=-0.1), "border of a volume is -0.1"),
        (dict(border=math.nan), "border of a volume is nan"),
        (dict(memory_mb=0), "memory for a volume is 0 MB"),
        (dict(resolution=20000), "resolution of a volume is 20000: takes 29802.3 GB of memory"),
    ],
)
def test_bad_options(generator, options, line):
    with pytest.raises(InputError, match=line):
        random_scene(generator).volume(**options)


def test_volume_is_of_one_scene(generator):
    scene = random_scene(generator, count=2)
    with pytest.raises(InputError, match=r"one scene, not 2: choose one, scene\[i\]"):
        scene.volume(4)
    first, second = (scene[i].volume(4, border=0).density for i in range(2))
    assert np.abs(first - second).max() > 0.1


def test_repeats_to_the_bit_and_leaves_no_trace(snapshot):
    model = eg3d.load(snapshot)
    scene = model.scene(0)
    before = scene.planes.clone()
    volumes = [scene.volume(16).density for _ in range(2)]
    assert np.array_equal(*volumes) and torch.equal(scene.planes, before)


@pytest.mark.gpu
def test_gpu_computes_what_the_cpu_computes(snapshot):
    on_cpu, on_gpu = (eg3d.load(snapshot, device=device) for device in ("cpu", "cuda"))
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        found = on_gpu.scene(0).volume(64).density
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    assert np.abs(found - on_cpu.scene(0).volume(64).density).max() < 1e-3
