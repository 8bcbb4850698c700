"""Latents: seeds, mixing, interpolation, files."""

import numpy as np
import pytest
import torch

from eg3d import latents
from eg3d.errors import InputError


def test_latents_of_seeds_are_the_published_ones():
    z = latents.from_seeds([3, 2**32 - 1, np.int64(3)], 16)
    assert z.dtype == torch.float32 and z.shape == (3, 16)
    for row, seed in zip(z, [3, 2**32 - 1, 3], strict=True):
        expected = np.random.RandomState(seed).randn(1, 16).astype(np.float32)
        assert np.array_equal(row.numpy()[None], expected)
    assert latents.from_seeds([], 16).shape == (0, 16)
    for seed in (-1, 2**32, 1.5):
        with pytest.raises(InputError, match=f"seed {seed}: must be a whole number from 0 to"):
            latents.from_seeds([seed], 16)


def test_classes_of_seeds_are_the_published_ones():
    seeds = list(range(200))
    found = latents.classes_from_seeds(seeds, 3)
    assert found == [np.random.RandomState(seed).choice(np.arange(3)) for seed in seeds]
    assert sorted(set(found)) == [0, 1, 2] and all(type(index) is int for index in found)
    with pytest.raises(InputError, match="seed -1"):
        latents.classes_from_seeds([-1], 3)


def test_mixing_layer_by_layer():
    ws, others = torch.randn(3, 6, 4), torch.randn(3, 6, 4)
    mixed = latents.mix(ws, others, [4, 1])
    for n in range(3):
        for layer in range(6):
            source = others if layer in (1, 4) else ws
            assert torch.equal(mixed[n, layer], source[n, layer])
    assert torch.equal(latents.mix(ws, others[:1], range(6)), others[:1].expand(3, 6, 4))
    assert torch.equal(latents.mix(ws, others, []), ws)
    for layer in (-1, 6):
        with pytest.raises(InputError, match=f"layer {layer}: the model has layers 0 to 5"):
            latents.mix(ws, others, [layer])


def test_mixing_has_gradients():
    ws, others = (torch.randn(1, 6, 4, requires_grad=True) for _ in range(2))
    latents.mix(ws, others, range(2)).sum().backward()
    assert (others.grad[:, :2] == 1).all() and (others.grad[:, 2:] == 0).all()
    assert torch.equal(ws.grad, 1 - others.grad)


def test_interpolation_is_straight_from_key_to_key():
    keys = torch.randn(3, 6, 4)
    found = latents.interpolate(keys, 9)
    assert found.shape == (9, 6, 4) and torch.equal(found[[0, 4, 8]], keys)
    for step in range(9):
        first = min(step // 4, 1)
        share = step / 4 - first
        expected = (1 - share) * keys[first] + share * keys[first + 1]
        assert torch.allclose(found[step], expected, atol=1e-6)
    assert torch.equal(latents.interpolate(keys[:1], 4), keys[:1].expand(4, 6, 4))
    assert torch.equal(latents.interpolate(keys, 1), keys[:1])


def test_files(tmp_path):
    path, ws = tmp_path / "projected_w.npz", torch.randn(2, 6, 4)
    latents.write_ws(path, ws.requires_grad_())
    assert torch.equal(latents.read_ws(path), ws)
    with np.load(path) as file:  # what other programs read
        assert file.files == ["w"] and np.array_equal(file["w"], ws.detach().numpy())
    np.savez(path, w=ws[0].detach().double().numpy(), losses=np.zeros(3))
    assert torch.equal(latents.read_ws(path), ws[:1])


@pytest.mark.parametrize(
    "arrays, words",
    [
        (dict(z=np.zeros((1, 2, 3))), "has no array w"),
        (dict(w=np.zeros(5)), r"w is float64 of shape \[5\]"),
        (dict(w=np.zeros((0, 2, 3))), r"of shape \[0, 2, 3\]"),
        (dict(w=np.zeros((1, 2, 3), dtype=complex)), "w is complex128"),
        (dict(w=np.array([[None, {}]])), "cannot be read"),
        (dict(w=np.full((1, 2, 3), np.inf)), "not finite"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, arrays, words):
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(InputError, match=f"w.npz: .*{words}"):
        latents.read_ws(tmp_path / "w.npz")


def test_damaged_files_are_named(tmp_path):
    latents.write_ws(tmp_path / "whole.npz", torch.zeros(1, 6, 4))
    np.save(tmp_path / "array.npy", np.zeros((1, 6, 4)))
    contents = {
        "half.npz": (tmp_path / "whole.npz").read_bytes()[:150],
        "array.npz": (tmp_path / "array.npy").read_bytes(),
        "text.npz": b"w = 3",
        "empty.npz": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: cannot be read; expected an .npz file"):
            latents.read_ws(tmp_path / name)
    with pytest.raises(InputError, match="nowhere.npz: No such file or directory; expected"):
        latents.read_ws(tmp_path / "nowhere.npz")
