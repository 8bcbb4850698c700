"""Fixtures of the network tests: published configurations, and weights made from their names."""

import zlib

import numpy as np
import pytest
import torch

from training.dual_discriminator import DualDiscriminator
from training.triplane import TriPlaneGenerator

FACES = dict(ray_start=2.25, ray_end=3.3, box_warp=1, c_gen_conditioning_zero=False)
CARS = dict(ray_start=0.1, ray_end=2.6, box_warp=1.6, c_gen_conditioning_zero=True, white_back=True)
# name: (resolution, super-resolution, samples a ray, other rendering options)
CONFIGURATIONS = {
    "ffhq512": (512, "8XDC", 48, FACES),
    "afhq512": (512, "8XDC", 48, FACES),
    "256": (256, "4X", 48, FACES),
    "shapenet128": (128, "2X", 64, CARS),
}


def rendering_options(resolution, superresolution, samples, **others):
    """The rendering_kwargs of a training run."""
    options = dict(
        image_resolution=resolution,
        disparity_space_sampling=False,
        clamp_mode="softplus",
        superresolution_module=f"training.superresolution.Superresolution{superresolution}",
        c_scale=1,
        superresolution_noise_mode="none",
        density_reg=0.25,
        density_reg_p_dist=0.004,
        reg_type="l1",
        decoder_lr_mul=1,
        sr_antialias=True,
        depth_resolution=samples,
        depth_resolution_importance=samples,
    )
    return {**options, **others}


@pytest.fixture(scope="session")
def published_generator():
    """`published_generator(name)` -> a new generator of a published configuration, seed 0."""

    def build(name):
        resolution, superresolution, samples, others = CONFIGURATIONS[name]
        widths = dict(channel_base=32768, channel_max=512, fused_modconv_default="inference_only")
        torch.manual_seed(0)
        return TriPlaneGenerator(
            z_dim=512,
            c_dim=25,
            w_dim=512,
            img_resolution=resolution,
            img_channels=3,
            sr_num_fp16_res=4,
            mapping_kwargs=dict(num_layers=2),
            rendering_kwargs=rendering_options(
                resolution, f"Hybrid{superresolution}", samples, **others
            ),
            sr_kwargs=widths,
            num_fp16_res=0,
            conv_clamp=None,
            **widths,
        )

    return build


@pytest.fixture(scope="session")
def published_discriminator():
    """`published_discriminator(name)` -> a new discriminator of that configuration, seed 0."""

    def build(name):
        torch.manual_seed(0)
        return DualDiscriminator(
            c_dim=25,
            img_resolution=CONFIGURATIONS[name][0],
            img_channels=3,
            channel_base=32768,
            channel_max=512,
            num_fp16_res=4,
            conv_clamp=256,
            disc_c_noise=0,
            block_kwargs=dict(freeze_layers=0),
            mapping_kwargs={},
            epilogue_kwargs=dict(mbstd_group_size=4),
        )

    return build


@pytest.fixture
def small_generator():
    """`small_generator(**rendering options)` -> a quick generator of 64 x 64 pictures."""

    def build(superresolution="", resolution=64, arguments=None, **others):
        rendering = rendering_options(resolution, superresolution, 4, **{**FACES, **others})
        sizes = dict(z_dim=8, c_dim=25, w_dim=16, img_resolution=resolution, img_channels=3)
        widths = dict(channel_base=256, channel_max=8, num_fp16_res=0, conv_clamp=None)
        options = dict(
            mapping_kwargs=dict(num_layers=2),
            rendering_kwargs=rendering,
            plane_resolution=32,
            sr_kwargs={} if superresolution else dict(widths=(8, 4)),
        )
        generator = TriPlaneGenerator(**{**sizes, **widths, **options, **(arguments or {})})
        return generator.eval().requires_grad_(False)

    return build


@pytest.fixture(scope="session")
def fill_by_name():
    """`fill_by_name(module)` gives every tensor numbers that depend on its name alone."""

    def numbers(name, shape):
        draws = np.random.RandomState(zlib.crc32(name.encode())).randn(int(np.prod(shape)))
        values = torch.from_numpy(draws.astype(np.float32)).reshape(shape)
        kind = name.rsplit(".", 1)[-1]
        in_mapping = "mapping.fc" in name
        if kind == "weight":
            return values * 100 if in_mapping else values
        if kind == "bias":
            return values * 10 if in_mapping else 0.1 * values + (".affine." in name)
        if kind in ("noise_strength", "w_avg"):
            return 0.1 * values
        assert kind in ("noise_const", "const"), name
        return values

    def fill(module):
        for name, tensor in module.state_dict().items():
            if not name.endswith("resample_filter"):
                tensor.copy_(numbers(name, tuple(tensor.shape)))
        return module.eval().requires_grad_(False)

    return fill


@pytest.fixture(scope="session")
def camera_labels():
    """`camera_labels(n)` -> labels [n, 25] of cameras turned by 0.3 i - 0.2 around the y axis."""

    def make(count):
        labels = []
        for i in range(count):
            s, c = np.sin(0.3 * i - 0.2), np.cos(0.3 * i - 0.2)
            rotation = np.array([[c, 0, -s], [0, -1, 0], [-s, 0, -c]])
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = rotation, -2.7 * rotation[:, 2]
            lens = [4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]
            labels.append(np.concatenate([pose.flatten(), lens]))
        return torch.from_numpy(np.stack(labels).astype(np.float32))

    return make


@pytest.fixture(scope="session")
def normal_numbers():
    """`normal_numbers(seed, *shape)` -> float32 numbers of numpy's RandomState(seed).randn."""

    def make(seed, *shape):
        return torch.from_numpy(np.random.RandomState(seed).randn(*shape).astype(np.float32))

    return make


@pytest.fixture(scope="session")
def assert_summary():
    """`assert_summary(tensor, [mean, deviation, first three, last])` of recorded numbers."""

    def check(tensor, expected, tolerance=5e-6):
        # Recorded to six decimals; 3e-6 is left for the order of summation.
        flat = tensor.detach().flatten().double()
        ends = [*flat[:3].tolist(), flat[-1].item()]
        actual = [flat.mean().item(), flat.std(unbiased=False).item(), *ends]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)

    return check


@pytest.fixture(scope="session")
def assert_layout():
    """`assert_layout(module, layout, counts)`: names, shapes, dtypes and kinds of all tensors.

    counts: tensors, parameters, numbers in them, buffers, numbers in them.
    """

    def check(module, layout, counts):
        parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        found = {
            name: dict(
                shape=list(tensor.shape),
                dtype=str(tensor.dtype).removeprefix("torch."),
                kind="param" if name in parameters else "buffer",
            )
            for name, tensor in module.state_dict().items()
        }
        if layout is not None:
            assert found == layout
        sizes = [sum(t.numel() for t in group.values()) for group in (parameters, buffers)]
        assert (len(found), len(parameters), sizes[0], len(buffers), sizes[1]) == counts

    return check
