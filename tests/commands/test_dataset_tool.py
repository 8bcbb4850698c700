"""dataset_tool.py: every option changes something, errors in one line or a list of problems."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import dataset_tool
from training.dataset import ImageFolderDataset


@pytest.fixture
def photos(tmp_path):
    """Two pictures of 24 x 16, half transparent."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(2):
        pixels = np.random.RandomState(k).randint(0, 256, (16, 24, 4), dtype=np.uint8)
        pixels[..., 3] = 100
        Image.fromarray(pixels, "RGBA").save(folder / f"{k}.png")
    return folder


@pytest.fixture
def make(photos, tmp_path):
    """`make(*arguments)` -> (first picture [C, H, W], number of pictures, click's result)."""

    def run(*arguments):
        dest = tmp_path / f"out{len(list(tmp_path.glob('out*')))}.zip"
        line = [f"--source={photos}", f"--dest={dest}", *arguments]
        done = CliRunner().invoke(dataset_tool.main, line)
        assert done.exit_code == 0, done.output
        data = ImageFolderDataset(dest)
        return data[0][0], len(data), done

    return run


BASE = ("--transform=center-crop", "--resolution=16x16")


def test_a_dataset_is_made(make, photos):
    picture, count, done = make(*BASE)
    assert picture.shape == (3, 16, 16) and count == 2
    assert "2 pictures" in done.output and "training needs a camera for each" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        (*BASE[:1], "--resolution=8,8"),
        BASE[1:],
        (*BASE, "--crop=0,0,16,16"),
        (*BASE, "--background=white"),
        (*BASE, "--colour=grey"),
        ("--transform=center-crop-wide", "--resolution=16x8"),
    ],
    ids=" ".join,
)
def test_options_change_pictures(make, arguments):
    assert not np.array_equal(make(*BASE)[0], make(*arguments)[0])


def test_max_images_and_workers(make):
    assert make(*BASE, "--max-images=1")[1] == 1
    assert np.array_equal(make(*BASE)[0], make(*BASE, "--workers=2")[0])


def test_problems_are_listed_and_skipped(make, photos, tmp_path):
    (photos / "0.png").write_bytes(b"broken")
    line = [f"--source={photos}", f"--dest={tmp_path / 'x.zip'}", *BASE]
    done = CliRunner().invoke(dataset_tool.main, line)
    assert done.exit_code == 1 and not (tmp_path / "x.zip").exists()
    assert "Error: 1 problem, nothing is written" in done.output
    assert "0.png: cannot be decoded" in done.output
    _, count, done = make(*BASE, "--on-error=skip")
    assert count == 1 and "left out: 0.png: cannot be decoded" in done.output


@pytest.mark.parametrize(
    "argument, words",
    [
        ("--resolution=0x4", "width x height"),
        ("--resolution=big", "width x height"),
        ("--crop=1,2,3", "left, top, width, height"),
        ("--transform=center-crop", "needs --resolution"),
        ("--source=none", "none: no such file"),
        ("--max-images=0", "--max-images"),
    ],
)
def test_errors_are_one_line(photos, tmp_path, argument, words):
    line = [f"--source={photos}", f"--dest={tmp_path / 'x.zip'}", argument]
    done = CliRunner().invoke(dataset_tool.main, line)
    assert done.exit_code in (1, 2)
    (error,) = [text for text in done.output.splitlines() if text.startswith("Error: ")]
    assert words in error and done.output.rstrip().endswith(error)
    assert list(tmp_path.iterdir()) == [photos]
