"""Identity, depth and pose by estimators: stand-ins whose answers follow from what is painted."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from metrics.errors import MetricError
from metrics.estimators import (
    camera_angles,
    centre_crop,
    depth_accuracy,
    identity_consistency,
    pose_accuracy,
)
from metrics.fakes import frontal_camera
from metrics.options import MetricOptions, unnoticed
from metrics.samples import latents, picks, real_labels
from tests.metrics.test_shape_measures import in_ranks, solid_generator
from training.cameras import Camera, look_at
from training.volumetric_rendering.draws import FixedDraws

SIDE, COUNT = 16, 10


class Painted(torch.nn.Module):
    """A generator whose pictures are `paint(z, c)`, [n, 3, 16, 16] in [-1, 1], with the depth
    `shape(z, c)`, [n, 1, 16, 16]; ws are z, and nothing depends on the condition."""

    z_dim, c_dim = 4, 25

    def __init__(self, paint=None, shape=None):
        super().__init__()
        self.paint = paint or (lambda z, c: torch.zeros(len(z), 3, SIDE, SIDE))
        self.shape = shape
        self.rendering_kwargs = dict(superresolution_noise_mode="none")

    def mapping(self, z, c):
        return z

    def planes(self, ws, noise_mode):
        return ws

    def render(self, planes, ws, c, side, draws, options, noise_mode):
        picture = self.paint(ws, c)
        views = {"image": picture, "image_raw": picture}
        return dict(views, image_depth=self.shape(ws, c)) if self.shape else views


def flat(colours):
    """Pictures of one colour each, of [n, 3]."""
    return colours[:, :, None, None].expand(-1, -1, SIDE, SIDE)


def means(pictures):
    """Estimates [n, 3]: the mean colours."""
    return pictures.mean((2, 3))


def options(cars, G, **more):
    return MetricOptions(G, dataset_kwargs=cars, **dict(dict(batch_gen=4, device="cpu"), **more))


def measure(metric, opts, estimate, count=COUNT, **more):
    with unnoticed(opts):
        return metric(opts, estimate, count, **more)


def subjects(cars, count=COUNT, seed=0):
    """Latents [count, 4] and camera labels [count, 25] of the first pictures."""
    labels = real_labels(options(cars, Painted()))
    return latents(range(count), 4, seed), labels[picks(range(count), len(labels), seed)]


# -- Identity --------------------------------------------------------------------------------------


def tinted(z, c):
    """Depends on who is seen, and from where."""
    return flat(torch.tanh(0.5 * z[:, :3] + 0.2 * c[:, [3, 7, 11]]))


def test_cosines_of_two_views(cars):
    z, c = latents(range(COUNT), 4), subjects(cars, 2 * COUNT)[1]
    a, b = (tinted(z, c[k::2]).mean((2, 3)).double().numpy() for k in (0, 1))
    expected = np.mean(
        [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    )
    found = measure(identity_consistency, options(cars, Painted(tinted)), means)
    assert found["identity_consistency"] == pytest.approx(expected, rel=1e-5) and expected < 0.99
    assert (found["identity_pairs"], found["identity_excluded"]) == (COUNT, 0)


def test_what_looks_the_same_from_everywhere_is_one_person(cars):
    opts = options(cars, Painted(lambda z, c: flat(z[:, :3].tanh())))
    assert measure(identity_consistency, opts, means)["identity_consistency"] == pytest.approx(1)


@pytest.mark.parametrize("nothing", [0.0, math.nan])
def test_views_without_a_face_are_left_out(cars, nothing):
    """As of pictures that are rather dark: pairs count where neither of the two is."""

    def embed(pictures):
        rows = means(pictures)
        return torch.where(rows.sum(1, keepdim=True) < -0.4, nothing, rows)

    z, c = latents(range(COUNT), 4), subjects(cars, 2 * COUNT)[1]
    a, b = (embed(tinted(z, c[k::2])).double() for k in (0, 1))
    seen = [
        bool(x.isfinite().all() and x.any() and y.isfinite().all() and y.any())
        for x, y in zip(a, b, strict=True)
    ]
    found = measure(identity_consistency, options(cars, Painted(tinted)), embed)
    assert found["identity_pairs"] == sum(seen) and 0 < sum(seen) < COUNT
    assert found["identity_excluded"] == COUNT - sum(seen)
    expected = F.cosine_similarity(a[seen], b[seen]).mean()
    assert found["identity_consistency"] == pytest.approx(float(expected), rel=1e-5)
    none = measure(identity_consistency, options(cars, Painted(tinted)), lambda x: 0 * means(x))
    assert math.isnan(none["identity_consistency"]) and none["identity_pairs"] == 0


@pytest.mark.parametrize("condition", ["fixed", "first"])
def test_identities_are_those_of_the_generator(cars, condition):
    """As its mapping and synthesis make them, one after the other."""
    kwargs = dict(truncation_psi=0.7, neural_rendering_resolution=4)
    opts = options(cars, solid_generator(), seed=5, G_kwargs=kwargs)
    G, cosines = opts.G, []
    _, c = subjects(cars, 6, seed=5)
    for i in range(3):
        first, second = c[2 * i, None], c[2 * i + 1, None]
        front = frontal_camera(opts, first) if condition == "fixed" else first
        ws = G.mapping(latents(range(i, i + 1), G.z_dim, 5), front, 0.7)
        still = dict(noise_mode="const", draws=FixedDraws())
        views = [G.synthesis(ws, x, 4, **still)["image"].clamp(-1, 1) for x in (first, second)]
        cosines.append(F.cosine_similarity(*(x.flatten(1) for x in views)).item())
    found = measure(
        identity_consistency,
        opts,
        lambda x: x.flatten(1),
        3,
        condition=condition,
        align=lambda x: x,
    )
    assert found["identity_consistency"] == pytest.approx(np.mean(cosines), rel=1e-5)


def test_what_the_embedder_sees(cars):
    seen = []

    def embed(pictures):
        seen.append(pictures)
        return means(pictures)

    paint = lambda z, c: 2 * tinted(z, c)  # noqa: E731
    measure(identity_consistency, options(cars, Painted(paint)), embed, 2, divisor=128.0)
    assert seen[0].shape == (2, 3, 112, 112) and seen[0].dtype == torch.float32
    _, c = subjects(cars, 4)
    expected = (2 * tinted(latents(range(2), 4), c[0::2])).clamp(-1, 1) * (127.5 / 128)
    assert (seen[0].mean((2, 3)) - expected.mean((2, 3))).abs().max() < 1e-6


def test_the_middle_of_a_picture():
    """A border is cut off; where nothing is to be scaled, pixels stay."""
    picture = torch.full([1, 3, 160, 160], -1.0)
    middle = torch.rand(1, 3, 112, 112)
    picture[:, :, 24:136, 24:136] = middle
    torch.testing.assert_close(centre_crop(picture, 0.7), middle)
    coarse = torch.rand(1, 3, 4, 4)
    large = coarse.repeat_interleave(56, 2).repeat_interleave(56, 3)
    assert (centre_crop(large)[:, :, 14::28, 14::28] - coarse).abs().max() < 1e-5


def test_another_condition_is_an_error(cars):
    with pytest.raises(ValueError, match="condition is 'same', must be fixed or first"):
        measure(identity_consistency, options(cars, Painted(tinted)), means, condition="same")


# -- Depth -----------------------------------------------------------------------------------------


def bumps(z, c):
    """A depth around 2.7, other bumps for everybody."""
    rows = torch.linspace(0, 3, SIDE)
    waves = torch.sin(rows[:, None] * (1 + z[:, 0, None, None]) + rows * z[:, 1, None, None])
    return 2.7 + 0.1 * waves[:, None]


def shown_depth(z, c):
    """Pictures whose colours are that depth."""
    return (10 * (bumps(z, c) - 2.7)).clamp(-1, 1).expand(-1, 3, -1, -1) * 0.9


def face(pictures):
    """True depth in units and from an origin of its own, where a face might be; 32 x 32."""
    depth = pictures[:, :1] * 7 + 100
    depth[:, :, :3] = math.nan
    return depth.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_true_depth_has_no_error(cars):
    found = measure(depth_accuracy, options(cars, Painted(shown_depth, bumps)), face)
    assert found["depth_accuracy"] < 1e-8
    assert (found["depth_pictures"], found["depth_excluded"]) == (COUNT, 0)


@pytest.mark.parametrize("normalise", [True, False])
def test_depth_against_a_loop(cars, normalise):
    def estimate(pictures):
        return face(pictures) * 0.01 + face(pictures.flip(3)) ** 2 * 1e-5

    z, c = subjects(cars)
    ours = bumps(z, c).double().numpy()[:, 0, 3:]
    theirs = estimate(shown_depth(z, c)).double().numpy()[:, 0, 6::2, ::2]
    errors = []
    for a, b in zip(ours, theirs, strict=True):
        if normalise:
            a, b = ((x - x.mean()) / x.std() for x in (a, b))
        errors.append(((a - b) ** 2).mean())
    opts = options(cars, Painted(shown_depth, bumps))
    found = measure(depth_accuracy, opts, estimate, normalise=normalise)
    assert found["depth_accuracy"] == pytest.approx(np.mean(errors), rel=1e-4)


def test_a_flat_rendering_gets_the_variance_of_a_face(cars):
    """One, as the face is normalised."""
    opts = options(cars, Painted(shown_depth, lambda z, c: torch.full_like(bumps(z, c), 2.7)))
    assert measure(depth_accuracy, opts, face)["depth_accuracy"] == pytest.approx(1, abs=1e-3)
    opposite = options(cars, Painted(shown_depth, lambda z, c: -bumps(z, c)))
    assert measure(depth_accuracy, opposite, face)["depth_accuracy"] == pytest.approx(4)


@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_pixels_count_of_which_half_is_covered(cars, wrong):
    """Two by two estimates to each pixel of the rendering."""

    def estimate(pictures):
        depth = pictures[:, :1].repeat_interleave(2, 2).repeat_interleave(2, 3)
        depth[..., 4] += wrong  # half of a column of pixels, the other half is not there
        depth[..., 5] = depth[..., 8:10] = math.nan
        depth[..., 12:14] = math.nan
        depth[:, :, ::2, 12] = 99  # a quarter of a column of pixels
        return depth

    found = measure(depth_accuracy, options(cars, Painted(shown_depth, bumps)), estimate)
    assert (found["depth_accuracy"] > 0.01) == (wrong > 0)
    assert found["depth_accuracy"] < 1


def test_pictures_without_a_face_are_left_out(cars):
    """And those where next to nothing of it is seen."""

    def estimate(pictures):
        depth = face(pictures)
        for k, picture in enumerate(pictures):
            if picture.mean() < 0:
                depth[k] = math.nan
            depth[k, :, 8:] = math.nan if picture.mean() > 0.3 else depth[k, :, 8:]
        return depth

    z, c = subjects(cars)
    shown = shown_depth(z, c).mean((1, 2, 3))
    used = int(((shown >= 0) & (shown <= 0.3)).sum())
    found = measure(depth_accuracy, options(cars, Painted(shown_depth, bumps)), estimate)
    assert found["depth_pictures"] == used and 0 < used < COUNT - 1
    assert found["depth_excluded"] == COUNT - used and found["depth_accuracy"] < 1e-8
    nobody = measure(
        depth_accuracy,
        options(cars, Painted(shown_depth, bumps)),
        lambda x: torch.full_like(x[:, :1], math.nan),
    )
    assert math.isnan(nobody["depth_accuracy"]) and nobody["depth_excluded"] == COUNT


# -- Pose ------------------------------------------------------------------------------------------


def rotation(axis, angle):
    """The usual matrix that turns about x, y or z."""
    one, two = ((1, 2), (2, 0), (0, 1))[axis]
    turn = np.eye(3)
    turn[one, one] = turn[two, two] = math.cos(angle)
    turn[one, two], turn[two, one] = -math.sin(angle), math.sin(angle)
    return turn


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (0.3, 0, 0), (0, -0.4, 0), (0.2, -0.5, 0.7)], ids=str
)
def test_angles_are_undone(angles):
    """From the formula of the coefficients to a camera: (Rz Ry Rx)^T diag(1, -1, -1)."""
    x, y, z = (rotation(k, angle) for k, angle in enumerate(angles))
    pose = np.eye(4)
    pose[:3, :3] = (z @ y @ x).T @ np.diag([1, -1, -1])
    label = torch.from_numpy(np.concatenate([pose.ravel(), np.eye(3).ravel()]))[None]
    assert camera_angles(label)[0].tolist() == pytest.approx(angles, abs=1e-9)


def camera(position, roll=0.0):
    """The label [1, 25] of a camera that looks at the origin; turned about its line of sight, so
    that the picture turns counter-clockwise by `roll`."""
    pose = look_at(torch.tensor([position], dtype=torch.float64), (0.0, 0.0, 0.0))
    pose[:, :3, :3] = pose[:, :3, :3] @ torch.from_numpy(rotation(2, roll))
    return Camera(pose, torch.eye(3).double()[None]).label()


def test_angles_of_cameras_that_look_at_a_face():
    up, aside = math.radians(20), math.radians(30)
    assert camera_angles(camera([0, 0, 2.7]))[0].tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    above = camera_angles(camera([0, math.sin(up), math.cos(up)]))
    assert above[0].tolist() == pytest.approx([up, 0, 0], abs=1e-6)
    left = camera_angles(camera([-math.sin(aside), 0, math.cos(aside)]))
    assert left[0].tolist() == pytest.approx([0, aside, 0], abs=1e-6)
    rolled = camera([0, 0, 2.7], roll=0.2)
    assert camera_angles(rolled)[0].tolist() == pytest.approx([0, 0, 0.2], abs=1e-6)
    # The top of the head, in the axes of that picture (right, down): up and to the left.
    right, down = (
        Camera.from_label(rolled).cam2world[0, :3, :3].T @ torch.tensor([0, 1.0, 0]).double()
    )[:2]
    assert right == pytest.approx(-math.sin(0.2)) and down == pytest.approx(-math.cos(0.2))


def posed(z, c):
    """Pictures whose colour tells the pose."""
    return flat(camera_angles(c).float() / 4)


def test_true_poses_have_no_error(cars):
    found = measure(pose_accuracy, options(cars, Painted(posed)), lambda x: means(x) * 4)
    assert found["pose_accuracy"] < 1e-10
    assert (found["pose_pictures"], found["pose_excluded"]) == (COUNT, 0)


def test_a_bias_is_squared(cars):
    """Also once around: an angle plus a turn is the same angle."""
    bias = torch.tensor([0.1, -0.2, 0.3 + 2 * math.pi])
    found = measure(pose_accuracy, options(cars, Painted(posed)), lambda x: means(x) * 4 + bias)
    parts = [found[f"pose_{name}"] for name in ("pitch", "yaw", "roll")]
    assert parts == pytest.approx([0.01, 0.04, 0.09], rel=1e-4)
    assert found["pose_accuracy"] == pytest.approx(0.14, rel=1e-4)


def test_poses_that_are_not_found_are_left_out(cars):
    _, c = subjects(cars)
    hidden = camera_angles(c)[:, 1] < 0

    def estimate(pictures):
        angles = means(pictures) * 4
        return torch.where(angles[:, 1:2] < 0, torch.tensor([0, math.nan, 0]), angles + 0.1)

    found = measure(pose_accuracy, options(cars, Painted(posed)), estimate)
    assert found["pose_excluded"] == int(hidden.sum()) and 0 < hidden.sum() < COUNT
    assert found["pose_accuracy"] == pytest.approx(0.03, rel=1e-4)
    nobody = measure(pose_accuracy, options(cars, Painted(posed)), lambda x: means(x) + math.nan)
    assert nobody.pop("pose_excluded") == COUNT and nobody.pop("pose_pictures") == 0
    assert len(nobody) == 4 and all(map(math.isnan, nobody.values()))


# -- All of them -----------------------------------------------------------------------------------

METRICS = {
    identity_consistency: lambda x: F.adaptive_avg_pool2d(x, 4).flatten(1),
    depth_accuracy: lambda x: x[:, :1] - x[:, 2:],
    pose_accuracy: means,
}


@pytest.mark.parametrize("metric", METRICS)
def test_any_number_of_processes_gives_the_same(cars, monkeypatch, metric):
    """Where super-resolution has random noise too."""
    G = solid_generator()
    G.rendering_kwargs["superresolution_noise_mode"] = "random"
    one = measure(metric, options(cars, G), METRICS[metric])
    assert all(map(math.isfinite, one.values()))

    def in_rank(rank):
        return metric(options(cars, G, num_gpus=2, rank=rank), METRICS[metric], COUNT)

    assert in_ranks(monkeypatch, 2, in_rank) == [one, one]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "more", [dict(seed=1), dict(G_kwargs=dict(truncation_psi=0.3, noise_mode="random"))], ids=str
)
def test_options_change_what_is_measured(cars, metric, more):
    G, estimate = solid_generator(), METRICS[metric]
    one = measure(metric, options(cars, G), estimate)
    assert measure(metric, options(cars, G, **more), estimate) != one


@pytest.mark.parametrize(
    ("metric", "estimate", "line"),
    [
        (
            identity_consistency,
            lambda x: x,
            r"face embedder returns \(4, 3, 112, 112\) for 4 .*\[4, any\]",
        ),
        (depth_accuracy, means, r"depth estimator returns \(4, 3\) for .* \[4, 1, any, any\]"),
        (pose_accuracy, lambda x: means(x)[:, :2], r"pose estimator returns \(4, 2\) .* \[4, 3\]"),
        (pose_accuracy, lambda x: None, "pose estimator returns NoneType for 4 pictures"),
        (pose_accuracy, lambda x: means(x)[:1], r"pose estimator returns \(1, 3\)"),
    ],
)
def test_estimators_that_are_something_else(cars, metric, estimate, line):
    opts = options(cars, Painted(shown_depth, bumps))
    with pytest.raises(MetricError, match=f"^the {line}"):
        measure(metric, opts, estimate)
