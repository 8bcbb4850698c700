"""Faces come out upright, in the specified place and size, whatever way they lay."""

import numpy as np
import pytest
from PIL import Image

from dataset_preprocessing.faces import alignment
from dataset_preprocessing.faces.alignment import align_face, face_frame
from dataset_preprocessing.faces.steps import PreprocessingError
from tests.dataset_preprocessing.faces.heads import draw, find

# An upright face: eyes 40 apart, the mouth 44 below them.
FACE = np.array([[-20.0, 0], [20, 0], [0, 20], [-14, 44], [14, 44]])


def placed(angle, scale, center):
    """The face turned clockwise as seen, in a picture."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * FACE @ turn.T + center


def expected(side, output):
    """Where the upright face is to be in its frame of a side: 0.1 of the way from eyes to mouth is
    the middle."""
    inside = (FACE - (0, 4.4)) / side + 0.5
    return inside * output - 0.5  # pixels from the centre of the first one


SIDE = 2 * 80 * 1.8  # twice the distance of the eyes, which is more than 1.8 times 44


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.1, 2.5])
@pytest.mark.parametrize("scale", [0.7, 1.6])
def test_frame(angle, scale):
    """The square that the formulas of the paper give, of an upright face by hand."""
    frame = face_frame(placed(angle, scale, (300, 200)))
    assert frame.side == pytest.approx(scale * SIDE)
    upright = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * SIDE / 2 + (0, 4.4)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert np.allclose(frame.corners, scale * upright @ turn.T + (300, 200))


def test_long_faces_are_measured_by_their_length():
    face = FACE * (1, 2)
    assert face_frame(face).side == pytest.approx(2 * 1.8 * 1.8 * 88)


def test_a_face_that_is_turned_away():
    """Eyes that are near each other: the way from eyes to mouth says what is up."""
    face = FACE * (0.05, 1)
    corners = face_frame(face).corners
    assert np.allclose(corners[1] - corners[0], [0, face_frame(face).side])


@pytest.mark.parametrize("angle, scale", [(0.0, 1.0), (0.5, 0.9), (-0.3, 1.1), (2.0, 1.0)])
def test_a_drawn_face_comes_out_upright(angle, scale):
    """To a tenth of a pixel of the result."""
    pixels = draw(placed(angle, scale, (330, 310)), (640, 620))
    found = find(align_face(pixels, placed(angle, scale, (330, 310)), 200, 400))
    assert np.abs(found - expected(SIDE, 200)).max() < 0.1


def test_large_pictures_are_made_smaller_first():
    """Three times, at this size of the result."""
    points = placed(0.2, 1.0, (330, 310))
    pixels = draw(points, (630, 621), radius=6)  # divisible by 3
    found = find(align_face(pixels, points, 48, 96))
    assert np.abs(found - expected(SIDE, 48)).max() < 0.1


def test_beyond_the_picture():
    """Reflected, then blurred into the median colour; the face stays where it was."""
    points = placed(0.0, 1.0, (330, 60))
    pixels = draw(points, (640, 620))
    pixels[-200:] = 255
    pixels[60:90, 560:] = 0  # sharp edges inside of the picture stay
    result = align_face(pixels, points, 288, 288)
    assert np.abs(find(result) - expected(SIDE, 288)).max() < 0.15
    edge = result[0].astype(float)  # three quarters of the margin away
    assert np.abs(edge - 20).max() <= 12  # the median is the background
    assert np.abs(result[120:].astype(float) - 20).max() > 200


def loop_depth(shape, pad):
    left, top, right, bottom = pad
    depth = np.zeros(shape)
    for y in range(shape[0]):
        for x in range(shape[1]):
            to_row = min(y / top, (shape[0] - 1 - y) / bottom)
            to_column = min(x / left, (shape[1] - 1 - x) / right)
            depth[y, x] = max(1 - to_row, 1 - to_column)
    return depth


def test_depth_of_the_margin():
    pad = (5, 7, 3, 4)
    assert np.allclose(alignment._depth((30, 25), pad), loop_depth((30, 25), pad))


def test_the_margin_as_specified(monkeypatch):
    """Pixel by pixel, with a blurred copy that is known: 0.3 of the frame wide, or as wide as it
    has to be; the copy begins a third of the margin inside, the median at the edge."""
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, (50, 40, 3)).astype(np.uint8)
    frame = face_frame(placed(0.0, 0.1, (20, 0)))  # 28.8 wide, its middle at (20, 0.44)
    side, border = 28.8, 3
    blurred = random.rand(3)
    monkeypatch.setattr(alignment, "_blurred", lambda p, side: np.zeros(p.shape) + 99 * blurred)
    found, moved = alignment._padded(Image.fromarray(pixels), frame)
    top = 14 + border  # the frame begins at 0.44 - 14.4
    pad = (9, top, 9, 9)  # 0.3 times 28.8
    assert side == pytest.approx(frame.side)
    assert found.size == (40 + 18, 50 + top + 9)
    assert np.allclose(moved.corners - frame.corners, [9, top])
    depth = loop_depth(found.size[::-1], pad)
    wanted = np.zeros((*depth.shape, 3))
    for y in range(depth.shape[0]):
        for x in range(depth.shape[1]):
            inside_y, inside_x = abs(y - top), abs(x - 9)
            inside_y, inside_x = 49 - abs(49 - inside_y), 39 - abs(39 - inside_x)
            value = pixels[inside_y, inside_x]
            weight = min(max(3 * depth[y, x] + 1, 0), 1)
            wanted[y, x] = (1 - weight) * value + weight * 99 * blurred
    weight = np.clip(depth, 0, 1)[:, :, None]
    wanted = (1 - weight) * wanted + weight * np.median(wanted, axis=(0, 1))
    assert np.abs(np.array(found) - wanted).max() <= 0.51


def test_a_picture_that_is_large_enough_gets_no_margin():
    picture = Image.fromarray(np.zeros((200, 200, 3), np.uint8))
    frame = face_frame(placed(0.2, 0.3, (100, 100)))
    assert alignment._padded(picture, frame) == (picture, frame)


def test_the_margin_of_a_constant_picture_is_constant():
    points = placed(0.3, 1.0, (50, 60))
    result = align_face(np.full((120, 100, 3), 77, np.uint8), points, 64, 128)
    assert (result == 77).all()


@pytest.mark.parametrize(
    "points, message",
    [(np.zeros((5, 2)), "at one place"), (FACE + (9000, 0), "outside of the picture")],
)
def test_refused(points, message):
    with pytest.raises(PreprocessingError, match=message):
        align_face(np.zeros((64, 64, 3), np.uint8), points, 16, 32)
