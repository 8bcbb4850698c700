"""The five-landmark crop: a model that was projected is found again, and lands where it should."""

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from dataset_preprocessing.faces.crop import CropSettings, crop_face, weak_perspective
from dataset_preprocessing.faces.steps import PreprocessingError
from tests.dataset_preprocessing.faces.heads import MODEL, draw, find, seen_from

VIEWS = [
    (90, (0, 0, 0), (200, 180)),
    (140, (0.2, -0.5, 0.1), (300, 210)),
    (60, (-0.1, 0.4, -0.3), (120, 260)),
]


@pytest.mark.parametrize("scale, angles, shift", VIEWS)
def test_scale_and_shift_are_found_again(scale, angles, shift):
    points = scale * Rotation.from_euler("xyz", angles).apply(MODEL)[:, :2] + shift
    found, place = weak_perspective(points, MODEL)
    assert found == pytest.approx(scale) and place == pytest.approx(shift)


def test_least_squares():
    """No other solution of noisy points has smaller residuals."""
    random = np.random.RandomState(0)
    points = 90 * MODEL[:, :2] + 200 + random.randn(5, 2)
    scale, shift = weak_perspective(points, MODEL)
    unknown = np.column_stack([MODEL, np.ones(5)])
    normal = np.linalg.solve(unknown.T @ unknown, unknown.T @ points)
    assert shift == pytest.approx(normal[3])
    lengths = np.hypot(np.hypot(normal[0], normal[1]), normal[2])
    assert scale == pytest.approx(lengths.mean())


@pytest.mark.parametrize("scale, angles, shift", VIEWS)
@pytest.mark.parametrize("sizes", [(300.0, 700, 512), (250.0, 600, 256)])
def test_the_model_lands_in_the_middle(scale, angles, shift, sizes):
    """At a fixed scale, to the pixel of the enlarged picture that is cut off."""
    settings = CropSettings(*sizes)
    points = seen_from(MODEL, scale, angles, shift, height=400)
    crop = crop_face(draw(points, (480, 400), radius=2.5), points, MODEL, settings)
    assert crop.shape == (sizes[2], sizes[2], 3)
    turned = Rotation.from_euler("xyz", angles).apply(MODEL)
    middle = sizes[1] / 2
    wanted = np.stack([middle + sizes[0] * turned[:, 0], middle - sizes[0] * turned[:, 1]], axis=1)
    shrunk = wanted * sizes[2] / sizes[1]
    error = find(crop) - shrunk
    assert np.abs(error).max() < 2 * sizes[0] / scale * sizes[2] / sizes[1]
    assert np.abs(error - error.mean(0)).max() < 0.4  # the rest is a shift of all


def test_published_sizes():
    """By hand: a picture that is enlarged by exactly 2 and a model in its middle."""
    points = seen_from(MODEL, 150, height=600, shift=(300, 300))
    pixels = draw(points, (600, 600))
    crop = crop_face(pixels, points, MODEL)
    # The picture is 1200 wide, the crop begins at 600 - 512 + 162 = 250 and 248 from above, since
    # 300 counts from the centre of the lowest row.
    by_hand = (np.array(points) + 0.5) * 2 - [250, 250]
    assert np.abs(find(crop) - (by_hand * 512 / 700 - 0.5)).max() < 1.0


@pytest.mark.parametrize("scale, angles, shift", VIEWS)
def test_as_specified(scale, angles, shift):
    """Word by word: the whole picture made larger, 1024 cut out, of these 700, made 512."""
    pixels = np.random.RandomState(0).randint(0, 256, (210, 260, 3), dtype=np.uint8)
    points = seen_from(MODEL, scale / 2, angles, np.array(shift) / 2, height=210)
    ups = np.column_stack([points[:, 0], 209 - points[:, 1]])
    unknown = np.column_stack([MODEL, np.ones(5)])
    row1, row2 = np.linalg.lstsq(unknown, ups, rcond=None)[0].T
    s = 300 / ((np.linalg.norm(row1[:3]) + np.linalg.norm(row2[:3])) / 2)
    w, h = int(260 * s), int(210 * s)
    left = int(w / 2 - 512 + (row1[3] - 130) * s)
    up = int(h / 2 - 512 + (105 - row2[3]) * s)
    picture = Image.fromarray(pixels).resize((w, h), Image.Resampling.BICUBIC)
    picture = picture.crop((left, up, left + 1024, up + 1024)).crop((162, 162, 862, 862))
    wanted = np.array(picture.resize((512, 512), Image.Resampling.LANCZOS))
    assert np.array_equal(crop_face(pixels, points, MODEL), wanted)


def test_beyond_the_picture_is_black():
    points = seen_from(MODEL, 150, height=200, shift=(20, 20))
    crop = crop_face(np.full((200, 200, 3), 255, np.uint8), points, MODEL)
    assert (crop[-40:] == 0).all() and (crop[:, :40] == 0).all() and (crop[100, 400] == 255).all()


@pytest.mark.parametrize(
    "points, message",
    [(np.ones((5, 2)), "at one place"), (seen_from(MODEL, 0.5), "face is too small")],
)
def test_refused(points, message):
    with pytest.raises(PreprocessingError, match=message):
        crop_face(np.zeros((100, 100, 3), np.uint8), points, MODEL)
