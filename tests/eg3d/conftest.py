"""A generator so small that it renders in milliseconds, and a snapshot of it."""

import pytest
import torch

from training.snapshots import save_snapshot
from training.triplane import TriPlaneGenerator

RENDERING = dict(
    superresolution_module="training.superresolution.Superresolution",
    superresolution_noise_mode="none",
    sr_antialias=True,
    c_gen_conditioning_zero=False,
    c_scale=1,
    decoder_lr_mul=1,
    clamp_mode="softplus",
    disparity_space_sampling=False,
    depth_resolution=6,
    depth_resolution_importance=6,
    ray_start=2.25,
    ray_end=3.3,
    box_warp=1,
    avg_camera_radius=2.7,
    avg_camera_pivot=[0, 0, 0.2],
)


def make_generator(seed=0, classes=0, **rendering):
    """A generator of 64 x 64 pictures that were rendered at 16 x 16, of some classes; options go to
    the renderer."""
    torch.manual_seed(seed)
    G = TriPlaneGenerator(
        z_dim=16,
        c_dim=25 + classes,
        w_dim=16,
        img_resolution=64,
        img_channels=3,
        mapping_kwargs=dict(num_layers=2),
        rendering_kwargs={**RENDERING, **rendering},
        sr_kwargs=dict(widths=[8, 8], input_resolution=16),
        plane_resolution=16,
        channel_base=128,
        channel_max=16,
    )
    G.neural_rendering_resolution = 16
    with torch.no_grad():
        G.backbone.mapping.w_avg.normal_()
        G.decoder.net[2].bias[0] = 2  # dense enough to be seen
    return G.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def generator():
    """The generator that is G_ema of the snapshot; not to be changed."""
    return make_generator()


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory, generator):
    """Path of a snapshot with G, G_ema and a module that is no generator as D."""
    path = tmp_path_factory.mktemp("snapshot") / "tiny.pkl"
    D = torch.nn.Linear(2, 2)
    save_snapshot(path, {}, G=make_generator(seed=1), D=D, G_ema=generator)
    return path


@pytest.fixture(scope="session")
def classed_snapshot(tmp_path_factory):
    """Path of a snapshot with a G_ema of three classes."""
    path = tmp_path_factory.mktemp("classes") / "tiny.pkl"
    G = make_generator(classes=3)
    save_snapshot(path, {}, G=G, D=torch.nn.Linear(2, 2), G_ema=G)
    return path


@pytest.fixture(scope="session")
def new_generator():
    """`new_generator(seed=0, classes=0, **rendering options)` -> a generator of your own."""
    return make_generator
