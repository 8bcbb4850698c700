"""Procedural chairs: every kind is sound under the cameras of the cars, and makes a dataset."""

import io
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
from dataset_preprocessing.procedural import (
    CATEGORIES,
    ChairSegment,
    look_at_origin,
    render_model,
    sample_chair,
)
from dataset_preprocessing.procedural.__main__ import main
from dataset_preprocessing.procedural.categories import model_parts
from dataset_preprocessing.procedural.chairs import ARMS, BACKS, LEGS, STYLES
from dataset_preprocessing.procedural.figure import main as figure
from dataset_preprocessing.procedural.geometry import frustum
from training.cameras import Camera
from training.dataset import ImageFolderDataset

ROOT = Path(__file__).parents[2]


def chair_of(style, seed=0, **changes):
    for attempt in range(200):
        chair = sample_chair(np.random.default_rng([seed, attempt]))
        if chair.style == style:
            return replace(chair, **changes)
    raise AssertionError(f"no {style} among 200 chairs")


def every_kind():
    """Each back, legs and arms that a style can have at least once, cushioned now and then."""
    chairs = []
    for style in STYLES:
        kinds = (BACKS[style], LEGS[style], ARMS[style])
        for i in range(max(map(len, kinds))):
            back, legs, arms = (kind[i % len(kind)] for kind in kinds)
            cushion = (0.9, 0.3, 0.4) if i % 2 == 0 else None
            chairs.append(chair_of(style, i, back=back, legs=legs, arms=arms, cushion=cushion))
    return chairs


def labels(count, seed=0):
    return [procedural.sample_label(np.random.default_rng([seed, i])) for i in range(count)]


def pixel_rays(label, resolution):
    """Origin [3] and unit directions [R, R, 3] from the definition of a camera label."""
    pose, lens = np.float64(label[:16]).reshape(4, 4), np.float64(label[16:]).reshape(3, 3)
    centres = (np.arange(resolution) + 0.5) / resolution
    x, y = np.meshgrid(centres, centres)
    points = np.stack([x, y, np.ones_like(x)], -1)
    directions = points @ np.linalg.inv(lens).T @ pose[:3, :3].T
    return pose[:3, 3], directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def name_of(chair):
    return f"{chair.style}-{chair.back}-{chair.legs}-{chair.arms}"


def test_frustum_is_a_slanted_cone_of_its_radii():
    low, high = (0.1, -0.4, 0.0), (-0.1, 0.2, 0.05)
    solid = frustum(low, high, 0.02, 0.06, 64)
    for share in (0.0, 0.25, 0.5, 1.0):
        centre = (1 - share) * np.array(low) + share * np.array(high)
        radius = (1 - share) * 0.02 + share * 0.06
        for angle in np.linspace(0, 6, 11):
            rim = centre + radius * np.array([np.sin(angle), 0, np.cos(angle)])
            assert solid.distance(rim) == pytest.approx(0, abs=1e-4)
        # Between low and high the centre is inside; both ends are flat.
        depth = min(share, 1 - share) * 0.6
        assert solid.distance(centre) <= 0 and solid.distance(centre) >= -max(depth, 1e-12) - 0.06
    assert solid.distance(np.array(low) - [0, 0.01, 0]) == pytest.approx(0.01)
    assert solid.distance(np.array(high) + [0, 0.02, 0]) == pytest.approx(0.02)


@pytest.mark.parametrize("chair", every_kind(), ids=name_of)
def test_depth_is_where_the_ray_first_meets_the_chair(chair):
    label = labels(1, seed=len(name_of(chair)))[0]
    resolution = 24
    picture = render_model(chair, label, resolution, samples=1)
    origin, directions = pixel_rays(label, resolution)
    hit = np.isfinite(picture.depth)
    assert 0.03 < hit.mean() < 0.8 and picture.depth.dtype == np.float32
    np.testing.assert_array_equal(hit, picture.segmentation != ChairSegment.BACKGROUND)
    surface = origin + directions[hit] * picture.depth[hit][:, None]
    assert np.abs(procedural.surface_distance(chair, surface)).max() < 2e-6
    end = np.where(hit, picture.depth - 1e-3, procedural.PRESET["ray_end"])
    start = procedural.PRESET["ray_start"]
    for step in np.linspace(0, 1, 60):
        points = origin + directions * (start + step * (end - start))[..., None]
        assert procedural.surface_distance(chair, points).min() > 0


def test_a_chair_stands_on_the_floor_in_one_piece_and_its_back_is_behind():
    for chair in every_kind():
        parts, m = model_parts(chair), chair.measures
        corners = [part.solid.corners for part in parts]
        y = np.concatenate(corners)[:, 1]
        assert y.min() == pytest.approx(-m.height / 2, abs=1e-9), name_of(chair)
        assert y.max() == pytest.approx(m.height / 2, abs=1e-9)
        # Every part touches another one, and from the first all others can be reached.
        solids = [part.solid for part in parts]
        grids = [_inside(solid) for solid in solids]
        touches = [[bool((other.distance(g) < 1e-9).any()) for g in grids] for other in solids]
        reached = {0}
        for _ in parts:
            reached |= {j for i in reached for j in range(len(parts)) if touches[i][j]}
        assert len(reached) == len(parts), name_of(chair)
        backs = [c[:, 2].mean() for c, p in zip(corners, parts, strict=True) if _is_back(p)]
        assert bool(backs) == (chair.back is not None) and all(z < 0 for z in backs)


def _inside(solid):
    """Points in or on a solid: of a grid over its bounding box."""
    low, high = solid.corners.min(0), solid.corners.max(0)
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, (11, 61, 11), strict=True)]
    points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 3)
    return points[solid.distance(points) < 1e-9]


def _is_back(part):
    return part.paint.segment is ChairSegment.BACK


def test_mirrored_camera_sees_the_flipped_image():
    chairs = every_kind()
    for chair, label in zip(chairs, labels(len(chairs)), strict=True):
        mirrored = Camera.from_label(torch.from_numpy(label[None])).mirror().label()[0].numpy()
        picture, other = render_model(chair, label, 32), render_model(chair, mirrored, 32)
        difference = np.abs(picture.image[:, ::-1].astype(int) - other.image)
        # Rays that graze an edge may fall on either side of it.
        assert np.median(difference) == 0 and (difference > 2).mean() < 0.005
        both = np.isfinite(picture.depth[:, ::-1]) & np.isfinite(other.depth)
        assert np.median(np.abs(picture.depth[:, ::-1][both] - other.depth[both])) < 1e-5


def test_every_chair_fits_the_preset_and_the_frame():
    preset = procedural.PRESET
    spare = min(procedural.RADIUS - preset["ray_start"], preset["ray_end"] - procedural.RADIUS)
    cameras = labels(20)
    widest = []
    for i in range(60):
        chair = sample_chair(np.random.default_rng(i))
        corners = np.concatenate([part.solid.corners for part in model_parts(chair)])
        assert np.abs(corners).max() < preset["box_warp"] / 2
        assert np.linalg.norm(corners, axis=1).max() < spare
        for label in cameras:
            local = (corners - label[[3, 7, 11]]) @ label[:16].reshape(4, 4)[:3, :3]
            widest.append(np.abs(local[:, :2] / local[:, 2:]).max() * procedural.FOCAL * 2)
    assert max(widest) < 1.0 and np.quantile(widest, 0.9) > 0.8


def test_chairs_are_various():
    chairs = [sample_chair(np.random.default_rng(i)) for i in range(300)]
    for style in STYLES:
        alike = [chair for chair in chairs if chair.style == style]
        assert len(alike) > 15
        assert {c.back for c in alike} == set(BACKS[style])
        assert {c.legs for c in alike} == set(LEGS[style])
        assert {c.arms for c in alike} == set(ARMS[style])
    assert 0.3 < np.mean([chair.cushion is not None for chair in chairs]) < 0.7
    colours = np.array([chair.fabric for chair in chairs])
    assert colours.min() >= 0 and colours.max() <= 1 and colours.std(0).min() > 0.2
    assert len({chair.measures for chair in chairs}) == 300


def test_segments_are_where_they_belong():
    chair = chair_of("dining", back="panel", legs="posts", arms="rails", cushion=(1.0, 0.0, 0.0))
    picture = render_model(chair, look_at_origin(0.5, 0.5), 96)
    assert set(np.unique(picture.segmentation)) == set(ChairSegment)
    rows = {s: np.nonzero(picture.segmentation == s)[0].mean() for s in ChairSegment}
    assert rows[ChairSegment.BACK] < rows[ChairSegment.CUSHION] < rows[ChairSegment.LEG]
    red = picture.image[picture.segmentation == ChairSegment.CUSHION].astype(int)
    assert (red[:, 0] - red[:, 1:].max(1)).mean() > 100
    assert (picture.image[[0, -1]] == 255).all() and (picture.image[:, [0, -1]] == 255).all()


def test_zip_is_a_dataset_with_the_cameras_of_the_cars(tmp_path):
    options = dict(resolution=16, seed=3, views_per_car=3, depth=True, segmentation=True)
    paths = procedural.make_dataset(tmp_path / "chairs.zip", 6, category="chairs", **options)
    cars = procedural.make_dataset(tmp_path / "cars.zip", 6, **options)
    dataset, other = (
        ImageFolderDataset(p[0], resolution=16, use_labels=True) for p in (paths, cars)
    )
    assert len(dataset) == 6
    with zipfile.ZipFile(paths[1]) as depths, zipfile.ZipFile(paths[2]) as segments:
        for i in range(6):
            image, label = dataset[i]
            np.testing.assert_array_equal(label, other[i][1])
            assert (image != other[i][0]).any()
            chair = CATEGORIES["chairs"].sample(np.random.default_rng([3, 0, i // 3]))
            expected = render_model(chair, label, 16)
            np.testing.assert_array_equal(image, expected.image.transpose(2, 0, 1))
            depth = np.load(io.BytesIO(depths.read(f"00000/img{i:08d}.npy")))
            np.testing.assert_array_equal(depth, expected.depth)
            parts = Image.open(io.BytesIO(segments.read(f"00000/img{i:08d}.png")))
            np.testing.assert_array_equal(np.array(parts), expected.segmentation)


def test_same_options_same_bytes_in_another_process(tmp_path):
    arguments = ["--category=chairs", "--num-images=18", "--resolution=8"]
    for name, extra in {"one": ["--workers=1"], "seed": ["--workers=1", "--seed=1"]}.items():
        result = CliRunner().invoke(main, [*arguments, f"--dest={tmp_path}/{name}.zip", *extra])
        assert result.exit_code == 0, result.output
    command = [sys.executable, "-m", "dataset_preprocessing.procedural", *arguments]
    subprocess.run([*command, f"--dest={tmp_path}/two.zip", "--workers=2"], cwd=ROOT, check=True)
    one, two, seed = ((tmp_path / f"{name}.zip").read_bytes() for name in ("one", "two", "seed"))
    assert one == two != seed


def test_all_categories_are_classes(tmp_path):
    """Each picture is the one that its own category has in this place."""
    options = dict(resolution=8, seed=3, views_per_car=2)
    for category in ("all", *CATEGORIES):
        procedural.make_dataset(tmp_path / f"{category}.zip", 7, category=category, **options)
    sets = {n: ImageFolderDataset(tmp_path / f"{n}.zip", use_labels=True) for n in CATEGORIES}
    mixed = ImageFolderDataset(tmp_path / "all.zip", use_labels=True, use_classes=True)
    classes = [0, 0, 1, 1, 0, 0, 1]
    assert mixed.all_labels()[:, 25:].argmax(1).tolist() == classes and mixed.label_dim == 27
    for i, own in enumerate(classes):
        image, label = sets[list(CATEGORIES)[own]][i]
        assert np.array_equal(mixed[i][0], image) and np.array_equal(mixed[i][1][:25], label)


def test_unknown_category(tmp_path):
    result = CliRunner().invoke(main, [f"--dest={tmp_path}/x.zip", "--category=mugs"])
    assert result.exit_code != 0 and "'mugs' is not one of 'cars', 'chairs'" in result.output
    with pytest.raises(ValueError, match="category must be one of cars, chairs, all; got 'mugs'"):
        procedural.make_dataset(tmp_path / "x.zip", 1, category="mugs")
    assert not list(tmp_path.iterdir())


def test_figure_shows_the_category(tmp_path):
    sheets = []
    for category in CATEGORIES:
        path = tmp_path / f"{category}.png"
        arguments = [f"--dest={path}", f"--category={category}", "--resolution=8"]
        assert CliRunner().invoke(figure, arguments).exit_code == 0
        sheets.append(np.array(Image.open(path)))
    assert sheets[0].shape == sheets[1].shape == (24, 64, 3)
    assert (sheets[0] != sheets[1]).any()
