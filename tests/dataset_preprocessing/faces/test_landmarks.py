"""Five landmarks: of 68, of a model file, in text files."""

import numpy as np
import pytest
import scipy.io

from dataset_preprocessing.faces import landmarks
from dataset_preprocessing.faces.steps import PreprocessingError
from tests.dataset_preprocessing.faces.heads import MODEL, write_model


def test_five_of_68():
    """One by one: contours of six points, 1-based numbers 37 to 42 and 43 to 48, and 31, 49, 55."""
    points = np.random.RandomState(0).randn(68, 2)
    found = landmarks.five_of_68(points)
    left = sum(points[k] for k in (36, 37, 38, 39, 40, 41)) / 6
    right = sum(points[k] for k in (42, 43, 44, 45, 46, 47)) / 6
    for row, wanted in zip(found, [left, right, points[30], points[48], points[54]], strict=True):
        assert np.allclose(row, wanted)


def test_five_of_a_model():
    """1-based numbers 37 and 40, 43 and 46 for the eyes."""
    points = np.random.RandomState(1).randn(68, 3)
    found = landmarks.five_of_model(points)
    eyes = [(points[36] + points[39]) / 2, (points[42] + points[45]) / 2]
    for row, wanted in zip(found, [*eyes, points[30], points[48], points[54]], strict=True):
        assert np.allclose(row, wanted)


def test_model_file(tmp_path):
    found = landmarks.read_model(write_model(tmp_path / "similarity_Lm3D_all.mat"))
    assert np.allclose(found, MODEL)


def test_no_model_file(tmp_path):
    with pytest.raises(PreprocessingError, match=r"all.mat: no such file; it is .* --lm3d"):
        landmarks.read_model(tmp_path / "similarity_Lm3D_all.mat")


@pytest.mark.parametrize("kind", ["text", "empty", "two", "nan"])
def test_broken_model_file(kind, tmp_path):
    path = tmp_path / "x.mat"
    points = np.zeros((68, 3))
    if kind == "text":
        path.write_text("not a .mat")
    elif kind == "nan":
        scipy.io.savemat(path, dict(lm=points * np.nan))
    else:
        scipy.io.savemat(path, dict(lm=points, other=points) if kind == "two" else dict(lm=0))
    with pytest.raises(PreprocessingError, match="x.mat: "):
        landmarks.read_model(path)


def test_text_files(tmp_path):
    points = np.random.RandomState(2).randn(5, 2) * 300
    (tmp_path / "a.txt").write_bytes(landmarks.format_points(points))
    assert np.allclose(landmarks.read_points(tmp_path / "a.txt"), points, atol=1e-4)


@pytest.mark.parametrize(
    "text", ["", "1 2\n" * 4, "1 2\n" * 6, "1 2 3\n" * 5, "a b\n" * 5, "nan 1\n" * 5]
)
def test_broken_text_files(text, tmp_path):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(PreprocessingError, match="^must have five lines 'x y': left eye"):
        landmarks.read_points(tmp_path / "a.txt")
