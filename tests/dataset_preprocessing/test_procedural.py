"""Procedural cars: depth and labels agree with the camera convention, files with the options."""

import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from dataset_preprocessing import procedural
from dataset_preprocessing.procedural import Segment, look_at_origin, render_car, sample_car
from dataset_preprocessing.procedural import writer as writer_module
from dataset_preprocessing.procedural.__main__ import main
from dataset_preprocessing.procedural.cars import STYLES
from dataset_preprocessing.procedural.geometry import Rays, box, disc, rounded
from dataset_preprocessing.procedural.parts import car_parts
from training.cameras import Camera, check_label, look_at, orbit_position
from training.dataset import ImageFolderDataset

ROOT = Path(__file__).parents[2]
ACCESSORIES = {
    "sedan": (None, "spoiler", "siren", "sign"),
    "hatchback": (None, "spoiler", "rack", "luggage"),
    "van": (None, "siren", "rack", "luggage"),
    "pickup": (None, "siren"),
    "bus": (None, "vents"),
}


def car_of(style, accessory=None, seed=0):
    for attempt in range(200):
        car = sample_car(np.random.default_rng([seed, attempt]))
        if car.style == style:
            return replace(car, accessory=accessory)
    raise AssertionError(f"no {style} among 200 cars")


def all_cars():
    return [car_of(style, extra) for style in STYLES for extra in ACCESSORIES[style]]


def labels(count, seed=0):
    return [procedural.sample_label(np.random.default_rng([seed, i])) for i in range(count)]


def pixel_rays(label, resolution):
    """Origin [3] and unit directions [R, R, 3], one pixel after the other."""
    pose, lens = np.float64(label[:16]).reshape(4, 4), np.float64(label[16:]).reshape(3, 3)
    directions = np.empty((resolution, resolution, 3))
    for i in range(resolution):
        for j in range(resolution):
            image_point = [(j + 0.5) / resolution, (i + 0.5) / resolution, 1]
            ray = pose[:3, :3] @ np.linalg.solve(lens, image_point)
            directions[i, j] = ray / np.linalg.norm(ray)
    return pose[:3, 3], directions


def test_label_is_the_look_at_camera_of_the_project():
    for h, v in ((np.pi / 2, np.pi / 2 - 0.3), (0.4, 1.0), (4.0, 0.7)):
        origin = orbit_position(torch.tensor(h), torch.tensor(v), procedural.RADIUS)
        pose = look_at(origin[None].double(), (0.0, 0.0, 0.0))[0]
        elevation = np.arcsin(origin[1].item() / procedural.RADIUS)
        azimuth = np.arctan2(origin[0].item(), origin[2].item())
        label = look_at_origin(azimuth, elevation)
        np.testing.assert_allclose(label[:16].reshape(4, 4), pose, atol=1e-6)
        np.testing.assert_array_equal(label[16:], np.float32([1.6, 0, 0.5, 0, 1.6, 0.5, 0, 0, 1]))


def test_cameras_cover_the_band_evenly():
    drawn = np.array(labels(400))
    assert all(check_label(label) is None for label in drawn)
    centres = drawn[:, [3, 7, 11]]
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), procedural.RADIUS, atol=1e-5)
    height = centres[:, 1] / procedural.RADIUS
    low, high = np.sin(np.radians(procedural.ELEVATION_DEGREES))
    assert low - 1e-6 <= height.min() < low + 0.05 and high - 0.05 < height.max() <= high + 1e-6
    quarters = np.histogram(height, 4, (low, high))[0]
    octants = np.histogram(np.arctan2(centres[:, 0], centres[:, 2]), 8, (-np.pi, np.pi))[0]
    assert quarters.min() > 70 and octants.min() > 30


def test_rounding_is_a_shrunk_box_with_a_ball_rolled_around_it():
    low, high, radius = np.array([-0.3, -0.2, -0.5]), np.array([0.3, 0.1, 0.4]), 0.07
    solid = box(tuple(low), tuple(high), radius)
    assert len(solid.offsets) == 6 + 12 * 3 + 8
    np.testing.assert_allclose(np.linalg.norm(solid.normals, axis=1), 1, atol=1e-12)
    for normal, offset in zip(solid.normals, solid.offsets, strict=True):
        inner = np.where(normal > 0, high - radius, low + radius)
        assert offset == pytest.approx(normal @ inner + radius, abs=1e-12)


def test_planes_that_enclose_nothing_are_an_error():
    planes = [((1.0, 0, 0), -1.0), ((-1.0, 0, 0), -1.0), ((0, 1.0, 0), 1.0), ((0, 0, 1.0), 1.0)]
    with pytest.raises(ValueError, match="enclose no volume"):
        rounded(planes, 0.0)


def test_depth_of_a_plain_box_is_analytic():
    solid = box((-0.2, -0.3, -0.4), (0.2, 0.3, 0.25), 0.0)
    rays = Rays.of_label(look_at_origin(0.0, 0.0), 40)
    inverse = rays.inverse_depth(solid, slice(0, 40), slice(0, 40))
    centres = (np.arange(40) + 0.5 - 20) / 40 / procedural.FOCAL * (procedural.RADIUS - 0.25)
    expected = (np.abs(centres)[None, :] < 0.2) & (np.abs(centres)[:, None] < 0.3)
    np.testing.assert_array_equal(inverse > 0, expected)
    np.testing.assert_allclose(1 / inverse[expected], procedural.RADIUS - 0.25, rtol=1e-6)


def test_disc_is_a_wheel_of_its_measures():
    solid = disc((0.2, 0.1, -0.3), 0.1, 0.04, 32)
    centre = np.array([0.2, 0.1, -0.3])
    assert solid.distance(centre + [0.04, 0, 0]) == pytest.approx(0, abs=1e-12)
    assert solid.distance(centre + [0, 0.1, 0]) == pytest.approx(0, abs=6e-4)
    assert solid.distance(centre + [0.041, 0, 0]) > 0 > solid.distance(centre + [0, 0.098, 0])


@pytest.mark.parametrize("car", all_cars(), ids=lambda car: f"{car.style}-{car.accessory}")
def test_depth_is_where_the_ray_first_meets_the_car(car):
    label = labels(1, seed=len(car.style))[0]
    resolution = 20
    picture = render_car(car, label, resolution, samples=1)
    origin, directions = pixel_rays(label, resolution)
    hit = np.isfinite(picture.depth)
    assert 0.05 < hit.mean() < 0.8 and picture.depth.dtype == np.float32
    np.testing.assert_array_equal(hit, picture.segmentation != Segment.BACKGROUND)
    surface = origin + directions[hit] * picture.depth[hit][:, None]
    assert np.abs(procedural.surface_distance(car, surface)).max() < 2e-6
    # Nothing of the car lies before the surface, or anywhere on a ray of the background.
    end = np.where(hit, picture.depth - 1e-3, procedural.PRESET["ray_end"])
    start = procedural.PRESET["ray_start"]
    for step in np.linspace(0, 1, 60):
        points = origin + directions * (start + step * (end - start))[..., None]
        assert procedural.surface_distance(car, points).min() > 0


def test_two_views_of_a_car_agree_in_space():
    car, resolution = car_of("sedan"), 96
    label_a, label_b = look_at_origin(0.5, 0.5), look_at_origin(0.9, 0.35)
    a, b = (render_car(car, label, resolution, samples=1) for label in (label_a, label_b))
    origin, directions = pixel_rays(label_a, resolution)
    hit = np.isfinite(a.depth)
    points = origin + directions[hit] * a.depth[hit][:, None]
    pose, lens = np.float64(label_b[:16]).reshape(4, 4), np.float64(label_b[16:]).reshape(3, 3)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    projected = local @ lens.T
    columns, rows = (projected[:, :2] / projected[:, 2:] * resolution).astype(int).T
    gap = np.linalg.norm(local, axis=1) - b.depth[rows, columns]
    seen = np.abs(gap) < 0.02
    assert seen.mean() > 0.6
    assert (gap > -0.02).mean() > 0.97  # hidden in view b is fine, floating in front of it is not
    same = a.segmentation[hit][seen] == b.segmentation[rows, columns][seen]
    assert same.mean() > 0.9


def test_mirrored_camera_sees_the_flipped_image():
    for car, label in zip(all_cars(), labels(16), strict=False):
        mirrored = Camera.from_label(torch.from_numpy(label[None])).mirror().label()[0].numpy()
        picture, other = render_car(car, label, 32), render_car(car, mirrored, 32)
        difference = np.abs(picture.image[:, ::-1].astype(int) - other.image)
        # Rays that graze an edge may fall on either side of it.
        assert np.median(difference) == 0 and (difference > 2).mean() < 0.005
        both = np.isfinite(picture.depth[:, ::-1]) & np.isfinite(other.depth)
        assert np.median(np.abs(picture.depth[:, ::-1][both] - other.depth[both])) < 1e-5


def test_every_car_fits_the_preset_and_the_frame():
    preset = procedural.PRESET
    spare = min(procedural.RADIUS - preset["ray_start"], preset["ray_end"] - procedural.RADIUS)
    cameras = labels(40)
    widest = []
    for i in range(80):
        parts = car_parts(sample_car(np.random.default_rng(i)))
        corners = np.concatenate([part.solid.corners for part in parts])
        assert np.abs(corners).max() < preset["box_warp"] / 2
        assert np.linalg.norm(corners, axis=1).max() < spare
        for label in cameras:
            local = (corners - label[[3, 7, 11]]) @ label[:16].reshape(4, 4)[:3, :3]
            widest.append(np.abs(local[:, :2] / local[:, 2:]).max() * procedural.FOCAL * 2)
    assert max(widest) < 1.0 and np.quantile(widest, 0.9) > 0.8


def test_picture_is_white_around_a_car_with_every_part():
    seen = set()
    for car in all_cars():
        picture = render_car(car, look_at_origin(1.1, 0.3), 64)
        seen |= set(np.unique(picture.segmentation))
        assert (picture.image[[0, -1]] == 255).all() and (picture.image[:, [0, -1]] == 255).all()
        tyres = picture.image[picture.segmentation == Segment.TYRE]
        assert len(tyres) > 20 and tyres.mean() < 70
    assert seen == set(Segment)


def test_antialiasing_is_the_mean_of_a_finer_picture():
    car, label = car_of("van"), labels(1)[0]
    coarse, fine = render_car(car, label, 16, samples=5), render_car(car, label, 80, samples=1)
    mean = fine.image.reshape(16, 5, 16, 5, 3).astype(float).mean((1, 3))
    assert np.abs(coarse.image - mean).max() <= 1
    np.testing.assert_array_equal(coarse.depth, fine.depth[2::5, 2::5])


def test_bad_arguments_of_a_picture():
    car, label = car_of("bus"), look_at_origin(0.0, 0.3)
    with pytest.raises(ValueError, match="samples odd, got 8 and 2"):
        render_car(car, label, 8, samples=2)
    with pytest.raises(ValueError, match="25 finite numbers"):
        render_car(car, label[:16], 8)
    with pytest.raises(ValueError, match="move it further away"):
        render_car(car, look_at_origin(0.0, 0.3, radius=0.3), 8)


def test_zip_is_a_dataset_and_the_rest_lies_beside_it(tmp_path):
    dest = tmp_path / "new" / "cars.zip"
    paths = procedural.make_dataset(
        dest, 6, resolution=16, seed=3, views_per_car=3, depth=True, segmentation=True
    )
    names = ["cars.zip", "cars_depth.zip", "cars_segmentation.zip"]
    assert [path.name for path in paths] == names == sorted(p.name for p in dest.parent.iterdir())
    dataset = ImageFolderDataset(dest, resolution=16, use_labels=True)
    assert len(dataset) == 6 and dataset.label_dim == 25
    with zipfile.ZipFile(paths[1]) as depths, zipfile.ZipFile(paths[2]) as segments:
        for i in range(6):
            image, label = dataset[i]
            car = sample_car(np.random.default_rng([3, 0, i // 3]))
            expected = render_car(car, label, 16)
            np.testing.assert_array_equal(image, expected.image.transpose(2, 0, 1))
            depth = np.load(io.BytesIO(depths.read(f"00000/img{i:08d}.npy")))
            np.testing.assert_array_equal(depth, expected.depth)
            parts = Image.open(io.BytesIO(segments.read(f"00000/img{i:08d}.png")))
            np.testing.assert_array_equal(np.array(parts), expected.segmentation)
    with zipfile.ZipFile(dest) as archive:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert len(archive.read("00000/img00000000.png")) > 16 * 16 * 3  # PNG not compressed
        assert [name for name, _ in json.loads(archive.read("dataset.json"))["labels"]] == [
            f"00000/img{i:08d}.png" for i in range(6)
        ]


def test_same_options_same_bytes_whatever_the_workers(tmp_path):
    made = {}
    for name, options in {
        "one": {},
        "again": {},
        "two": {"workers": 2},
        "seed": {"seed": 1},
        "views": {"views_per_car": 4},
    }.items():
        [path] = procedural.make_dataset(tmp_path / f"{name}.zip", 20, resolution=8, **options)
        made[name] = path.read_bytes()
    assert made["one"] == made["again"] == made["two"]
    assert len({made["one"], made["seed"], made["views"]}) == 3


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    kept = tmp_path / "kept.zip"
    kept.write_bytes(b"before")

    def fail(resolution, seed, views_per_car, index, **kinds):
        if index == 3:
            raise OSError("disk full")
        return writer_module.View(b"x", [0.0] * 25, b"y", b"z")

    monkeypatch.setattr(writer_module, "draw_view", fail)
    with pytest.raises(OSError, match="disk full"):
        procedural.make_dataset(kept, 5, depth=True, segmentation=True, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.zip"]
    assert kept.read_bytes() == b"before"


@pytest.mark.parametrize(
    "arguments, match",
    [
        (["--num-images=0"], "--num-images must be at least 1, got 0"),
        (["--views-per-car=-1"], "--views-per-car must be at least 1, got -1"),
        (["--workers=0"], "--workers must be at least 1"),
        (["--seed=-4"], "--seed must not be negative"),
        (["--resolution=48"], "--resolution must be a power of two from 4 to 1024, got 48"),
        (["--dest=cars"], "--dest must be a file name ending in .zip, got 'cars'"),
        (["--dest=there.zip"], "'there.zip' exists"),
        (["--dest=folder.zip"], "'folder.zip' is a folder"),
        (["--dest=there.zip/cars.zip"], "'there.zip/cars.zip' cannot be written"),
        (["--num-images=few"], "--num-images"),
    ],
)
def test_bad_options_are_one_clear_line(tmp_path, monkeypatch, arguments, match):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.zip").write_text("x")
    (tmp_path / "folder.zip").mkdir()
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(main, ["--dest=cars.zip", "--workers=1", *arguments])
    assert result.exit_code != 0 and match in result.output
    assert result.output.strip().splitlines()[-1].startswith("Error: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_command_writes_and_overwrites_on_request(tmp_path):
    arguments = ["--num-images=2", "--resolution=8", f"--dest={tmp_path}/cars.zip", "--workers=1"]
    for extra in ([], ["--overwrite", "--seed=1"]):
        result = CliRunner().invoke(main, arguments + extra)
        assert result.exit_code == 0 and result.output.startswith("wrote ")
    expected = writer_module.draw_view(8, 1, 1, 0).image
    with zipfile.ZipFile(tmp_path / "cars.zip") as archive:
        assert archive.read("00000/img00000000.png") == expected


def test_needs_no_torch():
    code = "import sys, dataset_preprocessing.procedural; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
