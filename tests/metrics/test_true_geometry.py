"""Depth and pose beside true ones: models whose error is known, and searches one by one."""

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_preprocessing import procedural
from metrics.errors import MetricError, MetricUnavailable
from metrics.options import MetricOptions, unnoticed
from metrics.samples import latents, picks, real_labels
from metrics.true_geometry import TrueDepths, compare_depths, depth_error, nearest, pose_error
from tests.metrics.test_shape_measures import in_ranks, solid_generator
from training.volumetric_rendering.draws import FixedDraws

COUNT, SIDE, INF = 60, 32, math.inf


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """dataset_kwargs of 60 cars of 32 x 32 pixels with true depth."""
    path = tmp_path_factory.mktemp("deep") / "cars.zip"
    procedural.make_dataset(path, num_images=COUNT, resolution=SIDE, depth=True)
    return dict(class_name="training.dataset.ImageFolderDataset", path=str(path))


def maps_of(kwargs):
    return np.stack(list(TrueDepths(kwargs["path"]).read(range(COUNT))))


class KnownModel(torch.nn.Module):
    """A generator that shows `depth(number)` [H, W] at the camera of the real picture `number`."""

    z_dim, c_dim = 4, 25
    rendering_kwargs = dict(superresolution_noise_mode="none")

    def __init__(self, labels, depth):
        super().__init__()
        self.labels, self.depth = labels, depth

    def mapping(self, z, c):
        return z

    def planes(self, ws, noise_mode):
        return ws

    def march(self, planes, origins, directions, draws):
        places = self.labels[:, [3, 7, 11]]
        numbers = [int((places - place).norm(dim=1).argmin()) for place in origins[:, 0]]
        depth = torch.tensor(np.stack([self.depth(k) for k in numbers]))
        opacity = depth.isfinite().float()
        depth = torch.where(opacity > 0, depth, 2.0)  # what is not opaque is not to be looked at
        return None, depth.reshape(len(planes), -1, 1), opacity.reshape(len(planes), -1, 1)


def options(kwargs, G=None, **more):
    more = dict(dict(dataset_kwargs=kwargs, batch_gen=4, device="cpu"), **more)
    return MetricOptions(G or solid_generator(), **more)


def measure(metric, opts, pictures=20, **more):
    with unnoticed(opts):
        return metric(opts, pictures, **more)


def known_depths(kwargs, change):
    labels, maps = real_labels(options(kwargs)), maps_of(kwargs)
    model = KnownModel(labels, lambda k: change(maps[k]).astype(np.float32))
    return measure(depth_error, options(kwargs, model))


def test_true_depths_have_no_error(deep):
    found = known_depths(deep, lambda depth: depth)
    assert found["depth_error"] == 0 and found["depth_correlation"] == pytest.approx(1)
    assert found["depth_inside"] == 1


def test_depths_that_are_off(deep):
    """Nearer by 0.25: of the pixels, as many are inside as are that much behind the nearest."""
    maps = maps_of(deep)
    seen = maps[picks(range(20), COUNT)]
    seen = seen[np.isfinite(seen)]
    found = known_depths(deep, lambda depth: depth - 0.25)
    assert found["depth_error"] == pytest.approx(0.25, abs=1e-6)
    assert found["depth_correlation"] == pytest.approx(1)
    assert found["depth_inside"] == pytest.approx((seen - 0.25 >= seen.min()).mean(), abs=1e-3)
    assert 0.1 < found["depth_inside"] < 0.9
    assert known_depths(deep, lambda depth: depth + 2)["depth_inside"] == 0


def test_a_billboard_has_no_shape(deep):
    found = known_depths(deep, lambda depth: np.where(np.isfinite(depth), 2.0, INF))
    assert found["depth_correlation"] == 0 and found["depth_inside"] == 1


def test_an_empty_scene_has_no_value(deep):
    found = known_depths(deep, lambda depth: np.full_like(depth, INF))
    assert all(math.isnan(found[f"depth_{n}"]) for n in ("error", "correlation", "inside"))
    assert found["depth_error_real"] > 0


def test_reference_is_the_real_picture_with_the_nearest_camera(deep):
    opts, maps = options(deep), maps_of(deep)
    labels, chosen = real_labels(opts).double().numpy(), picks(range(20), COUNT, opts.seed)
    others = []
    for k in chosen:
        distances = [np.linalg.norm(c[:16] - labels[k, :16]) for c in labels]
        others.append(min(set(range(COUNT)) - {k}, key=lambda i: distances[i]))
    expected = compare_depths(maps[others], maps[chosen])
    found = measure(depth_error, opts)
    assert found["depth_error_real"] == pytest.approx(expected["depth error"])
    assert found["depth_correlation_real"] == pytest.approx(expected["depth correlation"])
    assert found["depth_error_real"] > 0.01 and found["depth_correlation_real"] > 0.3


@pytest.mark.parametrize("psi", [1, 0.5])
def test_depths_are_those_of_the_generator(deep, psi):
    """As its synthesis renders them, one after the other."""
    opts = options(deep, seed=2, G_kwargs=dict(truncation_psi=psi))
    labels, chosen, depths = real_labels(opts), picks(range(6), COUNT, 2), []
    for i, c in enumerate(labels[chosen][:, None]):
        z = latents(range(i, i + 1), opts.G.z_dim, 2)
        out = opts.G(z, c, psi, None, SIDE, noise_mode="const", draws=FixedDraws())
        depths.append(torch.where(out["image_opacity"] > 0.5, out["image_depth"], INF)[0, 0])
    expected = compare_depths(torch.stack(depths).numpy(), maps_of(deep)[chosen])
    found = measure(depth_error, opts, 6)
    assert found["depth_error"] == pytest.approx(expected["depth error"], rel=1e-4)
    assert found["depth_correlation"] == pytest.approx(expected["depth correlation"], rel=1e-3)


def test_depth_is_compared_where_both_see_something():
    true = np.full([3, 5, 5], INF)
    true[0] = true[1] = np.arange(25).reshape(5, 5)
    true[2, 0] = 1.0  # too few pixels, left out
    ours = np.full([3, 5, 5], INF)
    ours[0] = 2 * true[0]  # correlation 1, errors 0 .. 24
    ours[1] = -true[1]  # correlation -1, errors 0 .. 48, the last row missing
    ours[1, 4] = INF
    ours[2] = 0
    errors = [*range(25), *(2 * i for i in range(20))]
    found = compare_depths(ours, true)
    assert found["depth error"] == pytest.approx(sum(errors) / len(errors))
    assert found["depth correlation"] == pytest.approx(0)
    nothing = compare_depths(np.full([1, 5, 5], INF), true[:1])
    assert nothing == {"depth error": None, "depth correlation": None}


def test_without_depth_the_option_is_named(cars):
    with pytest.raises(MetricUnavailable, match=r"cars_depth\.zip: no such file; .* --depth`$"):
        measure(depth_error, options(cars))


def test_depth_of_something_else(deep, tmp_path):
    path = tmp_path / "cars.zip"
    procedural.make_dataset(path, num_images=3, resolution=4, depth=True)
    depth = tmp_path / "cars_depth.zip"
    whole = depth.read_bytes()
    depth.write_bytes(Path(deep["path"]).with_name("cars_depth.zip").read_bytes())
    with pytest.raises(MetricError, match=rf"^{depth}: 60 depth maps, .* the 3 pictures of {path}"):
        TrueDepths(path)
    depth.write_bytes(b"no zip")
    with pytest.raises(MetricError, match=rf"^{depth}: not a readable zip file \("):
        TrueDepths(path)
    damaged = bytearray(whole)
    damaged[whole.index(b"NUMPY") + 150] ^= 1
    depth.write_bytes(damaged)
    with pytest.raises(MetricError, match=rf"^{depth}/00000/img00000000.npy cannot be read"):
        list(TrueDepths(path).read(range(3)))


# -- Pose ------------------------------------------------------------------------------------------

STEP, CAMERAS, BINS = 7.5, 48, 16  # degrees between cameras all around; three of them in each bin


def colour(degrees):
    """A colour uint8 [3] for each direction, equally far from those of its neighbours."""
    angle = math.radians(degrees)
    return np.round([128 + 100 * math.cos(angle), 128 + 100 * math.sin(angle), 50]).astype(np.uint8)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """dataset_kwargs of pictures of one colour each, that of the direction they are seen from."""
    path = tmp_path_factory.mktemp("colours") / "colours.zip"
    labels = []
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(CAMERAS):
            name, degrees = f"{k:03d}.png", STEP * (k + 0.5)
            with archive.open(name, "w") as file:
                Image.fromarray(np.tile(colour(degrees), (8, 8, 1))).save(file, "png")
            camera = procedural.look_at_origin(math.radians(degrees), 0.0)
            labels.append([name, camera.tolist()])
        archive.writestr("dataset.json", json.dumps(dict(labels=labels)))
    return dict(class_name="training.dataset.ImageFolderDataset", path=str(path))


class Turned(torch.nn.Module):
    """A generator that shows pictures as from `look(degrees)` where they are to be from degrees."""

    z_dim, c_dim, rendering_kwargs = 4, 25, dict(superresolution_noise_mode="none")

    def __init__(self, look):
        super().__init__()
        self.look = look

    def mapping(self, z, c):
        return z

    def synthesis(self, ws, c, noise_mode, draws):
        degrees = torch.atan2(c[:, 3], c[:, 11]).rad2deg()
        shown = torch.tensor(np.stack([colour(self.look(float(d))) for d in degrees])).float()
        return {"image": (shown / 127.5 - 1)[:, :, None, None].expand(-1, -1, 16, 16)}


def poses(kwargs, look, pictures=200, **more):
    return measure(pose_error, options(kwargs, Turned(look), **more), pictures, bins=BINS)


@pytest.mark.parametrize("turn", [30.0, -97.5])
def test_pictures_from_elsewhere(colours, turn):
    found = poses(colours, lambda degrees: degrees + turn)
    for name in ("median", "mean"):
        assert found[f"pose_error_{name}"] == pytest.approx(abs(turn), abs=1e-3)
    # Bins of 22.5 degrees hold three cameras each; to where the turn takes them, by hand.
    asked = picks(range(200), CAMERAS)
    moved = (asked + round(turn / STEP)) % CAMERAS
    shares = [np.bincount(k // 3, minlength=BINS) / 200 for k in (moved, asked)]
    expected = np.abs(shares[0] - shares[1]).sum() / 2
    assert found["pose_azimuth_distance"] == pytest.approx(expected) and expected > 0.05


def test_the_picture_from_the_camera_itself_is_left_out(colours):
    """So that a model that is right gets what real pictures get: the next camera."""
    found = poses(colours, lambda degrees: degrees)
    for name in ("pose_error_median", "pose_error_mean", "pose_azimuth_distance"):
        assert found[name] == found[f"{name}_real"]
    assert found["pose_error_median"] == pytest.approx(STEP, abs=1e-3)


def test_a_model_that_shows_one_side_only(colours):
    found = poses(colours, lambda degrees: 48.75)
    asked = picks(range(200), CAMERAS)
    shown = np.where(asked == 6, asked, 6)  # 6.5 steps are 48.75 degrees; its own is left out
    turns = np.abs((asked - shown + CAMERAS // 2) % CAMERAS - CAMERAS // 2)
    angles = STEP * np.where(asked == 6, 1, turns)
    assert found["pose_error_mean"] == pytest.approx(angles.mean(), rel=1e-4)
    assert found["pose_azimuth_distance"] > 0.85 > 0.2 > found["pose_azimuth_distance_real"]


def test_nearest_against_a_loop():
    rows, candidates = torch.randn(7, 5), torch.randn(30, 5)
    own = np.arange(7)
    candidates[3] = rows[3]  # nearest of all, but its own
    expected = [
        min(set(range(30)) - {i}, key=lambda k, i=i: float((candidates[k] - rows[i]).norm()))
        for i in own
    ]
    assert nearest(rows, candidates, own).tolist() == expected
    with pytest.raises(MetricError, match="a single picture"):
        nearest(rows[:1], candidates[:1], own[:1])


def test_pose_of_a_generator(cars):
    """Finite, and the same again; seeds and settings matter."""
    found = measure(pose_error, options(cars), 12)
    assert found == measure(pose_error, options(cars, workers=1), 12)
    assert 0 < found["pose_error_mean"] < 180 and 0 <= found["pose_azimuth_distance"] <= 1
    assert found != measure(pose_error, options(cars, seed=1), 12)
    assert found["pose_error_mean_real"] < 90 < 95 < 180


# -- Processes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [depth_error, pose_error])
def test_any_number_of_processes_gives_the_same(deep, monkeypatch, metric):
    G = solid_generator()
    one = measure(metric, options(deep, G, batch=16), 22)

    def in_rank(rank):
        return metric(options(deep, G, batch=16, num_gpus=3, rank=rank), 22)

    assert in_ranks(monkeypatch, 3, in_rank) == [one] * 3
