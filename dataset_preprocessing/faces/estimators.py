"""Programs that find faces, behind one small interface.

An `Estimator` gives the faces of a picture, and says what a dataset should record of it. Nothing is
imported or opened before it is asked for.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dataset_preprocessing.faces.mediapipe_model import five_of_mesh
from dataset_preprocessing.faces.poses import load_opencv
from dataset_preprocessing.faces.steps import PreprocessingError, fingerprint
from dnnlib.util import one_line

CONFIDENT = 0.9  # faces that are less certain are not taken
_LONGEST = 1024  # pixels: what YuNet sees of a larger picture is made so large


@dataclass(frozen=True, eq=False)
class Face:
    """One face: landmarks [5, 2], width plus height of its box, confidence from 0 to 1, and the
    mesh of all landmarks [M, 2], where there is one; in pixels from the centre of the first."""

    points: np.ndarray
    size: float
    confidence: float
    mesh: np.ndarray | None = None


class Estimator(Protocol):
    """What finds faces."""

    def faces(self, pixels: np.ndarray) -> list[Face]:
        """All faces in a picture uint8 [H, W, 3]."""

    def record(self) -> dict[str, Any]:
        """What it is: plain values for a dataset."""


class YuNet:
    """YuNet (Wu et al. 2023) as OpenCV runs it. Raises PreprocessingError if there is no OpenCV, or
    no model."""

    hint = (
        "face_detection_yunet_2023mar.onnx of https://github.com/opencv/opencv_zoo, in "
        "models/face_detection_yunet"
    )

    def __init__(self, model: Path):
        self._cv2, self._model = load_opencv(), model
        try:
            self._detector = self._cv2.FaceDetectorYN.create(str(model), "", (320, 320), 0.5)
        except self._cv2.error as error:
            raise PreprocessingError(f"{model}: not a model of YuNet ({error.err})") from None

    def faces(self, pixels: np.ndarray) -> list[Face]:
        """All faces with a confidence of at least 0.5."""
        height, width = pixels.shape[:2]
        factor = min(1.0, _LONGEST / max(height, width))
        size = max(round(width * factor), 1), max(round(height * factor), 1)
        small = self._cv2.resize(pixels, size, interpolation=self._cv2.INTER_AREA)
        self._detector.setInputSize(size)
        _, rows = self._detector.detect(np.ascontiguousarray(small[:, :, ::-1]))
        if rows is None:
            return []
        back = np.array([width / size[0], height / size[1]])
        faces = []
        for row in np.asarray(rows, dtype=np.float64):
            # The right eye of the person, which OpenCV names first, is on the left of the picture.
            points = (row[4:14].reshape(5, 2) + 0.5) * back - 0.5
            faces.append(Face(points, float((row[2:4] * back).sum()), float(row[14])))
        return faces

    def record(self) -> dict[str, Any]:
        """Model file and version."""
        return dict(estimator="YuNet", opencv=self._cv2.__version__, **fingerprint(self._model))


class MediaPipe:
    """The FaceLandmarker of MediaPipe tasks (Google). Raises PreprocessingError if there is no
    MediaPipe, or no model."""

    hint = (
        "face_landmarker.task of "
        "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker"
    )

    def __init__(self, model: Path):
        try:
            import mediapipe
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision
        except ImportError:
            raise PreprocessingError(
                "MediaPipe is not installed: run `pip install mediapipe`"
            ) from None
        self._mediapipe, self._model = mediapipe, model
        options = vision.FaceLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_path=str(model)),
            num_faces=10,
            min_face_detection_confidence=CONFIDENT,
        )
        try:
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            reason = one_line(error)
            raise PreprocessingError(f"{model}: not a model of MediaPipe ({reason})") from None

    def faces(self, pixels: np.ndarray) -> list[Face]:
        """All faces that are certain enough, which is all that MediaPipe says of them."""
        kind = self._mediapipe.ImageFormat.SRGB
        image = self._mediapipe.Image(image_format=kind, data=np.ascontiguousarray(pixels))
        size = np.array([pixels.shape[1], pixels.shape[0]])
        faces = []
        for landmarks in self._landmarker.detect(image).face_landmarks:
            mesh = np.array([[point.x, point.y] for point in landmarks]) * size - 0.5
            faces.append(Face(five_of_mesh(mesh), float(np.ptp(mesh, axis=0).sum()), 1.0, mesh))
        return faces

    def record(self) -> dict[str, Any]:
        """Model file and version."""
        version = self._mediapipe.__version__
        return dict(estimator="MediaPipe", mediapipe=version, **fingerprint(self._model))


ESTIMATORS = {"yunet": YuNet, "mediapipe": MediaPipe}


@lru_cache(maxsize=4)  # processes that make many pictures open it once
def open_estimator(kind: str, model: str) -> Estimator:
    """The estimator, a key of `ESTIMATORS`, with its model file. Raises PreprocessingError."""
    estimator, path = ESTIMATORS[kind], Path(model)
    if not path.is_file():
        raise PreprocessingError(f"{path}: no such file; get {estimator.hint}, and put it there")
    return estimator(path)


def main_face(faces: list[Face]) -> Face:
    """The largest face. Raises PreprocessingError if there is none, or it is not certain."""
    if not faces:
        raise PreprocessingError("no face found")
    face = max(faces, key=lambda face: face.size)
    if not face.confidence > CONFIDENT:
        raise PreprocessingError(
            f"its largest face has a confidence of {face.confidence:.2f}, must be above {CONFIDENT}"
        )
    return face
