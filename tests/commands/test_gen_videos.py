"""gen_videos.py: videos are decoded and compared with what the library renders."""

import json
import math

import imageio_ffmpeg
import mrcfile
import numpy as np
import PIL.Image
import pytest
import torch

import eg3d
import gen_videos
from eg3d import filming, latent_paths, latents, pictures, trajectories, views
from eg3d.generate import Style
from training.snapshots import save_snapshot


@pytest.fixture
def model(snapshot):
    return eg3d.load(snapshot, device="cpu")


@pytest.fixture
def made(run_on, tmp_path):
    """`made(*arguments)` -> the folder that a run which succeeds has made."""

    def run(*arguments):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        result = run_on(gen_videos.main, f"--outdir={folder}", *arguments)
        assert result.exit_code == 0, result.output
        return folder

    return run


@pytest.fixture
def strip(made):
    """`strip(*arguments)` -> the strip [H, W, 3] of all 4 frames of a run that succeeds."""

    def run(*arguments):
        if arguments not in _strips:
            fixed = ["--seeds=0", "--frames=4", "--strip=4", "--format=png"]
            folder = made(*fixed, *arguments)
            _strips[arguments] = np.asarray(PIL.Image.open(next(folder.glob("*_strip.png"))))
        return _strips[arguments]

    return run


_strips = {}  # of all tests: the same arguments give the same files


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def decode(path):
    """(what ffmpeg says about a video, its frames uint8 [T, H, W, 3])."""
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    frames = [np.frombuffer(f, dtype=np.uint8).reshape(height, width, 3) for f in reader]
    return about, np.stack(frames)


def test_video_of_a_grid(made, model):
    arguments = ["--seeds=0-3", "--grid=2x2", "--frames=6", "--strip=3", "--fps=12", "--trunc=0.7"]
    folder = made(*arguments, "--path=orbit")
    assert names(folder) == ["orbit.mp4", "orbit_strip.png"]
    about, frames = decode(folder / "orbit.mp4")
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p")
    assert about["fps"] == 12 and frames.shape == (6, 128, 128, 3)

    with torch.no_grad():
        scene, camera = model.scenes(range(4), psi=0.7), views.orbit(model, 6)
        expected = [
            pictures.tile(pictures.to_uint8(scene.render(camera[i], samples=2.0).image), 2, 2)
            for i in range(6)
        ]
    kept = np.asarray(PIL.Image.open(folder / "orbit_strip.png"))
    assert np.array_equal(kept, np.concatenate([expected[0], expected[2], expected[4]], axis=1))
    # Colour noise of untrained pictures suffers from 4:2:0; their order does not.
    for index, frame in enumerate(frames):
        errors = [np.abs(frame.astype(int) - e).mean() for e in expected]
        assert int(np.argmin(errors)) == index and errors[index] < 12


def test_recordings_are_for_gpus_and_change_no_frame(strip):
    assert np.array_equal(strip("--cuda-graphs=True"), strip())


def test_video_of_a_class(classed_snapshot, made):
    """Of the class that is asked for, else of the one that is drawn from the seed."""
    model = eg3d.load(classed_snapshot, device="cpu")
    for asked, index in (([], model.classes([3])[0]), (["--class=0"], 0)):
        arguments = ["--seeds=3", "--frames=1", "--strip=1", "--format=png", *asked]
        folder = made(*arguments, f"--network={classed_snapshot}", "--path=orbit")
        shown = np.asarray(PIL.Image.open(folder / "orbit_strip.png"))
        with torch.no_grad():
            scene = model.scene(3, class_index=index)
            image = scene.render(views.orbit(model, 1), samples=2.0).image
        assert np.array_equal(shown, pictures.to_uint8(image)[0])
    assert model.classes([3]) != [0]


def test_published_command(made, model):
    """As published videos are made: from seed to seed on the published path, 60 frames a second."""
    folder = made(
        *["--seeds=3-5", "--trunc=0.7", "--trunc-cutoff=14", "--grid=1x1", "--w-frames=2"],
        *["--cfg=FFHQ", "--image_mode=image", "--sample_mult=2", "--nrr=16", "--fps=60"],
        *["--shapes=False", "--interpolate=True", "--reload_modules=False", "--strip=6"],
    )
    assert names(folder) == ["interpolation.mp4", "interpolation_strip.png"]
    about, frames = decode(folder / "interpolation.mp4")
    assert about["fps"] == 60 and frames.shape == (6, 64, 64, 3)
    shown = np.asarray(PIL.Image.open(folder / "interpolation_strip.png"))
    label = views.sway(model, 6).label()
    label[:, 16] = label[:, 20] = 4.2647
    camera = eg3d.Camera.from_label(label)
    for t in range(0, 6, 2):  # every second frame is a seed
        with torch.no_grad():
            # The lens is part of what latents are conditioned on.
            front = eg3d.Camera(model.camera.cam2world, camera.intrinsics[:1])
            ws = model.mapping(model.latents([3 + t // 2]), front, psi=0.7)
            image = model.scenes_of(ws).render(camera[t], samples=2.0).image
        expected = pictures.to_uint8(image)[0].astype(int)
        assert np.abs(shown[:, 64 * t : 64 * (t + 1)] - expected).max() <= 2


def test_length_of_videos(made):
    for arguments, count in (
        (["--seeds=0-1", "--w-frames=3"], 6),
        (["--seeds=0-1", "--frames=5"], 5),
        (["--seeds=0-3", "--grid=1x2", "--w-frames=2"], 4),
        (["--seeds=0-2", "--num-keyframes=4", "--w-frames=2"], 8),
    ):
        _, frames = decode(made(*arguments) / "interpolation.mp4")
        assert len(frames) == count, arguments
    help_text = gen_videos.main.get_help(
        gen_videos.main.make_context("x", [], resilient_parsing=True)
    )
    assert "--w-frames" in help_text and "default: 120" in help_text


def test_frames_are_those_of_the_library(strip, model):
    found = strip(
        "--seeds=4-9", "--grid=3x1", "--shuffle-seed=3", "--path=dolly", "--vis=depth,raw"
    )
    seeds = latent_paths.deal(range(4, 10), (3, 1), shuffle_seed=3)
    with torch.no_grad():
        style = Style(samples=2.0)
        takes = latent_paths.takes(model, style, seeds, trajectories.dolly(model, 4))
        frames = [filming.picture(model, style, *take, (3, 1), ("depth", "raw")) for take in takes]
    assert np.array_equal(found, np.concatenate(frames, axis=1))


def test_a_video_for_each_seed(made):
    folder = made("--seeds=3,12", "--interpolate=False", "--frames=3", "--strip=3", "--path=sway")
    assert names(folder) == ["12.mp4", "12_strip.png", "3.mp4", "3_strip.png"]
    alone = made("--seeds=12", "--frames=3", "--strip=3", "--path=sway")
    kept = [
        np.asarray(PIL.Image.open(f)) for f in (folder / "12_strip.png", alone / "sway_strip.png")
    ]
    assert np.array_equal(*kept)


@pytest.mark.parametrize(
    "option",
    [
        "--trunc=0.3",
        "--fov-deg=30.5",
        "--hfov-deg=20",
        "--jitter=random",
        "--mix=7:0-2",
        "--cfg=shapenet",
        "--sample_mult=1",
        "--nrr=12",
        "--image_mode=image_raw",
        "--image-mode=image_depth",
        "--image-mode=image_normals",
        "--vis=image,normals",
        "--path=orbit",
        "--path=spiral",
        "--path=dolly",
        "--path=front",
        "--interpolation=conditioning",
        "--interpolation=both",
        "--up=z",
    ],
)
def test_every_option_changes_something(strip, option):
    assert not np.array_equal(strip(), strip(option))


@pytest.mark.parametrize(
    "partner, option",
    [
        ("--trunc=0.3", "--trunc-cutoff=1"),
        ("--path=orbit", "--elevation=25"),
        ("--seeds=0-2", "--shuffle-seed=1"),
        ("--seeds=0-2", "--num-keyframes=2"),
        ("--seeds=0-1", "--grid=2x1"),
        ("--interpolation=both", "--interpolation=conditioning"),
    ],
)
def test_more_options_change_something(strip, partner, option):
    assert not np.array_equal(strip(partner), strip(partner, option))


def test_grid_shape(strip):
    tall = strip("--seeds=0-2", "--grid=1x3", "--image-mode=image_raw")
    wide = strip("--seeds=0-2", "--grid=3,1", "--image-mode=image_raw")
    assert tall.shape == (48, 4 * 16, 3) and wide.shape == (16, 4 * 48, 3)
    assert np.array_equal(tall[16:32, :16], wide[:, 16:32])


def test_depth_keeps_its_range(strip, model):
    found = strip("--image-mode=image_depth", "--path=orbit")
    with torch.no_grad():
        depth = model.scene(0).render(views.orbit(model, 4)[3], samples=2.0).depth
    expected = np.rint((1 - (depth[0, 0].numpy() - 2.25) / (3.3 - 2.25)).clip(0, 1) * 255)
    assert np.abs(found[:, 48:, 0] - expected).max() <= 1


def test_path_of_keyframe_cameras(made, model, tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps([{"azimuth": 20}, {"azimuth": 50, "fov": 25}]))
    folder = made("--seeds=0", "--frames=3", "--strip=3", f"--cameras={path}")
    assert names(folder) == ["cameras.mp4", "cameras_strip.png"]
    shown = np.asarray(PIL.Image.open(folder / "cameras_strip.png"))[:, 128:]
    azimuth, focal = math.radians(50), 1 / (math.tan(math.radians(12.5)) * 1.414)
    place = 2.7 * torch.tensor([[math.sin(azimuth), 0, math.cos(azimuth)]])
    pose = eg3d.cameras.create_cam2world_matrix(torch.tensor([0, 0, 0.2]) - place, place)
    lens = torch.tensor([[[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]]])
    with torch.no_grad():
        image = model.scene(0).render(eg3d.Camera(pose, lens), samples=2.0).image
    assert np.abs(shown.astype(int) - pictures.to_uint8(image)[0]).max() <= 2


def test_default_path_of_a_model_that_saw_all_sides(new_generator, made, tmp_path):
    path, G = tmp_path / "all_sides.pkl", new_generator(camera_azimuth_degrees=[-180, 180])
    save_snapshot(path, {}, G_ema=G)
    assert names(made(f"--network={path}", "--seeds=0", "--frames=2")) == ["orbit.mp4"]
    assert names(made("--seeds=0", "--frames=2")) == ["sway.mp4"]


def test_noise_mode(strip, new_generator, tmp_path):
    """On a model whose noise has a strength, which that of the other tests has not."""
    path, G = tmp_path / "noisy.pkl", new_generator()
    for name, parameter in G.backbone.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(1.0)
    save_snapshot(path, {}, G_ema=G)
    network = f"--network={path}"
    const, none = strip(network), strip(network, "--noise-mode=none")
    assert not np.array_equal(const, none)


def test_projected_latents(strip, made, fails, model, tmp_path):
    """Latents of a file are keyframes as seeds are."""
    (tmp_path / "w").mkdir()
    latents.write_ws(tmp_path / "w" / "w.npz", model.mapping(model.latents([5, 6])))
    given = f"--projected-w={tmp_path / 'w' / 'w.npz'}"
    folder = made(given, "--frames=4", "--strip=4", "--format=png")
    found = np.asarray(PIL.Image.open(folder / "interpolation_strip.png"))
    assert np.abs(found.astype(int) - strip("--seeds=5-6")).max() <= 1
    words = ["'both' has no effect", "given"]
    fails(gen_videos.main, f"--outdir={tmp_path}", given, "--interpolation=both", words=words)


def test_formats(made):
    for ending in ("gif", "webp"):
        folder = made("--seeds=0", "--frames=3", "--path=orbit", f"--format={ending}")
        assert names(folder) == [f"orbit.{ending}"]
        with PIL.Image.open(folder / f"orbit.{ending}") as file:
            assert file.n_frames == 3 and file.size == (64, 64)
    folder = made("--seeds=0", "--frames=2", "--format=png", "--path=orbit", "--strip=2")
    frames = ["orbit/0000.png", "orbit/0001.png"]
    assert names(folder) == ["orbit", *frames, "orbit_strip.png"]
    found = np.concatenate([np.asarray(PIL.Image.open(folder / f)) for f in frames], axis=1)
    assert np.array_equal(found, np.asarray(PIL.Image.open(folder / "orbit_strip.png")))


def test_shapes(made, model):
    arguments = ["--seeds=0-3", "--grid=2x1", "--frames=2", "--shapes=True", "--shape-res=16"]
    folder = made(*arguments, "--shape-format=mrc")
    shapes = [f"interpolation_shapes/000{t}_shape_{cell}.mrc" for t in (0, 1) for cell in (0, 1)]
    others = ["interpolation.mp4", "interpolation_shapes", "interpolation_trajectory.npy"]
    assert names(folder) == sorted([*shapes, *others])
    with torch.no_grad():
        expected = model.scene(2).volume(16).density[::-1]  # x reversed, as published
    found = mrcfile.read(folder / shapes[1])
    assert np.allclose(found, expected, atol=1e-4)
    poses = np.load(folder / "interpolation_trajectory.npy")
    assert np.array_equal(poses, views.sway(model, 2).cam2world.repeat_interleave(2, 0).numpy())
    # Where nothing changes but the view there is one shape for all frames.
    still = made("--seeds=0", "--frames=2", "--shapes=True", "--shape-res=12", "--shape-format=mrc")
    assert len(list((still / "sway_shapes").iterdir())) == 1


def test_two_runs_give_the_same_bytes(run_on, tmp_path):
    for name in "ab":
        arguments = [f"--outdir={tmp_path / name}", "--seeds=0-1", "--frames=3", "--strip=2"]
        assert run_on(gen_videos.main, *arguments).exit_code == 0
        torch.rand(7)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--seeds=0-4", "--grid=2x2"], ["2x2", "4 cells", "5 seeds"]),
        (["--grid=2x1", "--interpolate=False"], ["2x1", "2 cells", "1 seeds"]),
        (["--frames=0"], ["--frames"]),
        (["--frames=4", "--w-frames=2"], ["--frames", "--w-frames"]),
        (["--w-frames=0"], ["--w-frames"]),
        (["--num-keyframes=0"], ["--num-keyframes"]),
        (["--shuffle-seed=-1"], ["--shuffle-seed"]),
        (["--shuffle-seed=1", "--interpolate=False"], ["--shuffle-seed", "--interpolate"]),
        (["--interpolate=maybe"], ["--interpolate", "maybe"]),
        (["--interpolation=pose"], ["--interpolation", "conditioning"]),
        (["--fps=0"], ["--fps"]),
        (["--fps=inf"], ["--fps"]),
        (["--format=gif", "--fps=60"], ["sway.gif", "at most 50"]),
        (["--format=avi"], ["--format", "webp"]),
        (["--strip=5", "--frames=4"], ["--strip=5", "4 frames"]),
        (["--elevation=90", "--path=orbit"], ["elevation", "90"]),
        (["--elevation=3", "--path=sway"], ["elevation", "sway"]),
        (["--elevation=3", "--cameras=x.json"], ["--elevation", "--cameras"]),
        (["--path=loop"], ["--path", "spiral"]),
        (["--path=orbit", "--cameras=x.json"], ["--path", "--cameras"]),
        (["--cameras=no_such.json"], ["no_such.json"]),
        (["--vis=image,heat"], ["--vis", "heat", "normals"]),
        (["--vis=depth", "--image-mode=image_raw"], ["--vis", "--image-mode"]),
        (["--cfg=LSUN"], ["--cfg", "shapenet"]),
        (["--cfg=FFHQ", "--fov-deg=12"], ["--cfg", "--fov-deg"]),
        (["--cfg=FFHQ", "--hfov-deg=12"], ["--cfg", "--hfov-deg"]),
        (["--mix=3"], ["--mix", "7:8-13"]),
        (["--shape-res=64"], ["--shape-res", "--shapes"]),
        (["--shape-format=ply"], ["--shape-format", "--shapes"]),
        (["--shapes=True", "--shape-format=fbx"], ["--shape-format", "mrc"]),
        (["--trunc=nan"], ["--trunc"]),
        (["--network=no_such.pkl"], ["no_such.pkl"]),
    ],
)
def test_bad_input_is_one_line(fails, tmp_path, arguments, words):
    fixed = [f"--outdir={tmp_path / 'out'}", "--seeds=0"]
    fails(gen_videos.main, *fixed, *arguments, words=words)
    assert not (tmp_path / "out").exists()


def test_outdir_that_is_a_file(fails, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ["--seeds=0", "--frames=1", f"--outdir={tmp_path / 'file'}"]
    fails(gen_videos.main, *arguments, words=["file", "cannot be made a folder"])
