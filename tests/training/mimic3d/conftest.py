"""The small model that all recorded numbers of Mimic3D are of."""

import pytest
import torch

from training.mimic3d.generator import DualTriPlaneGenerator

RENDERING = dict(
    image_resolution=128,
    disparity_space_sampling=False,
    clamp_mode="softplus",
    superresolution_module="training.superresolution.SuperresolutionHybrid2X",
    c_gen_conditioning_zero=False,
    c_scale=1.0,
    superresolution_noise_mode="none",
    density_reg=0.25,
    density_reg_p_dist=0.002,
    reg_type="l1",
    decoder_lr_mul=1.0,
    sr_antialias=True,
    depth_resolution=10,
    depth_resolution_importance=10,
    ray_start=2.25,
    ray_end=3.3,
    box_warp=1,
    avg_camera_radius=2.7,
    avg_camera_pivot=[0, 0, 0.2],
    plane_axes="cyclic",
)
ARGUMENTS = dict(
    z_dim=32,
    c_dim=25,
    w_dim=512,
    img_resolution=128,
    img_channels=3,
    plane_resolution=16,
    mapping_kwargs=dict(num_layers=2),
    channel_base=128,
    channel_max=16,
    num_fp16_res=0,
)


@pytest.fixture
def recorded(conformance):
    """The recorded numbers of the generator."""
    return conformance("mimic3d/generator")


@pytest.fixture
def generator(recorded, state_of):
    """The generator with the recorded weights, in evaluation mode."""
    G = DualTriPlaneGenerator(**ARGUMENTS, rendering_kwargs=dict(RENDERING))
    G.load_state_dict(state_of(recorded))
    return G.eval().requires_grad_(False)


def random_generator() -> DualTriPlaneGenerator:
    """A generator of the same sizes with random weights."""
    torch.manual_seed(0)
    G = DualTriPlaneGenerator(**ARGUMENTS, rendering_kwargs=dict(RENDERING))
    return G.eval().requires_grad_(False)
