"""From photographs to a dataset, with heads of which the cameras are known."""

import json
import zipfile

import numpy as np
import pytest
import scipy.io
from PIL import Image
from scipy.spatial.transform import Rotation

from dataset_preprocessing.cameras.deep3dface import camera_of, to_radius
from dataset_preprocessing.faces import mediapipe_model
from dataset_preprocessing.faces.estimators import open_estimator
from dataset_preprocessing.faces.landmarks import format_points, read_points
from dataset_preprocessing.ffhq import inthewild
from tests.dataset_preprocessing.faces.heads import MODEL, draw, find, save, seen_from, write_model
from training.dataset import ImageFolderDataset

pytest.importorskip("cv2")
from tests.dataset_preprocessing.faces import stand_ins  # noqa: E402

SIZE = (200, 180)
ANGLES = [np.array(a) for a in [(0.1, -0.3, 0.05), (0, 0.2, 0), (-0.1, 0.4, 0.1)]]


def landmarks(number):
    return seen_from(MODEL, 70, ANGLES[number], (100, 95), height=SIZE[1])


@pytest.fixture(autouse=True)
def fresh():
    open_estimator.cache_clear()
    yield
    open_estimator.cache_clear()


@pytest.fixture
def photographs(tmp_path):
    """Three heads and a picture without any; the model files of the estimators."""
    folder = tmp_path / "photos"
    for number, suffix in enumerate([".png", ".png", ".jpg"]):
        pixels = draw(landmarks(number), SIZE, radius=2.5)
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"head.{number}{suffix}", quality=98, subsampling=0)
    save(np.full((50, 60, 3), 20, np.uint8), folder / "nobody.png")
    write_model(tmp_path / "similarity_Lm3D_all.mat")
    (tmp_path / "yunet.onnx").write_bytes(b"yunet")
    (tmp_path / "face.task").write_bytes(b"mediapipe")
    return folder


@pytest.fixture
def arguments(photographs, tmp_path):
    lm3d = f"--lm3d={tmp_path / 'similarity_Lm3D_all.mat'}"
    return ["inthewild", f"--indir={photographs}", f"--dest={tmp_path / 'out.zip'}", lm3d]


@pytest.fixture
def yunet(monkeypatch, tmp_path):
    stand_ins.install_yunet(monkeypatch)
    return f"--landmark-model={tmp_path / 'yunet.onnx'}"


@pytest.fixture
def results(tmp_path):
    """What Deep3DFaceRecon would say of the heads."""
    folder = tmp_path / "results"
    folder.mkdir()
    for number, angle in enumerate(ANGLES):
        scipy.io.savemat(folder / f"head.{number}.mat", dict(angle=[angle], trans=[[0, 0, 0]]))
    return folder


def labels_of(path):
    with zipfile.ZipFile(path) as archive:
        content = json.loads(archive.read("dataset.json"))
    return np.array([label for _, label in content["labels"]]), content["provenance"]


def expected(number, mode="orig"):
    return to_radius(camera_of(ANGLES[number], np.zeros(3)), mode)


def test_step_by_step(photographs, arguments, yunet, results, tmp_path, run, refused):
    """Detections and crops first; then, with the results of the other program, the dataset."""
    message = refused(*arguments, yunet)
    assert "left out: nobody: no face found" in message
    assert "3 crops are in" in message and f"--img_folder={photographs}" in message
    assert not (tmp_path / "out.zip").exists()
    for number in range(3):
        found = read_points(photographs / "detections" / f"head.{number}.txt")
        assert np.abs(found - landmarks(number)).max() < 0.4
    output = run(*arguments, yunet, f"--results={results}")
    assert "6 pictures" in output
    labels, provenance = labels_of(tmp_path / "out.zip")
    for number in range(3):  # head.0, head.0_mirror, head.1, ...
        assert np.allclose(labels[2 * number, :16].reshape(4, 4), expected(number))
    assert provenance["landmarks"]["estimator"] == "YuNet"
    assert provenance["pose"]["estimator"] == "Deep3DFaceRecon"
    assert provenance["crop"]["file"] == "similarity_Lm3D_all.mat"
    data = ImageFolderDataset(tmp_path / "out.zip", resolution=512, use_labels=True)
    assert np.array_equal(data[1][0], data[0][0][:, :, ::-1])
    assert np.allclose(data.get_label(1)[3], -data.get_label(0)[3])


def test_landmarks_land_where_the_camera_sees_them(
    photographs, arguments, yunet, results, run, tmp_path
):
    """The whole chain: a point of the model, through the label, on its dot in the picture."""
    run(*arguments, yunet, f"--results={results}")
    data = ImageFolderDataset(tmp_path / "out.zip", use_labels=True)
    for item, number in ((0, 0), (2, 1)):
        image, label = data[item]
        pose, lens = camera_of(ANGLES[number], np.zeros(3)), label[16:].reshape(3, 3)
        world = 0.27 * MODEL + (0, 0.006, 0.161)
        seen = (world - pose[:3, 3]) @ pose[:3, :3] @ lens.T
        dots = find(image.transpose(1, 2, 0))
        # The crop is made for a camera that is far away; this one is 10 units from the face.
        error = seen[:, :2] / seen[:, 2:] * 512 - 0.5 - dots
        assert np.abs(error).max() < 6


def test_mode(photographs, arguments, yunet, results, tmp_path, run):
    run(*arguments, yunet, f"--results={results}", "--mode=cor")
    labels, provenance = labels_of(tmp_path / "out.zip")
    assert np.allclose(labels[0, :16].reshape(4, 4), expected(0, "cor"))
    assert provenance["distance"] == "cor"


def test_detections_of_another_program(photographs, arguments, results, tmp_path, run):
    """Files of MTCNN are used as they are; a face more or less shifts no pairs."""
    (photographs / "detections").mkdir()
    for number in (0, 2):
        text = format_points(landmarks(number))
        (photographs / "detections" / f"head.{number}.txt").write_bytes(text)
    assert "4 pictures" in run(*arguments, "--landmarks=files", f"--results={results}")
    labels, provenance = labels_of(tmp_path / "out.zip")
    assert np.allclose(labels[2, :16].reshape(4, 4), expected(2))
    assert provenance["landmarks"] == dict(estimator="files")


def mesh_of(pixels):
    """What MediaPipe would see: the canonical face from the camera whose dots are in a crop."""
    if not stand_ins.sees_a_face(pixels):
        return None
    dots = find(pixels)
    best = min(range(3), key=lambda k: np.abs(_projected(MODEL, k) - dots).max())
    mesh = np.zeros((478, 2))
    points = _projected(mediapipe_model.model_points(MODEL), best)
    mesh[mediapipe_model.NUMBERS] = (points + 0.5) / 512
    return mesh


def _projected(model, number):
    turned = Rotation.from_euler("xyz", ANGLES[number]).apply(model)
    scale = 512 * 2985.29 / 700 / (10 - turned[:, 2])
    return np.stack([256 + scale * turned[:, 0], 256 - scale * turned[:, 1]], axis=1) - 0.5


def test_mediapipe(photographs, arguments, yunet, monkeypatch, tmp_path, run):
    """Poses of its landmarks by PnP are those that the heads have."""
    stand_ins.install_mediapipe(monkeypatch, mesh_of)
    task = f"--pose-model={tmp_path / 'face.task'}"
    output = run(*arguments, yunet, "--pose=mediapipe", task)
    assert "6 pictures" in output
    labels, provenance = labels_of(tmp_path / "out.zip")
    for number in range(3):
        assert np.allclose(labels[2 * number, :16].reshape(4, 4), expected(number), atol=1e-4)
    assert provenance["pose"]["estimator"] == "MediaPipe"
    assert provenance["pose"]["file"] == "face.task"


def test_mediapipe_for_landmarks(photographs, arguments, monkeypatch, tmp_path, refused):
    def see(pixels):
        if not stand_ins.sees_a_face(pixels):
            return None
        five = (find(pixels) + 0.5) / [pixels.shape[1], pixels.shape[0]]
        mesh = np.tile(five.mean(0), (478, 1))
        for place, numbers in enumerate(([33, 133], [362, 263], [4], [61], [291])):
            mesh[numbers] = five[place]
        return mesh

    stand_ins.install_mediapipe(monkeypatch, see)
    task = f"--landmark-model={tmp_path / 'face.task'}"
    assert "3 crops" in refused(*arguments, "--landmarks=mediapipe", task)
    found = read_points(photographs / "detections" / "head.1.txt")
    assert np.abs(found - landmarks(1)).max() < 0.4


@pytest.mark.parametrize("step", ["make_detection", "make_crop"])
def test_interruption(step, arguments, yunet, results, tmp_path, monkeypatch, run):
    """Anywhere: the same command goes on, to the same bytes."""
    line = [*arguments, yunet, f"--results={results}"]
    make, made = getattr(inthewild, step), []

    def stopping(job):
        if len(made) == 1:
            made.append("stopped")
            raise KeyboardInterrupt
        made.append(job["picture"])
        return make(job)

    monkeypatch.setattr(inthewild, step, stopping)
    with pytest.raises(AssertionError):
        run(*line)
    run(*line)
    assert len(made) == (5 if step == "make_detection" else 4)  # none twice
    monkeypatch.undo()
    first = (tmp_path / "out.zip").read_bytes()
    (tmp_path / "out.zip").unlink()
    run(*line)
    assert (tmp_path / "out.zip").read_bytes() == first


def test_a_folder_as_destination(arguments, yunet, results, tmp_path, run):
    run(*arguments, yunet, f"--results={results}", f"--dest={tmp_path / 'folder'}")
    data = ImageFolderDataset(tmp_path / "folder", use_labels=True)
    assert len(data) == 6


def test_results_that_lack(arguments, yunet, results, tmp_path, run, refused):
    (results / "head.1.mat").unlink()
    line = [*arguments, yunet, f"--results={results}"]
    message = refused(*line)
    assert "has no head.1.mat" in message and not (tmp_path / "out.zip").exists()
    output = run(*line, "--on-error=skip")
    assert "4 pictures" in output and "left out:" in output


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "--landmark-model: name the model file of yunet"),
        (["--landmark-model=nothing.onnx"], "nothing.onnx: no such file; get"),
        (["--landmarks=files"], "detections: no such folder"),
        (["--pose=mediapipe"], "--pose-model: name the model file of mediapipe"),
        (["--lm3d=nothing.mat"], "nothing.mat: no such file; it is similarity_Lm3D_all.mat"),
        (["--indir=nowhere"], "nowhere: no such folder"),
    ],
)
def test_refused(options, message, photographs, arguments, refused, tmp_path):
    """In one line, before anything is made."""
    output = refused(*arguments, *options)
    assert message in output and output.count("\n") == 1
    assert sorted(path.name for path in photographs.iterdir() if path.is_dir()) == []


def test_destination_is_there(arguments, tmp_path, refused):
    (tmp_path / "out.zip").touch()
    assert "is there already" in refused(*arguments)


def test_turned_photographs(photographs, arguments, yunet, refused):
    """Deep3DFaceRecon does not heed EXIF, so that its poses would be of other pictures."""
    for name in ("a.jpg", "b.jpg"):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (30, 20)).save(photographs / name, exif=exif)
    message = refused(*arguments, yunet)
    assert "2 problems, Deep3DFaceRecon sees pictures as they are stored" in message


def test_broken_detections(photographs, arguments, refused):
    (photographs / "detections").mkdir()
    (photographs / "detections" / "head.0.txt").write_text("1 2")
    (photographs / "detections" / "gone.txt").write_bytes(format_points(landmarks(0)))
    message = refused(*arguments, "--landmarks=files")
    assert "2 problems" in message and "must have five lines" in message
    assert "there is no picture gone in" in message
