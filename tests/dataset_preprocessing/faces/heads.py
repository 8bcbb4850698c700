"""Made-up heads: landmarks of a model, pictures with a dot at each landmark, dots found again."""

import numpy as np
import scipy.io
from PIL import Image
from scipy.spatial.transform import Rotation

# Left eye, right eye, nose, corners of the mouth; x right, y up, z out of the face.
MODEL = np.array(
    [[-0.31, 0.29, 0.1], [0.31, 0.29, 0.1], [0, -0.05, 0.4], [-0.25, -0.36, 0.15]]
    + [[0.25, -0.36, 0.15]]
)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]])


def write_model(path, model=MODEL):
    """A similarity_Lm3D_all.mat whose five landmarks are those of a model."""
    points = np.random.RandomState(0).randn(68, 3)
    for corners, place in (((36, 39), 0), ((42, 45), 1)):
        away = np.array([0.1, 0.02, 0.01])
        points[corners[0]], points[corners[1]] = model[place] - away, model[place] + away
    points[30], points[48], points[54] = model[2:]
    scipy.io.savemat(path, dict(lm=points))
    return path


def seen_from(model, scale, angles=(0, 0, 0), shift=(0, 0), height=0):
    """Landmarks [N, 2], y down, of a turned model seen from afar in a picture of a height."""
    turned = Rotation.from_euler("xyz", angles).apply(model)
    return np.stack(
        [scale * turned[:, 0] + shift[0], height - 1 - (scale * turned[:, 1] + shift[1])], axis=1
    )


def draw(points, size, radius=3.0, colours=COLOURS, background=20):
    """Pixels uint8 [H, W, 3] with a soft dot at each point; size is (width, height)."""
    y, x = np.mgrid[: size[1], : size[0]]
    pixels = np.full((size[1], size[0], 3), float(background))
    for point, colour in zip(points, colours, strict=True):
        weight = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * radius**2))
        pixels += weight[:, :, None] * (colour - pixels)
    return np.rint(pixels).astype(np.uint8)


def find(pixels, colours=COLOURS, background=20):
    """The middles [N, 2] of the dots of a picture."""
    values = pixels.astype(float)
    found = []
    for colour in colours:
        distance = np.abs(values - colour).sum(2)
        weight = np.clip(1 - distance / 250, 0, None) ** 2
        y, x = np.mgrid[: values.shape[0], : values.shape[1]]
        found.append([(weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()])
    return np.array(found)


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
