"""The unconditional discriminator of patches: recorded numbers."""

import pytest
import torch

from torch_utils.ops import conv2d_gradfix
from training.dual_discriminator import DualDiscriminator, SingleDiscriminator


@pytest.fixture
def recorded(conformance):
    return conformance("mimic3d/discriminator_patch")


@pytest.fixture
def D_patch(recorded, state_of):
    D = SingleDiscriminator(
        c_dim=0, img_resolution=32, img_channels=3, channel_base=256, channel_max=16
    )
    D.load_state_dict(state_of(recorded))
    return D.eval()


def test_logits_features_and_gradients_are_the_recorded_ones(recorded, D_patch, assert_scaled):
    x = recorded["x"].requires_grad_(True)
    logits, features = D_patch({"image": x}, None, return_features=True)
    assert_scaled(logits.detach(), recorded["logits"])
    assert len(features) == 3
    for i, feature in enumerate(features):
        assert_scaled(feature.detach(), recorded[f"feature{i}"])

    with conv2d_gradfix.no_weight_gradients():
        (grad,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    assert_scaled(grad.detach(), recorded["grad_x"])
    penalty = grad.square().sum(dim=(1, 2, 3))
    assert_scaled(penalty.detach(), recorded["r1"])
    penalty.mean().backward()
    checked = 0
    for key, expected in recorded.items():
        if key.startswith("gradr1/"):
            assert_scaled(D_patch.get_parameter(key.removeprefix("gradr1/")).grad, expected)
            checked += 1
    assert checked == 4


def test_features_are_returned_on_request_only_and_do_not_change_logits(recorded, D_patch):
    images = {"image": recorded["x"]}
    logits, _ = D_patch(images, None, return_features=True)
    assert torch.equal(D_patch(images, None), logits)


def test_a_dual_discriminator_returns_features_too(recorded):
    D = DualDiscriminator(
        c_dim=0, img_resolution=32, img_channels=3, channel_base=256, channel_max=16
    )
    images = {"image": recorded["x"], "image_raw": recorded["x"]}
    _, features = D(images, None, return_features=True)
    assert [feature.shape[-1] for feature in features] == [16, 8, 4]


def test_its_size_is_the_published_one():
    with torch.device("meta"):
        D = SingleDiscriminator(c_dim=0, img_resolution=64, img_channels=3)
    assert sum(p.numel() for p in D.parameters()) == 26_488_833
