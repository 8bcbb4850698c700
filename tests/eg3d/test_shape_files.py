"""Files of shapes that are known, spheres and ellipsoids, as other readers see them."""

import json
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import plyfile
import pytest
import trimesh
from click.testing import CliRunner

from eg3d.errors import InputError
from eg3d.shape_files import (
    convert_mrc,
    convert_sdf_samples_to_ply,
    main,
    write_mesh,
    write_shape,
    write_volume,
)
from tests.eg3d.analytic import ellipsoid, sphere_colors

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


@pytest.fixture
def scene(new_generator):
    """An ellipsoid off centre in a box of 1.6, at density 10."""
    return ellipsoid(new_generator(box_warp=1.6), (0.2, 0.3, 0.4), (0.05, 0.02, -0.03))


LOW, HIGH = np.array([-0.15, -0.28, -0.43]), np.array([0.25, 0.32, 0.37])  # its bounds


def read_mesh(path):
    """A mesh as trimesh reads it, vertices and faces as they are in the file."""
    return trimesh.load(path, process=False, force="mesh", skip_materials=True)


@pytest.mark.parametrize("fmt", ["ply", "obj", "glb", "stl"])
def test_mesh_file_holds_the_world(scene, tmp_path, fmt):
    path = tmp_path / "shape.x"
    assert write_shape(scene, path, 64, "." + fmt.upper(), level=10) is True
    assert list(tmp_path.iterdir()) == [path]
    with open(path, "rb") as file:
        mesh = trimesh.load(file, fmt, process=fmt == "stl", force="mesh", skip_materials=True)
    assert np.abs(mesh.bounds - [LOW, HIGH]).max() < 0.1 * 1.6 / 63
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.2 * 0.3 * 0.4, rel=0.02)
    normals = (mesh.vertices - [0.05, 0.02, -0.03]) / np.square([0.2, 0.3, 0.4])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    assert (mesh.vertex_normals * normals).sum(axis=1).min() > 0.95


@pytest.mark.parametrize("fmt", ["ply", "obj", "glb"])
def test_mesh_file_holds_colors(scene, tmp_path, fmt):
    """As they look: glTF says that its numbers are light, which trimesh does not convert."""
    path = tmp_path / f"shape.{fmt}"
    write_shape(scene, path, 32)
    mesh = read_mesh(path)
    found = mesh.visual.vertex_colors[:, :3] / 255
    expected = sphere_colors(mesh.vertices, 1.6).numpy()
    assert np.ptp(expected, axis=0).min() > 0.3
    if fmt == "glb":
        expected = expected**2.2  # nearly
    assert np.abs(found - expected).max() < (0.02 if fmt == "glb" else 0.01)
    write_shape(scene, path, 32, colors=None)
    assert read_mesh(path).visual.kind is None


def test_glb_is_matte(scene, tmp_path):
    path = tmp_path / "shape.glb"
    write_shape(scene, path, 16)
    length = int.from_bytes(path.read_bytes()[12:16], "little")
    tree = json.loads(path.read_bytes()[20 : 20 + length])
    (primitive,) = tree["meshes"][0]["primitives"]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "COLOR_0"}
    color = tree["accessors"][primitive["attributes"]["COLOR_0"]]
    assert (color["componentType"], color["type"]) == (5126, "VEC3")  # float32
    material = tree["materials"][primitive["material"]]
    assert material == {"pbrMetallicRoughness": {"metallicFactor": 0.0}}


@pytest.mark.parametrize("fmt", ["ply", "obj", "glb", "stl"])
def test_world_where_z_is_up(scene, tmp_path, fmt):
    """glTF and OBJ want y up: right stays right, up becomes y, what was in front (-y) is +z."""
    mesh = scene.mesh(48)
    before = mesh.vertices.copy()
    for up in "yz":
        write_mesh(tmp_path / f"{up}.{fmt}", mesh, up=up)
    as_is, turned = (read_mesh(tmp_path / f"{up}.{fmt}") for up in "yz")
    if fmt in ("glb", "obj"):
        x, y, z = as_is.vertices.T
        assert np.abs(turned.vertices - np.stack([x, z, -y], axis=1)).max() < 1e-6
        assert turned.volume > 0
    else:
        assert np.array_equal(turned.vertices, as_is.vertices)
    assert np.array_equal(mesh.vertices, before)


@pytest.mark.parametrize("published", [False, True])
def test_mrc_header(scene, tmp_path, published):
    path = tmp_path / "shape.mrc"
    assert write_shape(scene, path, 32, published=published) is True
    volume = scene.volume(32)
    assert mrcfile.validate(path)
    with mrcfile.open(path) as file:
        data, header = file.data, file.header
        assert data.dtype == np.float32 and file.is_volume() and not file.is_volume_stack()
        assert [header.mapc, header.mapr, header.maps] == [1, 2, 3]
        assert file.get_labels() == ["Raw density"]  # no time of writing
        spacing = [float(file.voxel_size[axis]) for axis in "xyz"]
        assert spacing == pytest.approx([1.6 / 31] * 3)
        assert [float(header.origin[axis]) for axis in "xyz"] == pytest.approx([-0.8] * 3)
        assert float(header.dmax) == volume.density.max() and float(header.dmin) == -1000
        expected = volume.density[::-1] if published else volume.density.transpose(2, 1, 0)
        assert np.array_equal(data, expected)


def test_published_ply(scene, tmp_path):
    """In voxels: z, y and N - 1 - x of the grid, as made from the published .mrc."""
    path, volume = tmp_path / "shape.ply", tmp_path / "shape.mrc"
    write_shape(scene, path, 48, published=True)
    write_shape(scene, volume, 48, published=True)
    convert_mrc(volume, tmp_path / "converted.ply", 10)
    mesh, converted = read_mesh(path), read_mesh(tmp_path / "converted.ply")
    assert mesh.visual.kind is None
    assert mesh.volume == pytest.approx(converted.volume, rel=1e-3) and mesh.volume > 0
    assert np.abs(mesh.bounds - converted.bounds).max() < 1e-3
    step = 1.6 / 47
    x, y, z = mesh.vertices.T
    world = np.stack([(47 - z), y, x], axis=1) * step - 0.8
    assert np.abs([world.min(axis=0) - LOW, world.max(axis=0) - HIGH]).max() < 0.1 * step


def test_options_reach_the_shape(scene, tmp_path):
    path = tmp_path / "shape.ply"

    def written(**options):
        write_shape(scene, path, 40, **options)
        return read_mesh(path)

    plain = written()
    assert written(level=20).volume < 0.8 * plain.volume
    assert len(written(simplify=200).faces) <= 200 < len(plain.faces)
    assert written(border=0.3).extents[2] == pytest.approx(1.6 * 15 / 39, abs=0.01)
    assert len(written(memory_mb=0.01).faces) == len(plain.faces)


@pytest.mark.parametrize("fmt", ["mrc", "ply", "obj", "glb", "stl"])
def test_same_shape_same_bytes(scene, tmp_path, fmt):
    paths = [tmp_path / f"{i}.{fmt}" for i in range(2)]
    for path in paths:
        write_shape(scene, path, 16)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_shape_without_a_surface_warns_and_writes_nothing(scene, tmp_path):
    path = tmp_path / "shape.glb"
    with pytest.warns(UserWarning, match=f"{path}: not written, no surface at level 99"):
        assert write_shape(scene, path, 16, level=99) is False
    assert not list(tmp_path.iterdir())


def test_shape_refuses(scene, tmp_path):
    with pytest.raises(InputError, match="x.png: format 'png' is none of mrc, ply, obj, glb, stl"):
        write_shape(scene, tmp_path / "x.png")
    with pytest.raises(InputError, match="format 'fbx'"):
        write_shape(scene, tmp_path / "x.ply", fmt="fbx")
    with pytest.raises(InputError, match="x.mrc: a volume has no level, simplify; meshes have"):
        write_shape(scene, tmp_path / "x.mrc", level=10, simplify=100)
    mesh = scene.mesh(16)
    with pytest.raises(InputError, match="format 'mrc' is none of ply, obj, glb, stl"):
        write_mesh(tmp_path / "x.mrc", mesh)
    with pytest.raises(InputError, match="up is 'x': must be y or z"):
        write_mesh(tmp_path / "x.ply", mesh, up="x")
    assert not list(tmp_path.iterdir())


def test_failed_export_keeps_the_older_file(scene, tmp_path, monkeypatch):
    path = tmp_path / "shape.mrc"
    path.write_bytes(b"older")

    def full(self, data):
        raise OSError("disk full")

    monkeypatch.setattr("mrcfile.mrcfile.MrcFile.set_data", full)
    with pytest.raises(OSError, match="disk full"):
        write_volume(path, scene.volume(8))
    assert path.read_bytes() == b"older" and list(tmp_path.iterdir()) == [path]
