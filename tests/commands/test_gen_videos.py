"""gen_videos.py: videos are decoded and compared with what the library renders."""

import imageio_ffmpeg
import numpy as np
import PIL.Image
import pytest
import torch

import eg3d
import gen_videos
from eg3d import pictures, views


@pytest.fixture
def model(snapshot):
    return eg3d.load(snapshot, device="cpu")


@pytest.fixture
def strip(run_on, tmp_path):
    """`strip(*arguments)` -> the strip [H, W, 3] of all 4 frames of a run that succeeds."""

    def run(*arguments):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        fixed = [f"--outdir={folder}", "--seeds=0", "--frames=4", "--strip=4"]
        result = run_on(gen_videos.main, *fixed, *arguments)
        assert result.exit_code == 0, result.output
        return np.asarray(PIL.Image.open(next(folder.glob("*_strip.png"))))

    return run


def test_video_of_a_grid(run_on, tmp_path, model):
    arguments = ["--seeds=0-3", "--frames=6", "--strip=3", "--fps=12", "--trunc=0.7"]
    result = run_on(gen_videos.main, f"--outdir={tmp_path}", *arguments)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["orbit.mp4", "orbit_strip.png"]
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "orbit.mp4"))
    about = next(reader)
    frames = [np.frombuffer(f, dtype=np.uint8).reshape(128, 128, 3) for f in reader]
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p")
    assert about["fps"] == 12 and len(frames) == 6

    with torch.no_grad():
        scene, camera = model.scenes(range(4), psi=0.7), views.orbit(model, 6)
        expected = [
            pictures.tile(pictures.to_uint8(scene.render(camera[i], samples=2.0).image), 2, 2)
            for i in range(6)
        ]
    kept = np.asarray(PIL.Image.open(tmp_path / "orbit_strip.png"))
    assert np.array_equal(kept, np.concatenate([expected[0], expected[2], expected[4]], axis=1))
    # Colour noise of untrained pictures suffers from 4:2:0; their order does not.
    for index, frame in enumerate(frames):
        errors = [np.abs(frame.astype(int) - e).mean() for e in expected]
        assert int(np.argmin(errors)) == index and errors[index] < 12


@pytest.mark.parametrize(
    "option",
    [
        "--trunc=0.3",
        "--fov-deg=30.5",
        "--sample_mult=1",
        "--nrr=12",
        "--image_mode=image_raw",
        "--image-mode=image_depth",
        "--elevation=25",
        "--path=sway",
        "--up=z",
    ],
)
def test_every_option_changes_something(strip, option):
    assert not np.array_equal(strip(), strip(option))


def test_truncation_cutoff_changes_something(strip):
    assert not np.array_equal(strip("--trunc=0.3"), strip("--trunc=0.3", "--trunc-cutoff=1"))


def test_grid_shape(strip):
    tall = strip("--seeds=0-2", "--grid=1x3", "--image-mode=image_raw")
    wide = strip("--seeds=0-2", "--image-mode=image_raw")  # 3 fill no square: one row
    assert tall.shape == (48, 4 * 16, 3) and wide.shape == (16, 4 * 48, 3)
    assert np.array_equal(tall[16:32, :16], wide[:, 16:32])


def test_depth_keeps_its_range(strip, model):
    found = strip("--image-mode=image_depth")
    with torch.no_grad():
        depth = model.scene(0).render(views.orbit(model, 4)[3], samples=2.0).depth
    expected = np.rint((1 - (depth[0, 0].numpy() - 2.25) / (3.3 - 2.25)).clip(0, 1) * 255)
    assert np.abs(found[:, 48:, 0] - expected).max() <= 1


def test_two_runs_give_the_same_bytes(run_on, tmp_path):
    for name in "ab":
        arguments = [f"--outdir={tmp_path / name}", "--seeds=0", "--frames=3", "--strip=2"]
        assert run_on(gen_videos.main, *arguments).exit_code == 0
        torch.rand(7)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--seeds=0-4", "--grid=2x2"], ["2x2", "4 cells", "5 seeds"]),
        (["--frames=0"], ["--frames"]),
        (["--fps=0"], ["--fps"]),
        (["--fps=inf"], ["--fps"]),
        (["--strip=5", "--frames=4"], ["--strip=5", "4 frames"]),
        (["--elevation=90"], ["elevation", "90"]),
        (["--elevation=3", "--path=sway"], ["--elevation", "sway"]),
        (["--trunc=nan"], ["--trunc"]),
        (["--w-frames=60"], ["--w-frames", "not built yet", "--frames"]),
        (["--num-keyframes=2"], ["--num-keyframes", "not built yet"]),
        (["--shuffle-seed=0"], ["--shuffle-seed", "not built yet"]),
        (["--interpolate=False"], ["--interpolate", "not built yet"]),
        (["--interpolate=True"], ["--interpolate", "not built yet"]),
        (["--shapes=True"], ["--shapes", "not built yet"]),
        (["--cfg=FFHQ"], ["--cfg", "--fov-deg"]),
        (["--network=no_such.pkl"], ["no_such.pkl"]),
    ],
)
def test_bad_input_is_one_line(fails, tmp_path, arguments, words):
    fixed = [f"--outdir={tmp_path / 'out'}", "--seeds=0"]
    fails(gen_videos.main, *fixed, *arguments, words=words)
    assert not (tmp_path / "out").exists()
