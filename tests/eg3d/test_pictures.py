"""Conversion to uint8, depth pictures, grids, files."""

import numpy as np
import PIL.Image
import pytest
import torch

from dnnlib.util import replacing
from eg3d import pictures
from eg3d.errors import InputError
from eg3d.files import make_folder


def test_to_uint8_is_the_published_conversion():
    values = torch.linspace(-1.3, 1.3, 3 * 7 * 5).reshape(1, 3, 7, 5)
    picture = pictures.to_uint8(values)
    assert picture.shape == (1, 7, 5, 3) and picture.dtype == np.uint8
    for c, y, x in np.ndindex(3, 7, 5):
        exact = min(max(values[0, c, y, x].item() * 127.5 + 128, 0), 255)
        assert picture[0, y, x, c] == int(exact + 1e-4) or picture[0, y, x, c] == int(exact - 1e-4)
    ends = pictures.to_uint8(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1))
    assert ends.ravel().tolist() == [0, 128, 255]  # truncated: 0.5, 128, 255.5


def test_depth_has_a_fixed_range():
    depth = torch.tensor([1.0, 2.0, 2.5, 3.0, 9.0]).reshape(1, 1, 1, 5)
    grey = pictures.depth_to_uint8(depth, 2, 3)
    assert grey[0, 0].tolist() == [[255] * 3, [255] * 3, [128] * 3, [0] * 3, [0] * 3]
    color = pictures.depth_to_uint8(depth, 2, 3, colors=True)[0, 0].astype(int)
    assert color[1, 0] > color[1, 2] and color[3, 2] > color[3, 0]  # red is near, blue is far
    assert (color[2] == [250, 236, 160]).all() and (color[0] == color[1]).all()
    with pytest.raises(ValueError, match="near must be less"):
        pictures.depth_to_uint8(depth, 3, 3)


def test_tile_and_beside():
    cells = np.random.randint(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    grid = pictures.tile(list(cells), columns=3, rows=2)
    assert grid.shape == (8, 15, 3)
    for row in range(2):
        for column in range(3):
            part = grid[row * 4 : row * 4 + 4, column * 5 : column * 5 + 5]
            assert np.array_equal(part, cells[row * 3 + column])
    with pytest.raises(ValueError, match="6 pictures do not fill a grid of 4x2"):
        pictures.tile(cells, 4, 2)
    pair = pictures.beside(cells[0], cells[1], gap=2)
    assert np.array_equal(pair[:, :5], cells[0]) and np.array_equal(pair[:, 7:], cells[1])
    assert (pair[:, 5:7] == 255).all()


def test_png_round_trip(tmp_path):
    picture = np.random.randint(0, 256, (4, 6, 3), dtype=np.uint8)
    pictures.write_png(tmp_path / "a.png", picture)
    assert np.array_equal(np.asarray(PIL.Image.open(tmp_path / "a.png")), picture)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_made_is_named(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: cannot be made a folder"):
        make_folder(tmp_path / "file")
