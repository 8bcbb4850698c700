"""Decoding and cropping: pixels against Pillow and NumPy, labels against projected points."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_preprocessing.conversion.pictures import (
    Box,
    PictureError,
    center_crop,
    center_crop_wide,
    cropped_label,
    decode,
    is_grey,
    transformed,
)
from training.cameras import Camera, check_label, look_at


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8)


def encoded(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, **dict(dict(format="png"), **options))
    return buffer.getvalue()


# -- Decoding -------------------------------------------------------------------------------------


def test_rgb_and_grey_as_they_are():
    for channels in (1, 3):
        pixels = noise(5, 7, channels)
        content = encoded(Image.fromarray(pixels))
        assert np.array_equal(decode(content), pixels)
        assert is_grey(content) == (channels == 1)
        assert decode(pixels) is pixels and is_grey(pixels) == (channels == 1)


@pytest.mark.parametrize("background, behind", [("black", 0), ("white", 255)])
def test_transparency(background, behind):
    pixels = noise(4, 4, 4)
    pixels[..., 3] = [[0, 255, 128, 64]] * 4
    found = decode(encoded(Image.fromarray(pixels, "RGBA")), background)
    share = pixels[..., 3:] / 255
    expected = pixels[..., :3] * share + behind * (1 - share)
    assert np.abs(found - expected).max() <= 1.5
    grey = np.dstack([pixels[..., 0], pixels[..., 3]])
    found = decode(encoded(Image.fromarray(grey, "LA")), background)
    expected = grey[..., 0] * share[..., 0] + behind * (1 - share[..., 0])
    assert found.ndim == 2 and np.abs(found - expected).max() <= 2.5


def test_palettes():
    picture = Image.fromarray(noise(6, 6)).convert("P", palette=Image.Palette.ADAPTIVE, colors=200)
    assert np.array_equal(decode(encoded(picture)), np.array(picture.convert("RGB")))
    picture.info["transparency"] = 0
    found = decode(encoded(picture, transparency=0), "white")
    assert found.shape == (6, 6, 3) and (found[np.array(picture) == 0] == 255).all()


def test_cmyk_and_one_bit():
    picture = Image.fromarray(noise(8, 8)).convert("CMYK")
    content = encoded(picture, format="tiff")
    assert np.array_equal(decode(content), np.array(picture.convert("RGB")))
    bits = Image.fromarray(noise(8, 8, 1) > 127)
    assert np.array_equal(decode(encoded(bits)), np.array(bits) * 255)


def test_sixteen_bits_are_rounded_to_eight():
    deep = np.array([[0, 128, 257, 385, 386, 65535]], dtype=np.uint16)
    found = decode(encoded(Image.fromarray(deep)))
    assert found.tolist() == [[0, 0, 1, 1, 2, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_pictures_upright(orientation):
    """The eight ways a camera can be held, by NumPy."""
    upright = noise(3, 5)
    held = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(np.ascontiguousarray(held)), exif=exif)
    assert np.array_equal(decode(content), upright)


@pytest.mark.parametrize(
    "content", [b"", b"no picture", encoded(Image.fromarray(noise(20, 20)))[:600]], ids=len
)
def test_what_is_no_picture(content):
    with pytest.raises(PictureError, match="cannot be decoded"):
        decode(content)


# -- Cropping -------------------------------------------------------------------------------------


def test_crops_against_slices():
    pixels = noise(10, 14)
    assert np.array_equal(transformed(pixels, Box(3, 2, 5, 6), None), pixels[2:8, 3:8])
    whole = np.zeros((20, 20, 3), dtype=np.uint8)
    whole[4:14, 2:16] = pixels
    assert np.array_equal(transformed(pixels, Box(-2, -4, 20, 20), None), whole)
    assert not transformed(pixels, Box(50, 50, 4, 4), None).any()
    box = center_crop(14, 10)
    assert np.array_equal(transformed(pixels, box, None), pixels[:, 2:12])
    box = center_crop(9, 14)
    assert box == Box(0, 2, 9, 9)


def test_resizing_is_that_of_pillow():
    pixels = noise(10, 12)
    expected = Image.fromarray(pixels).resize((8, 4), Image.Resampling.LANCZOS)
    assert np.array_equal(transformed(pixels, None, (8, 4)), np.array(expected))
    assert transformed(pixels, None, (12, 10)) is pixels


def test_wide_crops():
    """As published: round(W h / w) rows of the middle, W x H, black above and below."""
    pixels = noise(30, 32)
    found, _ = center_crop_wide(pixels, (32, 24))
    strip = Image.fromarray(pixels).resize((32, 24), Image.Resampling.LANCZOS)
    assert found.shape == (32, 32, 3)
    assert np.array_equal(found[4:28], np.array(strip))
    assert not found[:4].any() and not found[28:].any()
    larger = noise(60, 64)
    found, _ = center_crop_wide(larger, (32, 24))
    strip = Image.fromarray(larger[15:45]).resize((32, 24), Image.Resampling.LANCZOS)
    assert np.array_equal(found[4:28], np.array(strip))
    for small in (noise(30, 31), noise(20, 32)):
        assert center_crop_wide(small, (32, 24)) == (None, None)


# -- Labels ---------------------------------------------------------------------------------------

LENS = torch.tensor([[[1.3, 0.02, 0.52], [0, 1.1, 0.47], [0, 0, 1]]], dtype=torch.float64)
POSE = look_at(torch.tensor([[0.3, 0.4, 2.5]], dtype=torch.float64), (0, 0.1, 0))
LABEL = Camera(POSE, LENS).label()[0].tolist()


def pixel_of(point, label, width, height):
    """Where a world point is in a picture, by the definition of the label."""
    camera = Camera.from_label(torch.tensor([label], dtype=torch.float64))
    seen = camera.cam2world[0].inverse() @ torch.tensor([*point, 1.0], dtype=torch.float64)
    place = camera.intrinsics[0] @ seen[:3]
    x, y = (place[:2] / place[2]).tolist()
    return np.array([x * width, y * height])


@pytest.mark.parametrize("point", [(0, 0, 0), (0.2, -0.1, 0.3), (-0.3, 0.25, -0.2)])
def test_points_stay_on_their_pixels(point):
    width, height, box = 640, 480, Box(100, 40, 320, 200)
    label = cropped_label(LABEL, box, width, height)
    assert check_label(label) is None
    before = pixel_of(point, LABEL, width, height) - (box.x, box.y)
    np.testing.assert_allclose(pixel_of(point, label, box.width, box.height), before, atol=1e-9)
    # and after a resize, which is the same share of the picture
    after = pixel_of(point, label, 256, 256) / 256
    np.testing.assert_allclose(after, before / (box.width, box.height), atol=1e-9)


@pytest.mark.parametrize("size", [(64, 60), (128, 110)])
def test_a_dot_is_where_the_label_says_after_a_wide_crop(size):
    """The dot is drawn, cut and squeezed as any picture; its middle is found again."""
    width, height = size
    point = (0.05, 0.08, 0.1)
    x, y = pixel_of(point, LABEL, width, height)
    rows, columns = np.mgrid[:height, :width] + 0.5
    dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8) * 255
    found, box = center_crop_wide(np.rint(dot).astype(np.uint8), (64, 48))
    label = cropped_label(LABEL, box, width, height)
    weights = found.astype(float)
    rows, columns = np.mgrid[:64, :64] + 0.5
    middle = [(weights * c).sum() / weights.sum() for c in (columns, rows)]
    np.testing.assert_allclose(middle, pixel_of(point, label, 64, 64), atol=0.1)


def test_nothing_moves_without_a_crop_and_classes_are_left_alone():
    assert cropped_label(LABEL, Box(0, 0, 33, 44), 33, 44) == pytest.approx(LABEL)
    assert cropped_label([1.0, 2.0], Box(1, 1, 3, 3), 9, 9) == [1.0, 2.0]
