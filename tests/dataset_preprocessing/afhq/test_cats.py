"""AFHQ's cats: from a zip of the published layout to a dataset."""

import io
import json
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.spatial.transform import Rotation

from dataset_preprocessing.afhq import cats
from dataset_preprocessing.afhq.__main__ import main
from dataset_preprocessing.conversion.convert import Recipe, convert
from dataset_preprocessing.faces.labels import label_of, mirrored_label
from training.dataset import ImageFolderDataset

NAMES = ["flickr_cat_000002.png", "pixabay_cat_000010.png"]
ROTATIONS = Rotation.from_euler("yxz", [[0.3, 3.0, 0.1], [-0.5, 3.3, 0]]).as_matrix()


def png(value):
    buffer = io.BytesIO()
    pixels = np.random.RandomState(value).randint(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


@pytest.fixture(params=["", "afhq_v2/"])
def afhq(request, tmp_path):
    path = tmp_path / "afhq.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{request.param}train/cat/", b"")
        for k, name in enumerate(NAMES):
            archive.writestr(f"{request.param}train/cat/{name}", png(k))
        archive.writestr(f"{request.param}train/dog/{NAMES[0]}", png(7))
        archive.writestr(f"{request.param}test/cat/{NAMES[0]}", png(8))
    return path


@pytest.fixture
def rotations(tmp_path):
    path = tmp_path / "cameras.json"
    stems = [name.removesuffix(".png") for name in NAMES]
    content = dict(zip(stems, ROTATIONS.tolist(), strict=True))
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def hosted(tmp_path):
    path = tmp_path / "dataset.json"
    labels = [[name, label_of(cats.pose_of_rotation(ROTATIONS[k]))] for k, name in enumerate(NAMES)]
    path.write_text(json.dumps(dict(labels=labels)))
    return path


@pytest.fixture
def small(monkeypatch):
    """Datasets of 16 x 16."""

    def smaller(folder, outzip, given, **options):
        assert given.size == (512, 512)
        return convert(folder, outzip, Recipe(size=(16, 16)), **options)

    monkeypatch.setattr("dataset_preprocessing.afhq.__main__.convert", smaller)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_camera_looks_at_the_origin_from_its_distance():
    for rotation in ROTATIONS:
        pose = cats.pose_of_rotation(rotation)
        assert np.linalg.norm(pose[:3, 3]) == pytest.approx(2.7)
        assert np.allclose(pose[:3, 3] + 2.7 * pose[:3, 2], 0)
        assert np.array_equal(pose[:3, :3], rotation)


@pytest.mark.parametrize("kind", ["hosted", "rotations"])
def test_dataset(kind, afhq, request, small, tmp_path):
    path = request.getfixturevalue(kind)
    option = f"--labels={path}" if kind == "hosted" else f"--cameras={path}"
    done = run(afhq, tmp_path / "cats.zip", option)
    assert done.exit_code == 0 and "4 pictures" in done.output, done.output
    data = ImageFolderDataset(tmp_path / "cats.zip", use_labels=True)
    assert len(data) == 4 and data.resolution == 16
    for k in range(2):  # a cat, its mirror image, the next cat
        label = label_of(cats.pose_of_rotation(ROTATIONS[k]))
        assert np.allclose(data.get_label(2 * k), label, atol=1e-6)
        assert np.allclose(data.get_label(2 * k + 1), mirrored_label(label), atol=1e-6)
        assert label[16] == pytest.approx(4.2647, abs=1e-5)
        image = Image.open(io.BytesIO(png(k))).resize((16, 16), Image.Resampling.LANCZOS)
        assert np.array_equal(data[2 * k][0].transpose(1, 2, 0), np.array(image))
    folder = tmp_path / "cats_pictures"
    assert (folder / NAMES[0]).read_bytes() == png(0)


def test_default_name(afhq, hosted, small, tmp_path, monkeypatch):
    """As published, in the current folder; the labels are looked for there, too."""
    monkeypatch.chdir(tmp_path)
    assert run(afhq).exit_code == 0
    assert (tmp_path / "processed_afhq.zip").is_file()


def test_mirrored_entries_of_hosted_labels_are_made_anew(afhq, hosted):
    content = json.loads(hosted.read_text())
    stem = NAMES[0].removesuffix(".png")
    wanted = mirrored_label(content["labels"][0][1])
    content["labels"].append([f"{stem}_mirror.png", content["labels"][1][1]])
    hosted.write_text(json.dumps(content))
    step = cats.cats_step(afhq, cats.hosted_labels(hosted))
    files = step.closing([NAMES[0], f"{stem}_mirror.png"])
    assert json.loads(files["dataset.json"])["labels"][1] == [f"{stem}_mirror.png", wanted]


def test_cats_without_labels(afhq, hosted, small, tmp_path):
    content = json.loads(hosted.read_text())
    del content["labels"][0]
    hosted.write_text(json.dumps(content))
    line = (afhq, tmp_path / "cats.zip", f"--labels={hosted}")
    message = refusal(*line)
    assert "1 problem" in message and f"{NAMES[0]}: there is no label for it" in message
    done = run(*line, "--on-error=skip")
    assert "2 pictures" in done.output and f"left out: {NAMES[0]}" in done.output


def test_interruption(afhq, hosted, small, tmp_path, monkeypatch):
    make, made = cats.make_cat, []

    def stopping(job):
        if len(made) == 3:
            made.append("stopped")
            raise KeyboardInterrupt
        made.append(job["member"])
        return make(job)

    monkeypatch.setattr(cats, "make_cat", stopping)
    line = (afhq, tmp_path / "cats.zip", f"--labels={hosted}")
    assert run(*line).exit_code != 0 and not (tmp_path / "cats_pictures").exists()
    assert run(*line).exit_code == 0 and len(made) == 5
    again = (afhq, tmp_path / "again.zip", f"--labels={hosted}")
    assert run(*again).exit_code == 0
    assert (tmp_path / "cats.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()


def refusal(*arguments):
    done = run(*arguments)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    return done.output


def test_refused(afhq, hosted, rotations, tmp_path):
    out = tmp_path / "cats.zip"
    missing = refusal(afhq, out, f"--labels={tmp_path / 'x.json'}")
    assert "x.json: no such file; it is the dataset.json" in missing
    assert "y.json: no such file" in refusal(afhq, out, f"--cameras={tmp_path / 'y.json'}")
    content = json.loads(rotations.read_text())
    first, second = content
    rotations.write_text(json.dumps({first: [1, 2], second: np.diag([1, 1, -1]).tolist()}))
    message = refusal(afhq, out, f"--cameras={rotations}")
    assert "2 problems" in message and f"{first}: rotation must be 3 x 3" in message
    assert f"{second}: rotation of the camera pose is a reflection" in message
    rotations.write_text("{}")
    assert "cameras.json: must be JSON" in refusal(afhq, out, f"--cameras={rotations}")
    rotations.write_text(json.dumps({"another": np.eye(3).tolist()}))
    message = refusal(afhq, out, f"--cameras={rotations}")
    assert "2 problems" in message and f"{NAMES[1]}: there is no label for it" in message
    with zipfile.ZipFile(tmp_path / "dogs.zip", "w") as archive:
        archive.writestr("train/dog/a.png", png(0))
    assert "has no pictures in train/cat" in refusal(
        tmp_path / "dogs.zip", out, f"--labels={hosted}"
    )
    assert "dogs.png: must be the name of a .zip" in refusal(afhq, tmp_path / "dogs.png")
    assert not out.exists() and not (tmp_path / "cats_pictures").exists()
