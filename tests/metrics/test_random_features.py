"""randconv112: its definition, and that it tells bad pictures of cars from good ones."""

import numpy as np
import pytest
import torch

from dataset_preprocessing.procedural import render_car, sample_car, sample_label
from metrics.frechet import frechet_distance
from metrics.random_features import RandomConvFeatures

features = RandomConvFeatures()


def draw(numbers, is_wanted=lambda car: True):
    """Pictures uint8 [n, 3, 32, 32] of the wanted among the cars of these numbers."""
    views = ((sample_car(random_of(i, 0)), sample_label(random_of(i, 1))) for i in numbers)
    pictures = [render_car(car, label, 32, 1).image for car, label in views if is_wanted(car)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def random_of(index, stream):
    return np.random.default_rng([0, stream, index])


def is_red(car):
    red, green, blue = car.paint
    return red > 1.5 * max(green, blue)


def distance(a, b):
    return frechet_distance(features.statistics(a.split(100)), features.statistics(b.split(100)))


@pytest.fixture(scope="module")
def halves():
    """Two disjoint halves of a set of real pictures."""
    return draw(range(500)), draw(range(500, 1000))


def gradient():
    ramp = torch.arange(32, dtype=torch.uint8) * 8
    return torch.stack([ramp.expand(32, 32), ramp.expand(32, 32).T, ramp.flip(0).expand(32, 32)])


def test_features_are_means_of_convolutions(assert_scaled):
    """Against loops over the pixels of a small picture: the definition, with weights drawn anew."""
    image = torch.randint(0, 256, [3, 18, 20], dtype=torch.uint8)
    x, random, expected = image.double().numpy() / 127.5 - 1, np.random.RandomState(0), []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        weight = random.randn(outputs, inputs, 3, 3) * (2 / (9 * inputs)) ** 0.5
        height, width = x.shape[1] - 2, x.shape[2] - 2
        y = np.empty([outputs, height, width])
        for i in range(height):
            for j in range(width):
                y[:, i, j] = (weight * x[:, i : i + 3, j : j + 3]).sum((1, 2, 3))
        y = np.where(y > 0, y, 0.2 * y)
        expected += [channel.sum() / channel.size for channel in y]
        height, width = height // 2 * 2, width // 2 * 2
        y = y[:, :height, :width]
        x = (y[:, ::2, ::2] + y[:, 1::2, ::2] + y[:, ::2, 1::2] + y[:, 1::2, 1::2]) / 4
    assert_scaled(features(image[None])[0], expected, tol=1e-5)


def test_features_stay_what_they_were():
    """Recorded, so that scores of different days can be compared."""
    found = features(gradient()[None])[0]
    assert found.shape == (features.size,) and features.name == "randconv112"
    recorded = [0.445398, 0.281539, 0.027178, 0.712316, 0.572881, 0.037637]
    np.testing.assert_allclose(found[[0, 15, 16, 47, 48, 111]], recorded, rtol=1e-4)


def test_grey_pictures_are_those_with_three_equal_channels():
    grey = torch.randint(0, 256, [2, 1, 24, 24], dtype=torch.uint8)
    torch.testing.assert_close(features(grey), features(grey.repeat(1, 3, 1, 1)))


def blurred(pictures):
    """Averages of 3 x 3 pixels."""
    padded = torch.nn.functional.pad(pictures.float(), (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, 3, stride=1).round().to(torch.uint8)


@pytest.mark.parametrize(
    "damage, times",
    [
        (lambda x: torch.randint_like(x, 256), 100),
        (blurred, 3),
        (lambda x: x[:12].repeat(40, 1, 1, 1), 10),  # few cars again and again
        (lambda x: x.float().mean(1, keepdim=True).to(torch.uint8), 10),  # no colours
        (lambda x: x.float().mean(0, keepdim=True).to(torch.uint8), 50),  # one average
    ],
    ids=["noise", "blur", "few cars", "grey", "average"],
)
def test_bad_pictures_are_farther_than_other_real_ones(halves, damage, times):
    floor = distance(*halves)
    assert distance(damage(halves[0]), halves[1]) > times * floor


def test_cars_of_one_colour_are_farther_than_as_many_of_all_colours(halves):
    red = draw(range(1500), is_red)
    assert len(red) > 100
    floor = distance(halves[0][: len(red)], halves[1])
    assert distance(red, halves[1]) > 10 * floor


@pytest.mark.parametrize(
    "pictures",
    [
        torch.zeros(1, 3, 32, 32),
        torch.zeros(3, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 2, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 3, 32, 17, dtype=torch.uint8),
    ],
)
def test_bad_input_is_named(pictures):
    with pytest.raises(ValueError, match=r"must be torch.uint8 \[n, 1 or 3, H, W\] of at least 18"):
        features(pictures)
