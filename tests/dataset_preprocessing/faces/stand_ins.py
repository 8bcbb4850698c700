"""Stand-ins of OpenCV's YuNet and of MediaPipe: they see the dots that `heads.draw` draws."""

import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np

from tests.dataset_preprocessing.faces.heads import find


def sees_a_face(pixels):
    """Whether there is a green dot."""
    return (pixels.astype(float) @ [-1, 1, -1]).max() > 100


class Detector:
    """What cv2.FaceDetectorYN.create returns."""

    made = []  # model, threshold of each

    def __init__(self, model, config, size, threshold):
        self.made.append((model, threshold))

    def setInputSize(self, size):  # noqa: N802
        self.size = size

    def detect(self, bgr):
        assert self.size == (bgr.shape[1], bgr.shape[0]) and bgr.flags.c_contiguous
        rgb = bgr[:, :, ::-1]
        if not sees_a_face(rgb):
            return 0, None
        points = find(rgb).ravel()
        large = [10, 10, 60, 80, *points, 0.97]
        small = [0, 0, 20, 30, *np.zeros(10), 0.99]
        return 1, np.array([small, large], dtype=np.float32)


def install_yunet(monkeypatch):
    """Puts the stand-in into cv2."""
    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=Detector))


class Landmarker:
    """A FaceLandmarker whose landmarks are those that `see` [478, 2] says of a picture, normalised,
    or None."""

    options = []

    def __init__(self, see):
        self.see = see

    def create_from_options(self, options):
        self.options.append(options)
        return self

    def detect(self, image):
        assert image.image_format == "SRGB" and image.data.dtype == np.uint8
        mesh = self.see(image.data)
        faces = [] if mesh is None else [[SimpleNamespace(x=x, y=y, z=0.0) for x, y in mesh]]
        return SimpleNamespace(face_landmarks=faces)


def install_mediapipe(monkeypatch, see):
    """Makes modules of those names that are importable."""
    root, tasks, python = ModuleType("mediapipe"), ModuleType("tasks"), ModuleType("python")
    vision = ModuleType("vision")
    root.__version__ = "0.0"
    root.ImageFormat = SimpleNamespace(SRGB="SRGB")
    root.Image = lambda image_format, data: SimpleNamespace(image_format=image_format, data=data)
    python.BaseOptions = lambda model_asset_path: SimpleNamespace(path=model_asset_path)
    python.vision, tasks.python, root.tasks = vision, python, tasks
    vision.FaceLandmarkerOptions = SimpleNamespace
    vision.FaceLandmarker = Landmarker(see)
    names = ["mediapipe", "mediapipe.tasks", "mediapipe.tasks.python"]
    for name, module in zip(
        [*names, "mediapipe.tasks.python.vision"], [root, tasks, python, vision], strict=True
    ):
        monkeypatch.setitem(sys.modules, name, module)
