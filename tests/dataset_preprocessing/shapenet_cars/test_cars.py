"""ShapeNet's cars: from the layout of Scene Representation Networks to a dataset."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from dataset_preprocessing.shapenet_cars.__main__ import main
from dataset_preprocessing.shapenet_cars.cars import label_cars
from training.cameras import Z_UP, look_at
from training.dataset import ImageFolderDataset

SCENES, VIEWS = ("1a", "png_rgb"), 3  # the second is a name that text replacement would break


def pose(scene, view):
    angle = 0.4 + scene + 2 * view
    place = torch.tensor([[np.cos(angle), np.sin(angle), 0.5]], dtype=torch.float64) * 1.3
    return look_at(place, (0.0, 0.0, 0.0), Z_UP)[0].numpy()


def png(seed, mode="RGB"):
    pixels = np.random.RandomState(seed).randint(0, 256, (32, 32, len(mode)), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


@pytest.fixture
def cars(tmp_path):
    folder = tmp_path / "cars_train"
    for k, scene in enumerate(SCENES):
        for part in ("rgb", "pose"):
            (folder / scene / part).mkdir(parents=True)
        (folder / scene / "intrinsics.txt").write_text("525. 256. 256. 0.\n0. 0. 0.\n1.\n512 512\n")
        for view in range(VIEWS):
            (folder / scene / "rgb" / f"{view:06d}.png").write_bytes(png(10 * k + view))
            text = " ".join(map(repr, pose(k, view).ravel().tolist()))
            (folder / scene / "pose" / f"{view:06d}.txt").write_text(text)
    return folder


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def check(path, resolution=128):
    data = ImageFolderDataset(path, resolution=resolution, use_labels=True)
    assert len(data) == len(SCENES) * VIEWS
    for item in range(len(data)):
        scene, view = divmod(item, VIEWS)
        label = data.get_label(item)
        assert np.allclose(label[:16].reshape(4, 4), pose(scene, view), atol=1e-6)
        assert label[16:].tolist() == [1.025390625, 0, 0.5, 0, 1.025390625, 0.5, 0, 0, 1]
        original = Image.open(io.BytesIO(png(10 * scene + view)))
        wanted = np.array(original.resize((resolution, resolution), Image.Resampling.LANCZOS))
        assert np.array_equal(data[item][0].transpose(1, 2, 0), wanted)


def test_dataset(cars, tmp_path):
    done = run(f"--source={cars}", f"--dest={tmp_path / 'cars.zip'}")
    assert done.exit_code == 0 and "6 pictures" in done.output, done.output
    check(tmp_path / "cars.zip")
    cameras = json.loads((cars / "cameras.json").read_text())
    assert list(cameras)[-1] == "png_rgb/rgb/000002.png"
    entry = cameras["png_rgb/rgb/000002.png"]
    assert np.allclose(entry["pose"], pose(1, 2)) and entry["scene-name"] == "png_rgb"
    assert entry["intrinsics"][0] == [1.025390625, 0, 0.5]


def test_zip(cars, tmp_path):
    """Unpacked beside itself; again, without doing it again."""
    inner, packed = tmp_path / "cars_train.zip", {}
    for path in sorted(p for p in cars.rglob("*") if p.is_file()):
        packed[path.relative_to(tmp_path).as_posix()] = path.read_bytes()
        path.unlink()
    with zipfile.ZipFile(inner, "w") as archive:
        for name, content in packed.items():
            archive.writestr(name, content)
    (tmp_path / "new").mkdir()
    source = inner.rename(tmp_path / "new" / inner.name)
    for name, there in (("a.zip", False), ("b.zip", True)):
        done = run(f"--source={source}", f"--dest={tmp_path / name}", "--resolution=16")
        assert done.exit_code == 0 and ("which were there" in done.output) == there, done.output
        check(tmp_path / name, 16)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_max_images(cars, tmp_path):
    done = run(f"--source={cars}", f"--dest={tmp_path / 'c.zip'}", "--max_images=2")
    assert "2 pictures" in done.output


def test_transparent_is_white(cars, tmp_path):
    """White is what the published renders have behind the cars."""
    buffer = io.BytesIO()
    Image.new("RGBA", (32, 32), (255, 255, 255, 0)).save(buffer, format="png")
    (cars / "1a" / "rgb" / "000000.png").write_bytes(buffer.getvalue())
    run(f"--source={cars}", f"--dest={tmp_path / 'c.zip'}", "--resolution=8")
    assert (ImageFolderDataset(tmp_path / "c.zip")[0][0] == 255).all()


def test_intrinsics_of_another_size(cars, tmp_path):
    for scene in SCENES:
        (cars / scene / "intrinsics.txt").write_text("131.25 64. 64. 0.\n")
    done = run(f"--source={cars}", f"--dest={tmp_path / 'c.zip'}")
    assert done.exit_code == 1 and "2 problems" in done.output
    assert "64, 64 is not in the middle of 512 pixels; --intrinsics-size" in done.output
    line = (f"--source={cars}", f"--dest={tmp_path / 'c.zip'}", "--intrinsics-size=128")
    assert run(*line).exit_code == 0
    check(tmp_path / "c.zip")


def test_all_problems_are_told(cars, tmp_path):
    (cars / "1a" / "pose" / "000000.txt").unlink()
    (cars / "1a" / "pose" / "000001.txt").write_text("1 2 3")
    (cars / "1a" / "pose" / "000002.txt").write_text("x")
    (cars / "png_rgb" / "intrinsics.txt").write_text("525")
    (cars / "png_rgb" / "pose" / "000001.txt").write_text("nan " * 16)
    done = run(f"--source={cars}", f"--dest={tmp_path / 'c.zip'}")
    assert done.exit_code == 1 and not (tmp_path / "c.zip").exists()
    for line in ["5 problems", "000000.txt: no such file", "has 3 numbers, must be 16"]:
        assert line in done.output
    for line in [
        "000002.txt: must be numbers",
        "must begin with focal",
        "000001.txt: has a number",
    ]:
        assert line in done.output
    assert not (cars / "dataset.json").exists()


def test_left_handed_pose(cars, tmp_path):
    (cars / "1a" / "pose" / "000000.txt").write_text("1 0 0 0 0 1 0 0 0 0 -1 2 0 0 0 1")
    done = run(f"--source={cars}", f"--dest={tmp_path / 'c.zip'}")
    assert "000000.txt: rotation of the camera pose is a reflection" in done.output


def test_refused(cars, tmp_path):
    (tmp_path / "c.zip").touch()
    assert "is there already" in run(f"--source={cars}", f"--dest={tmp_path / 'c.zip'}").output
    dest = f"--dest={tmp_path / 'd.zip'}"
    assert "has no cars" in run(f"--source={tmp_path / 'nothing'}", dest).output
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../outside.txt", b"x")
    message = run(f"--source={tmp_path / 'evil.zip'}", dest).output
    assert "../outside.txt: leads out of the folder" in message
    assert not (tmp_path.parent / "outside.txt").exists()


def test_labels_are_the_same_each_time(cars):
    label_cars(cars)
    first = (cars / "dataset.json").read_bytes()
    label_cars(cars)
    assert (cars / "dataset.json").read_bytes() == first
