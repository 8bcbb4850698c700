"""Generators of the published configurations: layouts, first weights, and what weights made from
their names give at full size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

LAYOUTS = Path(__file__).parents[2] / "data" / "state_dict"
COUNTS = {  # keys, parameter tensors, parameters, buffers, numbers in them
    "ffhq512": (176, 132, 30_662_136, 44, 831_024),
    "afhq512": (176, 132, 30_662_136, 44, 831_024),
    "256": (177, 132, 29_587_512, 45, 339_520),
    "shapenet128": (177, 132, 29_587_512, 45, 216_640),
}
FIRST_NUMBERS = {  # of tensors made right after torch.manual_seed(0); backbones are the same
    "ffhq512": {
        "superresolution.block0.conv0.weight": -3.345666,
        "superresolution.block1.torgb.weight": -0.102924,
        "decoder.net.0.weight": 2.260958,
        "decoder.net.2.weight": 0.681356,
    },
    "shapenet128": {
        "superresolution.block0.conv0.weight": -3.345666,
        "superresolution.block1.torgb.weight": 1.527536,
        "decoder.net.0.weight": 1.488398,
        "decoder.net.2.weight": 0.743883,
    },
}
FIRST_OF_BACKBONE = {
    "synthesis.b4.const": -1.125840,
    "synthesis.b4.conv1.affine.weight": 0.265157,
    "synthesis.b4.conv1.weight": 1.259519,
    "synthesis.b4.conv1.noise_const": -0.010512,
    "synthesis.b256.torgb.weight": -0.051553,
    "mapping.embed.weight": 0.324903,
    "mapping.fc0.weight": 55.499825,
}
# Outputs with weights made from their names: mean, deviation, first three elements, last one.
SUMMARIES = {
    "ffhq512": {
        "ws": [0.368709, 0.848948, 1.161767, 0.739685, 0.168703, -0.350786],
        "ws_psi": [0.264612, 0.604809, 0.788181, 0.510192, 0.107005, -0.064735],
        "planes_const": [0.001720, 2.322431, 0.434020, 0.407494, 0.855079, -0.038075],
        "planes_none": [0.003305, 2.153901, 0.488606, 0.504994, 0.569117, -0.349068],
        "sample_rgb": [0.497497, 0.226311, 0.808836, 0.704147, 0.479036, 0.842726],
        "sample_sigma": [0.005517, 0.431304, 0.302903, 0.237569, -0.089416, -0.104683],
        "sr_64_none": [0.241815, 1.112342, 0.830006, 1.267344, 1.635298, 0.186444],
        "sr_128_none": [0.286633, 1.147384, 1.601071, 2.142425, 2.325700, -0.071438],
        "sr_64_const": [0.248811, 1.123815, 1.081827, 1.444976, 1.683308, 0.216272],
    },
    "shapenet128": {
        "ws": [0.373088, 0.846275, -0.078768, 0.541073, 0.082320, -0.405663],
        "ws_psi": [0.260006, 0.600600, -0.080194, 0.371164, 0.046537, -0.162055],
        "planes_const": [-0.041314, 2.259892, 0.341703, 0.329094, 0.330560, -0.342971],
        "planes_none": [-0.031963, 2.077969, 0.389408, 0.439552, 0.380578, -0.446060],
        "sample_rgb": [0.495543, 0.230319, 0.892685, 0.764145, 0.678989, 0.615764],
        "sample_sigma": [0.347170, 0.795055, 1.141069, 1.047844, 0.326609, -0.280137],
        "sr_64_none": [0.513093, 1.590424, 0.325581, 0.785754, 0.943991, 0.058769],
        "sr_32_none": [0.338738, 1.165966, 1.237729, 1.936185, 1.936373, 0.986549],
        "sr_64_const": [0.518791, 1.606334, 0.185320, 0.842895, 0.782129, -0.011104],
    },
}
DECODED = {
    "rgb": [0.487735, 0.162756, 0.938818, 0.707163, 0.494156, 0.570663],
    "sigma": [-0.157941, 0.342365, 0.244618, 0.386723, -0.994845, -0.468775],
}
PICTURES = {
    ("ffhq512", 64): {
        "image": [-1.249520, 0.771680, -0.230852, -0.220017, -0.382121, -0.389551],
        "image_raw": [-0.617487, 0.101465, -0.679061, -0.668332, -0.658108, -0.574840],
        "image_depth": [2.735095, 0.038844, 2.737259, 2.733107, 2.729247, 2.709416],
    },
    ("shapenet128", 64): {
        "image": [1.142532, 1.008575, 0.256760, 0.514426, 0.510439, 0.304387],
        "image_raw": [0.842571, 0.872097, 0.525703, 0.461200, 0.548739, 0.329741],
        "image_depth": [1.345181, 0.063623, 1.345594, 1.344806, 1.357573, 1.325393],
    },
    ("shapenet128", 32): {
        "image": [1.142505, 1.008535, 0.254519, 0.510424, 0.503702, 0.302302],
        "image_raw": [0.698007, 0.105949, 0.764445, 0.765494, 0.768664, 0.685419],
        "image_depth": [1.345420, 0.063732, 1.339904, 1.362281, 1.367652, 1.320343],
    },
}
PRESET_NAMES = ["shapenet128", pytest.param("ffhq512", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", COUNTS)
def test_published_layout(name, published_generator, assert_layout):
    network = published_generator(name)
    file = LAYOUTS / f"{name}_G.json"
    assert file.exists() == (name != "256")
    assert_layout(network, json.loads(file.read_text()) if file.exists() else None, COUNTS[name])
    tensors = network.state_dict()
    firsts = {f"backbone.{key}": value for key, value in FIRST_OF_BACKBONE.items()}
    for key, value in {**firsts, **FIRST_NUMBERS.get(name, {})}.items():
        assert tensors[key].flatten()[0].item() == pytest.approx(value, abs=1e-6)
    assert network.backbone.num_ws == network.backbone.mapping.num_ws == 14
    # Trained checkpoints carry the deviation of the labels as one more buffer.
    network.register_buffer("dataset_label_std", torch.ones(25))
    assert "dataset_label_std" in network.state_dict()


@pytest.fixture(scope="module", params=PRESET_NAMES)
def deterministic(request, published_generator, fill_by_name, camera_labels, normal_numbers):
    """Name, generator and latents of two samples."""
    network = fill_by_name(published_generator(request.param))
    ws = network.mapping(normal_numbers(0, 2, 512), camera_labels(2))
    return request.param, network, ws


def test_summaries_of_latents(deterministic, assert_summary, camera_labels, normal_numbers):
    name, network, ws = deterministic
    assert_summary(ws, SUMMARIES[name]["ws"])
    z, c = normal_numbers(0, 2, 512), camera_labels(2)
    near = network.mapping(z, c, truncation_psi=0.7, truncation_cutoff=5)
    assert_summary(near[0, 0], SUMMARIES[name]["ws_psi"])
    assert torch.equal(near[:, 5:], ws[:, 5:])


@pytest.mark.slow
def test_summaries_of_planes(deterministic, assert_summary):
    name, network, ws = deterministic
    expected = SUMMARIES[name]
    for mode in ("const", "none"):
        planes = network.backbone.synthesis(ws, noise_mode=mode)
        assert_summary(planes, expected[f"planes_{mode}"])
    coordinates = np.random.RandomState(2).rand(2, 40, 3).astype(np.float32) - np.float32(0.5)
    coordinates = torch.from_numpy(coordinates)
    field = network.sample_mixed(coordinates, coordinates, ws, noise_mode="const")
    assert_summary(field["rgb"], expected["sample_rgb"])
    assert_summary(field["sigma"], expected["sample_sigma"])


def test_summaries_of_decoder(deterministic, assert_summary, normal_numbers):
    decoded = deterministic[1].decoder(normal_numbers(1, 2, 3, 50, 32))
    assert_summary(decoded["rgb"], DECODED["rgb"])
    assert_summary(decoded["sigma"], DECODED["sigma"])


def test_summaries_of_superresolution(deterministic, assert_summary, normal_numbers):
    name, network, ws = deterministic
    for key, expected in SUMMARIES[name].items():
        if key.startswith("sr_"):
            _, side, mode = key.split("_")
            x = normal_numbers(3, 2, 32, int(side), int(side))
            picture = network.superresolution(x[:, :3].clone(), x, ws, noise_mode=mode)
            assert_summary(picture, expected)


@pytest.mark.slow
def test_summaries_of_pictures(deterministic, assert_summary, camera_labels):
    name, network, ws = deterministic
    for (recorded, side), pictures in PICTURES.items():
        if recorded == name:
            torch.manual_seed(0)
            with torch.no_grad():
                made = network.synthesis(
                    ws, camera_labels(2), neural_rendering_resolution=side, noise_mode="const"
                )
            for key, expected in pictures.items():
                assert_summary(made[key], expected)
