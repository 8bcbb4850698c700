"""Networks so small that tests make, write and read them in milliseconds, and what they output."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from training.dual_discriminator import DualDiscriminator
from training.triplane import TriPlaneGenerator
from training.volumetric_rendering.draws import FixedDraws

_RENDERING = dict(
    disparity_space_sampling=False,
    clamp_mode="softplus",
    superresolution_module="training.superresolution.Superresolution",
    c_gen_conditioning_zero=False,
    c_scale=1,
    superresolution_noise_mode="none",
    decoder_lr_mul=1,
    sr_antialias=True,
    depth_resolution=6,
    depth_resolution_importance=6,
    ray_start=2.25,
    ray_end=3.3,
    box_warp=1,
    avg_camera_radius=2.7,
    avg_camera_pivot=[0, 0, 0.2],
)


def tiny_generator(seed: int = 0, classes: int = 0) -> TriPlaneGenerator:
    """32 x 32 pictures, rendered at 8 x 8 where the constructor would say 64 x 64; of some classes.

    The live options differ from those that the constructor was given, as in trained networks.
    """
    torch.manual_seed(seed)
    G = TriPlaneGenerator(
        z_dim=8,
        c_dim=25 + classes,
        w_dim=8,
        img_resolution=32,
        img_channels=3,
        mapping_kwargs=dict(num_layers=2),
        rendering_kwargs=dict(_RENDERING),
        sr_kwargs=dict(widths=[8, 8], input_resolution=16),
        plane_resolution=8,
        channel_base=128,
        channel_max=8,
    )
    G.register_buffer("dataset_label_std", torch.rand(25 + classes))
    G.neural_rendering_resolution = 8
    G.rendering_kwargs["depth_resolution"] = 7
    randomize(G)
    return G.eval().requires_grad_(False)


def tiny_discriminator(seed: int = 0) -> DualDiscriminator:
    """For pictures of 32 x 32."""
    torch.manual_seed(seed)
    D = DualDiscriminator(
        c_dim=25,
        img_resolution=32,
        img_channels=3,
        channel_base=128,
        channel_max=8,
        mapping_kwargs=dict(num_layers=1),
        epilogue_kwargs=dict(mbstd_group_size=2),
    )
    randomize(D)
    return D.eval().requires_grad_(False)


def randomize(module: torch.nn.Module) -> None:
    """Gives what starts at zero random values, so that the output depends on all of it."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.rpartition(".")[2] in ("bias", "noise_strength", "w_avg"):
                tensor.add_(torch.randn_like(tensor), alpha=0.3)
        if hasattr(module, "decoder"):
            module.decoder.net[2].bias[0] = 2  # dense enough to be seen


def outputs(networks: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """What `G_ema`, and `D` where there is one, make of fixed latents and cameras: {name: array}.

    From NumPy's generator, whose numbers stay the same from version to version.
    """
    random = np.random.RandomState(seed)
    G = networks["G_ema"]
    z = torch.from_numpy(random.randn(2, G.z_dim).astype(np.float32))
    c = torch.tensor(
        [[1.0, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2, 0, 0.5, 0, 4.2, 0.5, 0, 0, 1]]
    ).repeat(2, 1)
    c[1, 3] = 0.2
    with torch.no_grad():
        results = G(z, c, noise_mode="const", draws=FixedDraws())
        results = {name: results[name] for name in ("image", "image_raw", "image_depth")}
        if networks.get("D") is not None:
            results["logits"] = networks["D"](results, c)
    return {name: value.numpy() for name, value in results.items()}
