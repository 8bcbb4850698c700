"""gen_samples.py: files against what the library gives, and every option changes something."""

import json

import numpy as np
import PIL.Image
import pytest
import torch

import eg3d
import gen_samples
from eg3d import pictures, views
from eg3d.cameras import LookAtPoseSampler
from training.volumetric_rendering.draws import FixedDraws


@pytest.fixture
def model(snapshot):
    return eg3d.load(snapshot, device="cpu")


@pytest.fixture
def samples(run_on, tmp_path):
    """`samples(*arguments)` -> {file name: array [H, W, 3]} of a run that succeeds."""

    def run(*arguments):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        result = run_on(gen_samples.main, f"--outdir={folder}", *arguments)
        assert result.exit_code == 0, result.output
        return {p.name: np.asarray(PIL.Image.open(p)) for p in sorted(folder.iterdir())}

    return run


@pytest.fixture
def reals(tmp_path):
    """A folder with four flat images of 64 x 64, bright red."""
    folder = tmp_path / "reals"
    folder.mkdir()
    for index in range(4):
        PIL.Image.new("RGB", (64, 64), (250 + index, 0, 0)).save(folder / f"{index}.png")
    return folder


def test_published_pictures(samples, generator):
    """Three views, step by step with the generator alone."""
    found = samples("--seeds=3,7-8", "--trunc=0.6", "--trunc-cutoff=3")
    assert list(found) == ["seed0003.png", "seed0007.png", "seed0008.png"]
    f = 4.2633910
    lens = torch.tensor([f, 0, 0.5, 0, f, 0.5, 0, 0, 1])
    half = np.pi / 2

    def label(yaw, pitch):
        pivot = torch.tensor([0, 0, 0.2])
        pose = LookAtPoseSampler.sample(half + yaw, half + pitch, pivot, radius=2.7)
        return torch.cat([pose.reshape(1, 16), lens[None]], dim=1)

    z = torch.from_numpy(np.random.RandomState(7).randn(1, 16))
    ws = generator.mapping(z, label(0, 0), truncation_psi=0.6, truncation_cutoff=3)
    for index, yaw in enumerate((0.4, 0, -0.4)):
        out = generator.synthesis(ws, label(yaw, -0.2), noise_mode="const", draws=FixedDraws())
        picture = pictures.to_uint8(out["image"])[0]
        part = found["seed0007.png"][:, 64 * index : 64 * (index + 1)]
        assert np.abs(part.astype(int) - picture).max() <= 1
    assert found["seed0007.png"].shape == (64, 192, 3)
    assert np.abs(found["seed0007.png"].astype(int) - found["seed0008.png"]).max() > 5


def test_two_runs_give_the_same_bytes(run_on, tmp_path):
    for name in "ab":
        run_on(gen_samples.main, f"--outdir={tmp_path / name}", "--seeds=0-1")
        torch.rand(7)  # whatever else has drawn numbers in between
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    "option",
    [
        "--trunc=0.3",
        "--fov-deg=30.5",
        "--sample-mult=3",
        "--nrr=12",
        "--image-mode=image_raw",
        "--image_mode=image_depth",
        "--views=front",
        "--views=orbit:3",
        "--up=z",
    ],
)
def test_every_option_changes_something(samples, option):
    plain, changed = samples("--seeds=0"), samples("--seeds=0", option)
    assert list(plain) == list(changed)
    assert not np.array_equal(plain["seed0000.png"], changed["seed0000.png"])


def test_dashes_and_underscores_are_the_same(samples):
    one = samples("--seeds=0", "--image-mode=image-raw", "--sample-mult=2", "--fov-deg=20")
    two = samples("--seeds=0", "--image_mode=image_raw", "--sample_mult=2", "--fov_deg=20")
    assert np.array_equal(one["seed0000.png"], two["seed0000.png"])


def test_sizes_of_modes_and_views(samples):
    assert samples("--seeds=0", "--image_mode=image_raw")["seed0000.png"].shape == (16, 48, 3)
    assert samples("--seeds=0", "--image_mode=image_raw", "--nrr=20", "--views=orbit:2")[
        "seed0000.png"
    ].shape == (20, 40, 3)


def test_cameras_from_a_file(samples, model, tmp_path):
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps(views.published(model).label().tolist()))
    from_file = samples("--seeds=0", f"--cameras={path}")["seed0000.png"]
    assert np.array_equal(from_file, samples("--seeds=0")["seed0000.png"])


def test_grid(samples, model):
    found = samples("--seeds=0-5", "--grid=3x2")
    assert list(found) == ["grid.png"] and found["grid.png"].shape == (128, 192, 3)
    front = samples("--seeds=4", "--views=front")["seed0004.png"]
    assert np.abs(found["grid.png"][64:, 64:128].astype(int) - front).max() <= 1
    spread = samples("--seeds=0-5", "--grid=3,2", "--grid-views=random")["grid.png"]
    with torch.no_grad():
        camera = views.random_views(model, [4])
        expected = pictures.to_uint8(model.scene(4).render(camera).image)[0]
    assert np.abs(spread[64:, 64:128].astype(int) - expected).max() <= 1
    assert np.abs(spread.astype(int) - found["grid.png"]).max() > 5


def test_grid_with_a_camera_for_each_seed(samples, fails, model, tmp_path):
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps(views.random_views(model, [0, 1]).label().tolist()))
    given = samples("--seeds=0,1", "--grid=2x1", f"--cameras={path}")["grid.png"]
    drawn = samples("--seeds=0,1", "--grid=2x1", "--grid-views=random")["grid.png"]
    assert np.abs(given.astype(int) - drawn).max() <= 1
    words = ["2 cameras for 3 seeds"]
    arguments = [f"--outdir={tmp_path}", "--seeds=0-2", "--grid=3x1", f"--cameras={path}"]
    fails(gen_samples.main, *arguments, words=words)


def test_reals_beside_fakes(samples, fails, reals, tmp_path):
    plain = samples("--seeds=0-3", "--grid=2x2")["grid.png"]
    both = samples("--seeds=0-3", "--grid=2x2", f"--data={reals}")["grid.png"]
    assert both.shape == (128, 128 + 8 + 128, 3)
    assert np.array_equal(both[:, 136:], plain)
    assert (both[:, :128, 0] >= 250).all() and (both[:, :128, 1] == 0).all()
    assert sorted({int(v) for v in both[:, :128, 0].ravel()}) == [250, 251, 252, 253]
    assert (both[:, 128:136] == 255).all()

    small = tmp_path / "small"
    small.mkdir()
    PIL.Image.new("RGB", (32, 32)).save(small / "0.png")
    arguments = [f"--outdir={tmp_path}", "--seeds=0", "--grid=1x1"]
    fails(gen_samples.main, *arguments, f"--data={small}", words=["small", "32x32", "64x64"])
    nowhere = tmp_path / "nowhere.zip"
    fails(gen_samples.main, *arguments, f"--data={nowhere}", words=["nowhere.zip", "no such"])


def test_notes_go_to_stderr(run_on, tmp_path):
    arguments = [f"--outdir={tmp_path}", "--seeds=0", "--views=front"]
    result = run_on(gen_samples.main, *arguments, "--trunc-cutoff=14", "--reload_modules=True")
    assert result.exit_code == 0 and result.stdout == ""
    assert "the model has 6 layers, all are truncated" in result.stderr
    assert "--reload-modules: not needed" in result.stderr
    result = run_on(gen_samples.main, *arguments, "--shapes=False", "--reload-modules=no")
    assert result.exit_code == 0 and result.stderr == ""


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--seeds=a"], ["--seeds", "'a'"]),
        (["--seeds=3-1"], ["runs backwards", "1-3"]),
        (["--seeds=0,,1"], ["--seeds"]),
        (["--seeds=-1"], ["--seeds"]),
        (["--seeds=4294967296"], ["too large"]),
        (["--seeds=0-99999999"], ["more than"]),
        (["--trunc=nan"], ["--trunc", "finite"]),
        (["--trunc=much"], ["--trunc", "'much'"]),
        (["--trunc-cutoff=-1"], ["--trunc-cutoff"]),
        (["--fov-deg=0"], ["--fov-deg"]),
        (["--fov-deg=180"], ["180", "between"]),
        (["--sample-mult=0"], ["--sample-mult"]),
        (["--sample-mult=0.1"], ["0.1 times", "depth_resolution"]),
        (["--nrr=0"], ["--nrr"]),
        (["--image-mode=sketch"], ["--image-mode", "sketch"]),
        (["--device=abacus"], ["abacus"]),
        (["--grid=3x1"], ["3x1", "1 seeds"]),
        (["--grid=3"], ["--grid", "4x2"]),
        (["--grid=0x1"], ["--grid"]),
        (["--views=back"], ["back", "orbit:N"]),
        (["--views=front", "--grid=1x1"], ["--grid-views"]),
        (["--views=front", "--cameras=x.json"], ["--views", "--cameras"]),
        (["--up=y", "--cameras=x.json"], ["--up", "--cameras"]),
        (["--grid-views=random"], ["needs --grid"]),
        (["--grid-views=front", "--grid=1x1", "--cameras=x.json"], ["--grid-views"]),
        (["--data=x.zip"], ["--data needs --grid"]),
        (["--data=x.zip", "--grid=1x1", "--image-mode=image_raw"], ["--data", "--image-mode"]),
        (["--cameras=no_such.json"], ["no_such.json"]),
        (["--class=3"], ["--class", "leave it out"]),
        (["--shapes=True"], ["--shapes", "not built yet"]),
        (["--shape-res=64"], ["--shape-res", "not built yet"]),
        (["--shape-format=.ply"], ["--shape-format", "not built yet"]),
        (["--network=no_such.pkl"], ["no_such.pkl"]),
        (["--no-such-option=1"], ["--no-such-option"]),
    ],
)
def test_bad_input_is_one_line(fails, tmp_path, arguments, words):
    fails(gen_samples.main, f"--outdir={tmp_path / 'out'}", "--seeds=0", *arguments, words=words)
    assert not (tmp_path / "out").exists()


def test_outdir_that_is_a_file(fails, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ["--seeds=0", f"--outdir={tmp_path / 'file'}"]
    fails(gen_samples.main, *arguments, words=["file", "cannot be made a folder"])
