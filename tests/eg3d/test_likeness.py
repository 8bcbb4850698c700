"""Distances of pictures against sums by hand, and networks that offer each way of seeing."""

import pickle

import pytest
import torch
import torch.nn.functional as F

from eg3d.errors import InputError
from eg3d.likeness import Likeness, load_perceptual
from tests.metrics.tiny_detectors import write_inception, write_plain, write_script


class TinyVgg(torch.nn.Module):
    """Called as the published VGG16."""

    def forward(
        self,
        images: torch.Tensor,
        resize_images: bool = True,
        return_features: bool = False,
        return_lpips: bool = False,
    ) -> torch.Tensor:
        if resize_images or return_features or not return_lpips:
            raise RuntimeError("asked for other features")
        return images.flatten(1)[:, :5] / 100


class TinyLpips(torch.nn.Module):
    """Called as LPIPS; not symmetric, to tell its arguments apart."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - 2 * second).abs().mean((1, 2, 3), keepdim=True)


class Stepwise(torch.nn.Module):
    """Sees whole numbers only, so that it has no gradient."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(torch.uint8).to(torch.float32).mean((2, 3))


class Refusing(torch.nn.Module):
    """Takes no picture."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("pictures of another size")
        return images


def seen(path, target, image):
    return Likeness(target, load_perceptual(path, target.shape[2])).terms(image)["perceptual"]


def pair(side=32):
    return torch.rand(2, 1, 3, side, side).mul(2).sub(1).unbind(0)


def test_squared_difference_and_psnr():
    target = torch.rand(1, 3, 8, 8) - 0.5
    likeness = Likeness(target)
    terms = likeness.terms(target + 0.2)
    assert list(terms) == ["l2"] and terms["l2"].item() == pytest.approx(0.04)
    assert likeness.psnr(target + 0.2) == pytest.approx(20)  # an error of a tenth of the range
    assert likeness.psnr(target) > 100
    white = Likeness(torch.ones(1, 3, 8, 8))
    assert white.psnr(torch.full((1, 3, 8, 8), 1.5)) > 100  # what is shown is white


def test_lpips_features_of_the_published_network(tmp_path):
    target, image = pair()
    expected = ((image - target).flatten()[:5] * 1.275).square().sum()
    found = seen(write_script(tmp_path / "vgg16.pt", TinyVgg()), target, image)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_distance_of_two_pictures(tmp_path):
    target, image = pair()
    found = seen(write_script(tmp_path / "lpips.pt", TinyLpips()), target, image)
    assert found.item() == pytest.approx((image - 2 * target).abs().mean().item(), rel=1e-5)


def test_features_relative_to_the_target(tmp_path):
    target, image = pair()
    features = [
        torch.cat([x.mean((2, 3)), x[:, :, :16].mean((2, 3))], 1) * 0.5 + 0.5
        for x in (target, image)
    ]
    expected = (features[1] - features[0]).square().sum() / features[0].square().sum()
    found = seen(write_plain(tmp_path / "plain.pt"), target, image)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    # One that has features beside other results is asked for them: 12, where classes are 7.
    assert 0 < seen(write_inception(tmp_path / "inception.pt"), target, image) < 1


def test_large_pictures_are_averaged(tmp_path):
    target, image = pair(512)
    path = write_script(tmp_path / "lpips.pt", TinyLpips())
    small = [F.avg_pool2d(x, 2) for x in (target, image)]
    expected = (small[1] - 2 * small[0]).abs().mean()
    assert seen(path, target, image).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_reaches_the_picture(tmp_path):
    target, image = pair()
    image.requires_grad_()
    seen(write_plain(tmp_path / "plain.pt"), target, image).backward()
    assert image.grad.abs().min() > 0


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("step.pt", Stepwise(), "gradient"),
        ("no.pt", Refusing(), "another size"),
        ("x.pt", b"nonsense", "TorchScript"),
        ("vgg16.pkl", pickle.dumps({}), "pickle"),
        ("none.pt", None, "none.pt"),
    ],
)
def test_unusable_networks_are_named(tmp_path, name, content, words):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        write_script(path, content)
    with pytest.raises(InputError, match=words) as error:
        load_perceptual(str(path), 32)
    assert str(error.value).startswith("perceptual network") and "\n" not in str(error.value)


def test_what_is_no_file_of_torchscript_is_refused():
    with pytest.raises(InputError, match="randconv112: must be a TorchScript file"):
        load_perceptual("randconv112", 32)
