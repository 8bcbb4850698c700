"""Meshes of volumes whose surface is known: spheres and ellipsoids."""

import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import plyfile
import pytest
from click.testing import CliRunner

from eg3d.errors import InputError
from eg3d.shape_files import convert_mrc, convert_sdf_samples_to_ply, main

ROOT = Path(__file__).parents[2]
N = 24


def ball(radii=(0.3, 0.3, 0.3), centre=(0.5, 0.5, 0.5)):
    """Density [N, N, N] over the unit cube, 10 on an ellipsoid and higher inside."""
    x = np.stack(np.meshgrid(*[np.linspace(0, 1, N)] * 3, indexing="ij"), axis=-1)
    distance = np.linalg.norm((x - centre) / np.asarray(radii), axis=-1)
    return (10 + 20 * (1 - distance)).astype(np.float32)


def read(path):
    """Vertices [V, 3] and faces [F, 3] of a .ply, as an independent reader sees them."""
    content = plyfile.PlyData.read(str(path))
    assert [e.name for e in content.elements] == ["vertex", "face"] and not content.text
    points = content["vertex"]
    assert [(p.name, p.val_dtype) for p in points.properties] == [(a, "f4") for a in "xyz"]
    (faces,) = content["face"].properties
    assert (faces.name, faces.len_dtype, faces.val_dtype) == ("vertex_indices", "u1", "i4")
    vertices = np.stack([points[axis] for axis in "xyz"], axis=1)
    return vertices, np.stack(content["face"]["vertex_indices"])


def signed_volume(vertices, faces):
    """Of a closed mesh, by the divergence theorem: positive where faces look outwards."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    return (np.cross(a, b) * c).sum() / 6


def test_sphere(tmp_path, capsys):
    path = tmp_path / "ball.ply"
    assert convert_sdf_samples_to_ply(ball(), (-0.5, -0.5, -0.5), 1 / (N - 1), path, level=10)
    vertices, faces = read(path)
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.3).max() < 0.003
    assert signed_volume(vertices, faces) == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.03)
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()  # closed
    assert str(path) in capsys.readouterr().out and list(tmp_path.iterdir()) == [path]


def test_signed_distances(tmp_path):
    path = tmp_path / "ball.ply"
    convert_sdf_samples_to_ply(10 - ball(), (0, 0, 0), 1 / (N - 1), path, high_inside=False)
    assert signed_volume(*read(path)) == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.03)


def test_origin_voxel_size_scale_and_offset_in_this_order(tmp_path):
    path = tmp_path / "ball.ply"
    # Published argument order; scale is divided by first, then offset is taken off.
    convert_sdf_samples_to_ply(ball(), [1, 2, 3], 2.0, path, [10, 20, 30], [2, 4, 8], 10)
    vertices, _ = read(path)
    middle = (vertices.max(axis=0) + vertices.min(axis=0)) / 2
    expected = (np.array([1, 2, 3]) + (N - 1)) / [2, 4, 8] - [10, 20, 30]
    assert np.abs(middle - expected).max() < 1e-4


def test_axes_stay_in_order(tmp_path):
    path = tmp_path / "egg.ply"
    convert_sdf_samples_to_ply(ball((0.4, 0.3, 0.2)), (0, 0, 0), 1 / (N - 1), path, level=10)
    vertices, faces = read(path)
    assert np.abs(np.ptp(vertices, axis=0) - [0.8, 0.6, 0.4]).max() < 0.01
    assert signed_volume(vertices, faces) > 0


@pytest.mark.parametrize("level", [-1000, 1000, None])
def test_level_without_a_surface_warns_and_writes_nothing(tmp_path, level):
    path = tmp_path / "ball.ply"
    level = float(ball().max()) if level is None else level
    with pytest.warns(UserWarning, match=f"{path}: not written, there is no surface at level"):
        assert convert_sdf_samples_to_ply(ball(), (0, 0, 0), 1, path, level=level) is False
    assert not list(tmp_path.iterdir())


def test_what_is_no_volume(tmp_path):
    for shape in ([4, 4], [4, 1, 4]):
        with pytest.raises(InputError, match="must be"):
            convert_sdf_samples_to_ply(np.zeros(shape), (0, 0, 0), 1, tmp_path / "x.ply")


def test_failed_write_keeps_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "ball.ply"
    path.write_bytes(b"older")

    def half_written(self, target):
        target.write_bytes(b"ply")
        raise OSError("disk full")

    monkeypatch.setattr("plyfile.PlyData.write", half_written)
    with pytest.raises(OSError, match="disk full"):
        convert_sdf_samples_to_ply(ball(), (0, 0, 0), 1, path, level=10)
    assert path.read_bytes() == b"older" and list(tmp_path.iterdir()) == [path]


@pytest.fixture
def volume(tmp_path):
    """A .mrc file of an ellipsoid: the last index of the array is the x of the file."""
    path = tmp_path / "seed0001.mrc"
    with mrcfile.new(path) as file:
        file.set_data(ball((0.2, 0.3, 0.4)))
    return path


def test_convert_mrc(volume):
    path = volume.with_suffix(".ply")
    assert convert_mrc(volume, path, 10)
    vertices, faces = read(path)
    assert np.abs(np.ptp(vertices, axis=0) / (N - 1) - [0.8, 0.6, 0.4]).max() < 0.01
    assert signed_volume(vertices, faces) > 0
    convert_mrc(volume, path)  # at level 1 the ellipsoid is larger
    assert signed_volume(*read(path)) > 1.5 * signed_volume(vertices, faces)


@pytest.mark.parametrize("target", ["file", "folder"])
def test_command(volume, target):
    other = volume.with_name("seed0002.MRC")
    other.write_bytes(volume.read_bytes())
    where = volume if target == "file" else volume.parent
    result = CliRunner().invoke(main, [str(where)])
    assert result.exit_code == 0, result.output
    written = sorted(path.name for path in volume.parent.glob("*.ply"))
    assert written == ["seed0001.ply", "seed0002.ply"][: 1 if target == "file" else 2]
    size = np.ptp(read(volume.with_suffix(".ply"))[0], axis=0).max()
    assert size / (N - 1) == pytest.approx(0.8, abs=0.01)  # at the default level, 10
    CliRunner().invoke(main, [str(where), "--level", "15"])
    assert np.ptp(read(volume.with_suffix(".ply"))[0], axis=0).max() < 0.9 * size


def test_command_refuses(tmp_path):
    broken, text = tmp_path / "broken.mrc", tmp_path / "text.txt"
    broken.write_bytes(b"x" * 2000)
    text.write_text("x")
    for path, line in ((broken, "no .mrc volume"), (text, "must be a .mrc file")):
        result = CliRunner().invoke(main, [str(path)])
        assert result.exit_code == 1 and f"Error: {path}: " in result.output
        assert line in result.output
    broken.unlink()
    assert "no .mrc file in this folder" in CliRunner().invoke(main, [str(tmp_path)]).output


def test_script(volume, tmp_path):
    """As published: `python compat/shape_utils.py`, from anywhere."""
    run = [sys.executable, ROOT / "compat" / "shape_utils.py", volume, "--level=12"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert volume.with_suffix(".ply").exists()
