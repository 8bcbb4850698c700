"""A folder of photographs of every kind becomes one dataset: each pixel is what it should be, the
camera of each where it was."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import dataset_tool
from training.dataset import ImageFolderDataset

LABEL = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2, 0, 0.5, 0, 4.2, 0.5, 0, 0, 1]
ORIENTATION = 0x0112

RANDOM = np.random.RandomState(0)
COLOURS = RANDOM.randint(0, 256, (16, 16, 3), dtype=np.uint8)
GREY = RANDOM.randint(0, 256, (16, 16), dtype=np.uint8)


def with_exif(folder):
    """Held on its side: stored turned by a quarter, with the entry that says so."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the stored top is the right side
    stored = np.ascontiguousarray(np.rot90(COLOURS))
    Image.fromarray(stored).save(folder / "0 exif.png", exif=exif)
    return COLOURS


def cmyk(folder):
    picture = Image.fromarray(COLOURS).convert("CMYK")
    picture.save(folder / "1 cmyk.tiff")
    c, m, y, k = (np.asarray(band).astype(int) for band in picture.split())
    assert not k.any()
    return np.stack([255 - c, 255 - m, 255 - y], axis=2)


def sixteen_bits(folder):
    deep = GREY.astype(np.uint16) * 257 + 100  # 100 of 257 steps above: rounded down
    deep = np.minimum(deep, 65535)
    Image.fromarray(deep).save(folder / "2 deep.png")
    return np.repeat(GREY[:, :, None], 3, axis=2)


def palette(folder):
    numbers = RANDOM.randint(0, 4, (16, 16), dtype=np.uint8)
    colours = np.array([[255, 0, 0], [0, 9, 99], [7, 200, 3], [250, 250, 250]], dtype=np.uint8)
    picture = Image.fromarray(numbers).convert("P")
    picture.putpalette(colours.ravel().tolist())
    picture.save(folder / "3 palette.gif")
    return colours[numbers]


def alpha(folder):
    holes = RANDOM.randint(0, 2, (16, 16), dtype=np.uint8) * 255
    Image.fromarray(np.dstack([COLOURS, holes])).save(folder / "4 alpha.png")
    return np.where(holes[:, :, None], COLOURS, 255)


def grey(folder):
    Image.fromarray(GREY).save(folder / "5 grey.bmp")
    return np.repeat(GREY[:, :, None], 3, axis=2)


KINDS = [with_exif, cmyk, sixteen_bits, palette, alpha, grey]


@pytest.mark.parametrize("dest", ["out.zip", "out"])
@pytest.mark.parametrize("labelled", [True, False])
def test_every_pixel(tmp_path, dest, labelled):
    folder = tmp_path / "photos"
    folder.mkdir()
    expected = [make(folder) for make in KINDS]
    names = sorted(path.name for path in folder.iterdir())
    if labelled:
        labels = [[name, [*LABEL[:3], k / 10, *LABEL[4:]]] for k, name in enumerate(names)]
        (folder / "dataset.json").write_text(json.dumps(dict(labels=labels)))
    line = [f"--source={folder}", f"--dest={tmp_path / dest}", "--background=white"]
    done = CliRunner().invoke(dataset_tool.main, line)
    assert done.exit_code == 0, done.output
    data = ImageFolderDataset(tmp_path / dest, use_labels=labelled)
    assert len(data) == len(KINDS)
    for k, pixels in enumerate(expected):
        assert np.array_equal(data[k][0].transpose(1, 2, 0), pixels), names[k]
        assert not labelled or data[k][1][3] == pytest.approx(k / 10)
