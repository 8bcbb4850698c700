"""The adapters of YuNet and MediaPipe, with stand-ins for both."""

import hashlib
import sys

import numpy as np
import pytest

from dataset_preprocessing.faces.estimators import Face, main_face, open_estimator
from dataset_preprocessing.faces.steps import PreprocessingError
from tests.dataset_preprocessing.faces.heads import MODEL, draw, seen_from

cv2 = pytest.importorskip("cv2")
from tests.dataset_preprocessing.faces import stand_ins  # noqa: E402


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Estimators are not kept from one test to the next."""
    open_estimator.cache_clear()
    yield
    open_estimator.cache_clear()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize("size", [(300, 200), (1300, 1100)])
def test_yunet(size, model, monkeypatch):
    """Landmarks in pixels of the picture, however small the network sees it; largest face first."""
    stand_ins.install_yunet(monkeypatch)
    scale = size[1] / 3
    points = seen_from(MODEL, scale, (0.1, 0.3, 0.2), np.array(size) / 2, height=size[1])
    pixels = draw(points, size, radius=size[1] / 70)
    estimator = open_estimator("yunet", str(model))
    faces = estimator.faces(pixels)
    face = main_face(faces)
    assert len(faces) == 2 and np.abs(face.points - points).max() < 0.3 * max(size) / 300
    assert face.confidence == pytest.approx(0.97)
    shrunk = min(1, 1024 / size[0])
    assert face.size == pytest.approx(140 / shrunk, rel=0.01)
    assert estimator.faces(np.zeros((50, 60, 3), np.uint8)) == []
    record = estimator.record()
    assert record["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert record["file"] == "model.onnx" and record["opencv"] == cv2.__version__


def test_yunet_gets_bgr_and_a_low_threshold(model, monkeypatch):
    """The largest face decides, not the most certain one."""
    stand_ins.install_yunet(monkeypatch)
    stand_ins.Detector.made.clear()
    open_estimator("yunet", str(model))
    assert stand_ins.Detector.made == [(str(model), 0.5)]


def test_pixels_of_a_large_picture(model, monkeypatch):
    """A quarter of 4096: the middle of the pixel 10 is that of the pixels 40 to 43."""
    stand_ins.install_yunet(monkeypatch)
    row = np.array([0, 0, 100, 50, *[10.0, 20] * 5, 0.95], dtype=np.float32)
    monkeypatch.setattr(stand_ins.Detector, "detect", lambda self, bgr: (1, row[None]))
    (found,) = open_estimator("yunet", str(model)).faces(np.zeros((2048, 4096, 3), np.uint8))
    assert np.allclose(found.points, [[41.5, 81.5]] * 5) and found.size == 600


def test_mediapipe(model, monkeypatch):
    mesh = np.random.RandomState(0).rand(478, 2)
    stand_ins.install_mediapipe(monkeypatch, lambda pixels: mesh if pixels.any() else None)
    estimator = open_estimator("mediapipe", str(model))
    (face,) = estimator.faces(np.ones((100, 200, 3), np.uint8))
    assert np.allclose(face.mesh, mesh * [200, 100] - 0.5)
    assert np.allclose(face.points[0], (face.mesh[33] + face.mesh[133]) / 2)
    assert np.allclose(face.points[1], (face.mesh[362] + face.mesh[263]) / 2)
    assert np.allclose(face.points[2:], face.mesh[[4, 61, 291]])
    assert estimator.faces(np.zeros((100, 200, 3), np.uint8)) == []
    assert estimator.record()["mediapipe"] == "0.0"
    options = stand_ins.Landmarker.options[-1]
    assert options.base_options.path == str(model)
    assert options.min_face_detection_confidence == 0.9


@pytest.mark.parametrize(
    "kind, hint", [("yunet", "opencv_zoo"), ("mediapipe", "face_landmarker.task")]
)
def test_no_model_file(kind, hint, tmp_path):
    with pytest.raises(PreprocessingError) as error:
        open_estimator(kind, str(tmp_path / "x.bin"))
    message = str(error.value)
    assert "x.bin: no such file; get " in message and hint in message and "\n" not in message


def test_model_file_of_something_else(model):
    """Said by OpenCV itself."""
    with pytest.raises(PreprocessingError, match="model.onnx: not a model of YuNet"):
        open_estimator("yunet", str(model))


@pytest.mark.parametrize(
    "kind, line",
    [("yunet", "pip install opencv-python-headless"), ("mediapipe", "pip install mediapipe")],
)
def test_not_installed(kind, line, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2" if kind == "yunet" else "mediapipe", None)
    with pytest.raises(PreprocessingError, match=line):
        open_estimator(kind, str(model))


def face(size, confidence):
    return Face(np.zeros((5, 2)), size, confidence)


def test_main_face():
    assert main_face([face(10, 0.99), face(20, 0.95), face(5, 1.0)]).size == 20
    with pytest.raises(PreprocessingError, match="no face found"):
        main_face([])
    with pytest.raises(PreprocessingError, match="confidence of 0.90, must be above 0.9"):
        main_face([face(10, 0.99), face(20, 0.9)])
