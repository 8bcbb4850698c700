"""Codes of numbers against loops and the published example values."""

import math

import pytest
import torch

from training.epigraf.encoders import ScalarEncoder1d, normalized_angles, octaves


def loop(values, multiplier, count):
    """Code of one vector, number by number: sines, cosines."""
    code = []
    for value in values:
        phases = [2**k * math.pi * multiplier * value / 2**count for k in range(count)]
        code += [math.sin(p) for p in phases] + [math.cos(p) for p in phases]
    return torch.tensor(code, dtype=torch.float64)


@pytest.mark.parametrize("multiplier, count", [(1000, 10), (64, 6), (8, 3), (5, 3)])
def test_codes_are_sines_and_cosines_of_octaves(multiplier, count):
    x = torch.rand(4, 3, dtype=torch.float64) * 2 - 1
    encoder = ScalarEncoder1d(3, multiplier).double()
    encoder.fourier_encoder.fourier_coefs = octaves(multiplier).double()
    expected = torch.stack([loop(row.tolist(), multiplier, count) for row in x])
    assert encoder.dim == expected.shape[1]
    torch.testing.assert_close(encoder(x), expected, rtol=0, atol=1e-4)


def test_published_examples():
    patch = ScalarEncoder1d(1, 1000)(torch.tensor([[0.25]]))[0, :4]
    expected = torch.tensor([0.6939715, 0.9993224, 0.0735644, -0.1467302])
    torch.testing.assert_close(patch, expected, rtol=0, atol=1e-5)
    turns = normalized_angles(torch.tensor([[0.3]]))
    assert turns.item() == pytest.approx(0.0477465, abs=1e-7)
    expected = [0.1494381, 0.2955202, 0.5646425, 0.9320391, 0.6754631, -0.9961646]
    camera = ScalarEncoder1d(1, 64)(turns)[0, :6]
    torch.testing.assert_close(camera, torch.tensor(expected), rtol=0, atol=1e-5)


def test_angles_keep_their_sign_and_lose_whole_turns():
    for angle in (-7.0, -0.4, 0.0, 0.3, 6.2, 13.0):
        turns = math.copysign(math.fmod(abs(angle), 2 * math.pi) / (2 * math.pi), angle)
        found = normalized_angles(torch.tensor(angle, dtype=torch.float64)).item()
        assert found == pytest.approx(turns, abs=1e-12)


def test_learned_vectors_belong_to_rounded_numbers():
    encoder = ScalarEncoder1d(2, 10, const_emb_dim=3)
    assert encoder.const_embed.weight.shape == (11, 3)
    assert encoder.const_embed.weight.requires_grad
    # 0.25 and 0.35 are halves: they go to the even neighbours.
    code = encoder(torch.tensor([[0.0, 1.0], [0.25, 0.35]], dtype=torch.float64).float())
    waves = 2 * 4
    for row, numbers in enumerate([(0, 10), (2, 4)]):
        for place, number in enumerate(numbers):
            start = place * (waves + 3) + waves
            assert code[row, start : start + 3].equal(encoder.const_embed.weight[number])


def test_parts_that_can_be_left_out():
    x = torch.rand(4, 3)
    encoder = ScalarEncoder1d(3, 8, use_raw=True, use_cos=False)
    full = ScalarEncoder1d(3, 8)(x).unflatten(1, (3, 6))
    code = encoder(x).unflatten(1, (3, 4))
    assert encoder.dim == 12
    assert code[:, :, 0].equal(x) and code[:, :, 1:].equal(full[:, :, :3])


@pytest.mark.parametrize("value", [1, 0, -3])
def test_values_without_octaves_are_named(value):
    with pytest.raises(ValueError, match="max_value above 1"):
        ScalarEncoder1d(1, value)
