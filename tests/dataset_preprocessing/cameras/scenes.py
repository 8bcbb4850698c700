"""Scenes for these tests: cameras made of directions alone, and files written from those, not by
the code under test."""

import json
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

POINT = np.array([0.15, -0.1, 0.2])  # a bright dot in every picture
SIZE = (96, 64)


@dataclass
class View:
    """A camera as directions in the world, and what it takes a picture of."""

    name: str
    eye: np.ndarray
    right: np.ndarray
    up: np.ndarray
    forward: np.ndarray
    size: tuple[int, int] = SIZE
    focal: tuple[float, float] = (150.0, 150.0)
    center: tuple[float, float] = (50.0, 30.0)

    def pixel(self, point):
        """Where a point is, in pixels from the left upper corner."""
        away = point - self.eye
        depth = away @ self.forward
        x = self.center[0] + self.focal[0] * (away @ self.right) / depth
        return np.array([x, self.center[1] - self.focal[1] * (away @ self.up) / depth])

    def pose(self):
        """Camera to world, with the axes of OpenCV."""
        pose = np.eye(4)
        pose[:3] = np.stack([self.right, -self.up, self.forward, self.eye], axis=1)
        return pose

    def picture(self):
        """A black picture with a soft dot where POINT is."""
        x, y = self.pixel(POINT)
        across = np.arange(self.size[0]) + 0.5 - x
        down = np.arange(self.size[1]) + 0.5 - y
        dot = np.exp(-(across**2 + down[:, None] ** 2) / 8)
        return np.repeat(np.rint(dot * 255).astype(np.uint8)[:, :, None], 3, 2)


def orbit(count=5, seed=0, world=None, **lens):
    """Views from all around that look towards the origin, upright in the world that `world` [3, 3]
    turns +y-up ones into."""
    rng = np.random.default_rng(seed)
    world = np.eye(3) if world is None else world
    views = []
    for k in range(count):
        azimuth, height = 2 * math.pi * k / count + rng.uniform(0, 0.5), rng.uniform(0.5, 2)
        eye = np.array([3 * math.sin(azimuth), height, 3 * math.cos(azimuth)])
        forward = rng.normal(0, 0.05, 3) - eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 1, 0])
        right /= np.linalg.norm(right)
        axes = [world @ axis for axis in (eye, right, np.cross(right, forward), forward)]
        views.append(View(f"{k:03d}.png", *axes, **lens))
    return views


def save(views, folder):
    """Writes the pictures of the views."""
    for view in views:
        path = folder / view.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(view.picture()).save(path)


def write_transforms(views, folder):
    """As nerfstudio would, each frame with its lens."""
    frames = []
    for view in views:
        matrix = np.eye(4)
        matrix[:3] = np.stack([view.right, view.up, -view.forward, view.eye], axis=1)
        lens = dict(fl_x=view.focal[0], fl_y=view.focal[1], cx=view.center[0], cy=view.center[1])
        frame = dict(file_path=f"./images/{view.name}", w=view.size[0], h=view.size[1], **lens)
        frames.append(dict(frame, transform_matrix=matrix.tolist()))
    save(views, folder / "images")
    (folder / "transforms.json").write_text(json.dumps(dict(frames=frames)))


def quaternion(turn):
    """(w, x, y, z) of a rotation [3, 3] by less than half a turn."""
    w = math.sqrt(1 + np.trace(turn)) / 2
    x, y, z = (turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1])
    return [w, x / (4 * w), y / (4 * w), z / (4 * w)]


def write_colmap(views, folder):
    """As COLMAP would, as text, with points and what was seen of them."""
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    cameras, images = ["# cameras"], ["# images"]
    for number, view in enumerate(views, 1):
        lens = [*view.focal, *view.center]
        cameras.append(
            f"{number} PINHOLE {view.size[0]} {view.size[1]} " + " ".join(map(str, lens))
        )
        turn = np.stack([view.right, -view.up, view.forward])
        numbers = [*quaternion(turn), *(-turn @ view.eye)]
        words = " ".join(str(float(v)) for v in numbers)
        images += [f"{number} {words} {number} {view.name}", "1.5 2.5 7 3.5 4.5 -1"]
    points = [f"7 {' '.join(map(str, POINT))} 255 255 255 0.5 1 0"]
    for name, lines in (("cameras", cameras), ("images", images), ("points3D", points)):
        (model / f"{name}.txt").write_text("\n".join(lines) + "\n")
    save(views, folder / "images")


def write_srn(views, folder):
    """As an object of ShapeNet cars."""
    view = views[0]
    head = f"{view.focal[0]} {view.center[0]} {view.center[1]} 0.\n0. 0. 0.\n1.\n"
    (folder / "pose").mkdir(parents=True)
    (folder / "intrinsics.txt").write_text(f"{head}{view.size[1]} {view.size[0]}\n")
    for view in views:
        numbers = " ".join(str(float(v)) for v in view.pose().ravel())
        (folder / "pose" / view.name.replace(".png", ".txt")).write_text(numbers + "\n")
    save(views, folder / "rgb")


def write_labels(views, folder):
    """As a dataset."""
    entries = zip([view.name for view in views], expected_labels(views).tolist(), strict=True)
    save(views, folder)
    (folder / "dataset.json").write_text(json.dumps(dict(labels=list(entries))))


WRITERS = {
    "transforms": write_transforms,
    "colmap": write_colmap,
    "srn": write_srn,
    "labels": write_labels,
}


def expected_labels(views):
    """Labels [N, 25] of the views."""
    labels = []
    for view in views:
        (width, height), (fx, fy), (cx, cy) = view.size, view.focal, view.center
        lens = [fx / width, 0, cx / width, 0, fy / height, cy / height, 0, 0, 1]
        labels.append([*view.pose().ravel(), *lens])
    return np.array(labels)
