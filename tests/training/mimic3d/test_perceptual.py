"""The perceptual distance: recorded numbers, every kind of file, and files that are none."""

import hashlib

import numpy as np
import pytest
import safetensors.torch
import torch

from training.mimic3d.perceptual import PerceptualDistance
from training.mimic3d.perceptual_file import load_distance
from training.option_checks import OptionError

TORCHVISION = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
SLICES = (1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5)


@pytest.fixture
def recorded(conformance):
    return conformance("mimic3d/lpips")


@pytest.fixture
def weights(recorded, state_of):
    """The recorded weights as pairs of convolutions, and linear ones."""
    state = state_of(recorded)
    pairs = [(state[f"conv_{i}/weight"], state[f"conv_{i}/bias"]) for i in range(13)]
    return pairs, [state[f"lin_{i}"] for i in range(5)]


def spelled(weights, convolution, linear):
    """A state dict of the weights, backwards, with names made by two functions."""
    pairs, lines = weights
    state = {}
    for i in reversed(range(13)):
        state |= {convolution(i, "weight"): pairs[i][0], convolution(i, "bias"): pairs[i][1]}
    for i in reversed(range(5)):
        name = linear(i)
        state[name] = lines[i].view(1, -1, 1, 1).clone() if "model" in name else lines[i]
    return state


def test_distance_and_gradient_are_the_recorded_ones(recorded, weights, assert_scaled):
    distance = PerceptualDistance(*weights)
    a = recorded["a"].requires_grad_(True)
    value = distance(a, recorded["b"])
    assert_scaled(value.detach(), recorded["distance"])
    levels = torch.stack(distance.per_level(a, recorded["b"])).flatten(1)
    assert_scaled(levels.detach(), recorded["per_level"])
    assert_scaled(torch.autograd.grad(value.sum(), a)[0], recorded["grad_a"])


def test_a_distance_is_symmetric_and_zero_for_equal_pictures(recorded, weights):
    distance = PerceptualDistance(*weights)
    a, b = recorded["a"], recorded["b"]
    assert torch.equal(distance(a, b), distance(b, a))
    assert torch.equal(distance(a, a), torch.zeros(3, 1, 1, 1))
    assert list(distance.parameters()) == []


def own(i, kind):
    return f"conv_{i}/{kind}"


def torchvision(i, kind):
    return f"features.{TORCHVISION[i]}.{kind}"


def sliced(i, kind):
    return f"net.slice{SLICES[i]}.{TORCHVISION[i]}.{kind}"


@pytest.mark.parametrize(
    "ending, convolution, linear",
    [
        (".npz", own, "lin_{}"),
        (".safetensors", torchvision, "lin{}.model.1.weight"),
        (".pt", sliced, "lin{}.model.1.weight"),
    ],
)
def test_weights_are_found_in_every_format_and_spelling(
    recorded, weights, tmp_path, ending, convolution, linear
):
    path = tmp_path / f"lpips{ending}"
    state = spelled(weights, convolution, linear.format)
    state["classifier.0.weight"] = torch.ones(2, 2)
    if ending == ".npz":
        np.savez(path, **state)
    elif ending == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    loaded = load_distance(str(path))
    expected = PerceptualDistance(*weights)(recorded["a"], recorded["b"])
    assert torch.equal(loaded.module(recorded["a"], recorded["b"]), expected)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_may_come_in_two_files(recorded, weights, tmp_path):
    state = spelled(weights, torchvision, "lin{}.model.1.weight".format)
    parts = {"vgg": "features", "linear": "lin"}
    for name, start in parts.items():
        part = {k: v for k, v in state.items() if k.startswith(start)}
        torch.save(part, tmp_path / f"{name}.pt")
    loaded = load_distance(f"{tmp_path}/vgg.pt,{tmp_path}/linear.pt")
    expected = PerceptualDistance(*weights)(recorded["a"], recorded["b"])
    assert torch.equal(loaded.module(recorded["a"], recorded["b"]), expected)
    assert len(loaded.sha256.split(",")) == 2


class Pair(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().amax(dim=(1, 2, 3), keepdim=True)


class Features(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :, ::2]


class OfBytes(torch.nn.Module):
    def forward(
        self, img: torch.Tensor, resize_images: bool = True, return_lpips: bool = False
    ) -> torch.Tensor:
        if resize_images or not return_lpips:
            return img[:, :, :1, :1]
        return (img / 127.5 - 1)[:, :, ::2]


@pytest.mark.parametrize("module", [Pair(), Features(), OfBytes()], ids=lambda m: type(m).__name__)
def test_torchscript_is_called_as_its_arguments_say(module, tmp_path, assert_scaled):
    path = str(tmp_path / "distance.pt")
    torch.jit.script(module).save(path)
    a, b = torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 3, 16, 16) * 2 - 1
    a.requires_grad_(True)
    difference = (a - b).detach()
    largest = difference.abs().flatten(1).amax(1)
    expected = (
        largest if isinstance(module, Pair) else difference[:, :, ::2].square().sum((1, 2, 3))
    )
    value = load_distance(path).module(a, b).flatten()
    assert_scaled(value.detach(), expected)
    assert torch.autograd.grad(value.sum(), a)[0].abs().max() > 0


def bad_files(weights, tmp_path):
    """{what a user may give: words that the message has}"""
    whole = spelled(weights, torchvision, "lin{}.model.1.weight".format)
    files = {
        "empty.pt": ({}, "found 0 and 0"),
        "vgg_alone.pt": ({k: v for k, v in whole.items() if k[0] == "f"}, "found 13 and 0"),
        "no_bias.pt": ({k: v for k, v in whole.items() if k != "features.5.bias"}, "no bias"),
        "narrow.pt": (whole | {"features.5.weight": torch.ones(6, 3, 3, 3)}, "convolution 2"),
        "other.pt": (whole | {"lin2.model.1.weight": torch.ones(1, 7, 1, 1)}, "linear weights 2"),
    }
    for name, (state, _) in files.items():
        torch.save(state, tmp_path / name)
    (tmp_path / "text.pt").write_text("no network")
    (tmp_path / "text.npz").write_text("no network")
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "line.pt"))
    texts = {name: words for name, (_, words) in files.items()}
    return texts | {
        "missing.pt": "no such file",
        "text.pt": "cannot be read",
        "text.npz": "cannot be read",
        "line.pt": "cannot compare pictures",
    }


def test_a_file_that_is_none_gives_one_line_with_its_name(weights, tmp_path):
    for name, words in bad_files(weights, tmp_path).items():
        path = str(tmp_path / name)
        with pytest.raises(OptionError, match=words) as caught:
            load_distance(path)
        assert path in str(caught.value) and "\n" not in str(caught.value)


def test_a_script_beside_another_file_is_refused(tmp_path):
    path = str(tmp_path / "pair.pt")
    torch.jit.script(Pair()).save(path)
    with pytest.raises(OptionError, match="give it alone"):
        load_distance(f"{path},{path}")


def test_a_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    from pathlib import Path

    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(OptionError, match="cannot be read"):
        load_distance(str(tmp_path / "evil.pt"))
    assert not (tmp_path / "run").exists()


def test_an_untrained_network_orders_pictures_by_what_is_left_of_them(recorded):
    distance = load_distance("random").module
    again = load_distance("random").module
    a = recorded["a"]
    blurred = [torch.nn.functional.avg_pool2d(a, side, 1, side // 2) for side in (1, 3, 9)]
    far = torch.stack([distance(a, picture).flatten() for picture in blurred])
    assert torch.equal(far, torch.stack([again(a, picture).flatten() for picture in blurred]))
    assert (far[0] == 0).all() and (far.diff(dim=0) > 0).all()
