"""Thumbnails, hashes, emptiness, duplicates."""

from dataclasses import replace

import numpy as np
import pytest

from dataset_preprocessing.conversion.pictures import PictureError
from dataset_preprocessing.inspection.pictures import _count_bits, duplicates, look_at_picture
from tests.dataset_preprocessing.inspection.conftest import png


def noise(seed, side=64):
    """Soft noise: a picture that survives resizing."""
    coarse = np.random.RandomState(seed).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((side // 8, side // 8, 1), np.uint8))


def look(pixels):
    return look_at_picture(png(pixels))


def test_a_picture_in_short():
    pixels = np.full((64, 128, 3), (250, 240, 230), np.uint8)
    pixels[16:32, 32:96] = (10, 200, 30)
    found = look(pixels)
    assert found.size == (128, 64) and not found.grey and found.uniform
    assert found.border.tolist() == [250, 240, 230]
    assert found.extent == (0.25, 0.25, 0.75, 0.5)
    assert found.thumbnail.shape == (16, 16, 3)
    assert np.array_equal(found.thumbnail[5, 8], (10, 200, 30))


@pytest.mark.parametrize("size, empty", [(6, True), (7, False)])
def test_near_empty_is_less_than_one_hundredth(size, empty):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[30 : 30 + size, 30 : 30 + size] = 255
    assert (look(pixels).extent is None) == empty


def test_grey_pictures_and_backgrounds_of_photographs():
    assert look(noise(0)[:, :, 0]).grey and not look(noise(0)).uniform


def test_what_cannot_be_decoded():
    with pytest.raises(PictureError, match="cannot be decoded"):
        look_at_picture(png(noise(0))[:-50])


def test_bits_are_counted():
    values = np.random.RandomState(0).randint(0, 2**63, 1000).astype(np.uint64) * np.uint64(2)
    values = np.concatenate([values, np.array([0, 2**64 - 1, 1], dtype=np.uint64)])
    assert _count_bits(values).tolist() == [bin(int(v)).count("1") for v in values]


def test_duplicates():
    brighter = np.clip(noise(1).astype(int) + 2, 0, 255).astype(np.uint8)
    other = noise(1).copy()
    other[:, 32:] = noise(9)[:, 32:]
    pictures = [noise(0), noise(1), noise(0), brighter, noise(2), noise(0), other, brighter]
    pictures += [np.kron(noise(2)[::2, ::2], np.ones((4, 4, 1), np.uint8))]  # twice as large
    exact, near = duplicates({k: look(p) for k, p in enumerate(pictures)})
    assert exact == [(0, 2), (0, 5), (3, 7)]
    assert near == [(1, 3), (4, 8)]


def test_near_hashes_are_those_of_a_loop():
    """Random hashes with some bits changed, in one group and across blocks."""
    random = np.random.RandomState(1)
    hashes = random.randint(0, 2**62, 300).tolist()
    for k in range(300):
        changed = hashes[k]
        for bit in random.choice(64, random.randint(0, 8), replace=False):
            changed ^= 1 << int(bit)
        hashes.append(changed)
    one = look(noise(0))
    looks = {k: replace(one, hash=value, digest=str(k)) for k, value in enumerate(hashes)}
    expected = {}
    for other in range(600):
        for first in range(other):
            if bin(hashes[first] ^ hashes[other]).count("1") <= 4:
                expected.setdefault(other, first)
    assert duplicates(looks) == ([], [(first, other) for other, first in expected.items()])
    assert 100 < len(expected) < 250


def test_many_pictures_are_compared_in_blocks():
    looks = {k: look(noise(k, 16)) for k in range(700)}
    looks[900] = look(np.clip(noise(3, 16).astype(int) + 1, 0, 255).astype(np.uint8))
    exact, near = duplicates(looks)
    assert exact == [] and near == [(3, 900)]


def test_empty_pictures_are_not_alike():
    plain = [np.full((8, 8, 3), value, np.uint8) for value in (0, 1, 2)]
    assert duplicates({k: look(p) for k, p in enumerate(plain)}) == ([], [])
