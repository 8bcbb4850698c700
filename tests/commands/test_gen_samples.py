"""gen_samples.py: files against what the library gives, and every option changes something."""

import json

import mrcfile
import numpy as np
import PIL.Image
import pytest
import torch
import trimesh
from click.testing import CliRunner

import eg3d
import gen_samples
from eg3d import latents, pictures, views
from eg3d.cameras import LookAtPoseSampler
from eg3d.shape_files import write_shape
from training.snapshots import save_snapshot
from training.surfaces import normal_picture
from training.volumetric_rendering.draws import FixedDraws


@pytest.fixture
def model(snapshot):
    return eg3d.load(snapshot, device="cpu")


@pytest.fixture
def made(run_on, tmp_path):
    """`made(*arguments)` -> the folder of a run that succeeds."""

    def run(*arguments):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        result = run_on(gen_samples.main, f"--outdir={folder}", *arguments)
        assert result.exit_code == 0, result.output
        return folder

    return run


@pytest.fixture
def samples(made):
    """`samples(*arguments)` -> {file name: array [H, W, 3]} of a run that succeeds."""

    def run(*arguments):
        paths = sorted(made(*arguments).glob("*.png"))
        return {path.name: np.asarray(PIL.Image.open(path)) for path in paths}

    return run


@pytest.fixture(scope="module")
def plain(snapshot, tmp_path_factory):
    """The picture of seed 0 without further options."""
    folder = tmp_path_factory.mktemp("plain")
    arguments = [f"--network={snapshot}", "--seeds=0", f"--outdir={folder}"]
    gen_samples.main(arguments, standalone_mode=False)
    return np.asarray(PIL.Image.open(folder / "seed0000.png"))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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


def test_two_runs_give_the_same_bytes(made):
    options = ["--seeds=0-1", "--save-latents", "--shapes=True", "--shape-res=8"]
    options += ["--jitter=random", "--noise-mode=random", "--vis=image,normals"]
    folders = []
    for _ in range(2):
        folders.append(made(*options))
        torch.rand(7)  # whatever else has drawn numbers in between
    assert len(names(folders[0])) == 9 and names(folders[0]) == names(folders[1])
    for name in names(folders[0]):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


@pytest.mark.parametrize(
    "option",
    [
        "--trunc=0.3",
        "--fov-deg=30.5",
        "--hfov-deg=18.837",
        "--sample-mult=3",
        "--nrr=12",
        "--jitter=random",
        "--image-mode=image_raw",
        "--image_mode=image_depth",
        "--image_mode=image_normals",
        "--views=front",
        "--views=orbit:3",
        "--up=z",
    ],
)
def test_every_option_changes_something(samples, plain, option):
    changed = samples("--seeds=0", option)
    assert list(changed) == ["seed0000.png"]
    assert not np.array_equal(plain, changed["seed0000.png"])


def test_noise_modes(samples, new_generator, tmp_path):
    """On a model whose noise has a strength, which that of the other tests has not."""
    generator = new_generator()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.5)
    save_snapshot(tmp_path / "noisy.pkl", {}, G_ema=generator)
    options = ["--seeds=0", "--views=front", f"--network={tmp_path / 'noisy.pkl'}"]
    shown = [
        samples(*options, f"--noise-mode={mode}")["seed0000.png"]
        for mode in ("const", "none", "random")
    ]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(shown[i], shown[j])
    assert np.array_equal(samples(*options)["seed0000.png"], shown[0])
    pair = samples(options[-1], "--seeds=0,0", "--noise-mode=random", "--grid=2x1")["grid.png"]
    assert np.array_equal(pair[:, :64], shown[2]) and not np.array_equal(pair[:, 64:], shown[2])


def test_truncation_cutoff_changes_something(samples):
    options = ["--seeds=0", "--views=front", "--trunc=0.3"]
    full, part = samples(*options), samples(*options, "--trunc-cutoff=1")
    assert not np.array_equal(full["seed0000.png"], part["seed0000.png"])


def test_dashes_and_underscores_are_the_same(samples):
    one = samples("--seeds=0", "--image-mode=image-raw", "--sample-mult=2", "--fov-deg=20")
    two = samples("--seeds=0", "--image_mode=image_raw", "--sample_mult=2", "--fov_deg=20")
    assert np.array_equal(one["seed0000.png"], two["seed0000.png"])


def test_sizes_of_modes_and_views(samples):
    assert samples("--seeds=0", "--image_mode=image_raw")["seed0000.png"].shape == (16, 48, 3)
    assert samples("--seeds=0", "--image_mode=image_raw", "--nrr=20", "--views=orbit:2")[
        "seed0000.png"
    ].shape == (20, 40, 3)


def test_several_pictures_of_one_view(made, samples, model):
    """--vis: a file each, with what the library shows; --image-mode gives one of them."""
    found = samples("--seeds=0", "--views=front", "--vis=normals,depth,image,raw")
    with torch.no_grad():
        seen = model.scene(0).render(model.camera)
        expected = {
            "": pictures.to_uint8(seen.image),
            "_raw": pictures.to_uint8(seen.raw),
            "_depth": pictures.depth_to_uint8(seen.depth, *model.depth_range),
            "_normals": pictures.to_uint8(normal_picture(seen.depth, seen.opacity, model.camera)),
        }
    assert set(found) == {f"seed0000{ending}.png" for ending in expected}
    for ending, picture in expected.items():
        shown = found[f"seed0000{ending}.png"]
        assert np.abs(shown.astype(int) - picture[0]).max() <= 1 and shown.std() > 2, ending
    alone = samples("--seeds=0", "--views=front", "--image-mode=image_normals")
    assert np.array_equal(alone["seed0000.png"], found["seed0000_normals.png"])
    grid = made("--seeds=0-1", "--grid=2x1", "--vis=depth,image")
    assert names(grid) == ["cameras.json", "grid.png", "grid_depth.png"]


def test_cameras_are_written_and_read(made, samples, model):
    folder = made("--seeds=0", "--views=orbit:2", "--hfov-deg=30")
    camera = views.from_file(folder / "cameras.json")
    expected = views.orbit(model.with_fov(30, "width"), 2)
    assert torch.equal(camera.label(), expected.label())
    # The pictures have the cameras' lens; latents are conditioned on the model's own.
    same = samples("--seeds=0", f"--cameras={folder / 'cameras.json'}", "--hfov-deg=30")
    assert np.array_equal(same["seed0000.png"], np.asarray(PIL.Image.open(folder / "seed0000.png")))
    grid = made("--seeds=0-1", "--grid=2x1", "--grid-views=random")
    drawn = views.from_file(grid / "cameras.json").label()
    assert torch.equal(drawn, views.random_views(model, [0, 1]).label())


def test_latents_are_written_and_read(made, samples, model, tmp_path):
    folder = made("--seeds=3-4", "--trunc=0.6", "--save-latents")
    assert "seed0004.npz" in names(folder)
    with torch.no_grad():
        ws = model.mapping(model.latents([3, 4]), psi=0.6)
    kept = [latents.read_ws(folder / f"seed{seed:04d}.npz") for seed in (3, 4)]
    assert torch.allclose(torch.cat(kept), ws, atol=1e-6)
    latents.write_ws(tmp_path / "both.npz", torch.cat(kept))
    again = samples(f"--projected-w={tmp_path / 'both.npz'}")
    assert list(again) == ["projected0000.png", "projected0001.png"]
    for index, seed in enumerate((3, 4)):
        shown = np.asarray(PIL.Image.open(folder / f"seed{seed:04d}.png"))
        assert np.array_equal(again[f"projected{index:04d}.png"], shown)
    np.savez(tmp_path / "one.npz", w=kept[0][0, :1].numpy())  # [1, w_dim]: one for all layers
    one = samples(f"--projected-w={tmp_path / 'one.npz'}")["projected0000.png"]
    assert np.array_equal(one, again["projected0000.png"])


def test_style_mixing(samples, model):
    """Layer by layer; the columns of a grid are the other seeds."""
    found = samples("--seeds=0-1", "--mix=7,9:4-5", "--trunc=0.8", "--views=front")
    assert list(found) == [f"seed000{i}_mix000{j}.png" for i in (0, 1) for j in (7, 9)]
    with torch.no_grad():
        own, other = (model.mapping(model.latents([seed]), psi=0.8) for seed in (1, 9))
        own[:, 4], own[:, 5] = other[:, 4], other[:, 5]
        expected = pictures.to_uint8(model.scenes_of(own).render(model.camera).image)[0]
    shown = found["seed0001_mix0009.png"]
    assert np.abs(shown.astype(int) - expected).max() <= 1
    grid = samples("--seeds=0-1", "--mix=7,9:4-5", "--trunc=0.8", "--grid=2x2")["grid.png"]
    assert np.array_equal(grid[64:, 64:], shown)
    assert np.array_equal(grid[64:, :64], found["seed0001_mix0007.png"])
    turned = samples("--seeds=0-1", "--mix=7,9:4-5", "--grid=2x2", "--grid-views=random")
    assert not np.array_equal(turned["grid.png"], grid)


def test_latents_of_a_file_are_mixed(samples, model, tmp_path):
    with torch.no_grad():
        latents.write_ws(tmp_path / "w.npz", model.mapping(model.latents([1])))
    found = samples(f"--projected-w={tmp_path / 'w.npz'}", "--mix=9:4-5")
    seeds = samples("--seeds=1", "--mix=9:4-5")
    assert np.array_equal(found["projected0000_mix0009.png"], seeds["seed0001_mix0009.png"])


def test_shapes_as_published(made, model, tmp_path):
    folder = made("--seeds=2", "--shapes=True", "--shape-res=16", "--views=front")
    assert names(folder) == ["cameras.json", "seed0002.mrc", "seed0002.png"]
    volume = model.scene(2).volume(16)
    with mrcfile.open(folder / "seed0002.mrc") as file:
        array = file.data.copy()  # sections are the world's x, from its end
    assert np.allclose(array, volume.density[::-1], atol=1e-5) and (array[0] == -1000).all()
    level = float(np.median(volume.density[volume.density > -1000]))
    options = ["--seeds=2", "--shapes=True", "--shape-res=16", "--shape-format=.ply"]
    mesh = trimesh.load(made(*options, f"--shape-level={level}") / "seed0002.ply")
    write_shape(model.scene(2), tmp_path / "a.ply", 16, published=True, level=level)
    assert np.allclose(mesh.vertices, trimesh.load(tmp_path / "a.ply").vertices)


def test_surface_that_is_not_there(run_on, tmp_path):
    """One line says so, and the picture is written all the same."""
    options = ["--seeds=2", "--shapes=True", "--shape-res=8", "--shape-format=ply"]
    result = run_on(gen_samples.main, f"--outdir={tmp_path}", *options)
    assert result.exit_code == 0 and names(tmp_path) == ["cameras.json", "seed0002.png"]
    (line,) = [line for line in result.stderr.splitlines() if "seed0002.ply" in line]
    assert line.startswith(f"{tmp_path}/seed0002.ply: not written, no surface at level 10")
    assert "gen_samples.py" not in result.stderr


def test_every_option_of_shapes_changes_something(made, model):
    density = model.scene(2).volume(10, 0).density
    options = ["--seeds=2", "--shapes=True", "--shape-res=10", "--shape-format=ply", "--nrr=4"]
    options += [f"--shape-level={np.quantile(density, 0.6)}", "--views=front"]
    changes = ["--shape-space=world", "--shape-border=0", "--shape-res=12", "--shape-simplify=20"]
    changes += [f"--shape-level={np.quantile(density, 0.7)}"]
    changes += [f"--shape-format={name}" for name in ("obj", "glb", "stl")]
    contents = []
    for change in ("--shapes=True", *changes):
        files = made(*options, change).iterdir()
        (shape,) = (path for path in files if path.suffix not in (".png", ".json"))
        contents.append(shape.read_bytes())
    assert len(set(contents)) == 9 and min(len(content) for content in contents) > 200


def test_up_of_shapes(made, model):
    level = float(np.quantile(model.scene(2).volume(10).density, 0.9))
    options = ["--seeds=2", "--shapes=True", "--shape-res=10", "--shape-format=obj"]
    options.append(f"--shape-level={level}")
    y_up, z_up = (
        trimesh.load(made(*options, f"--up={up}") / "seed0002.obj", process=False) for up in "yz"
    )
    assert np.allclose(z_up.vertices, y_up.vertices[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6)


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
    words = ["2 cameras for 3 pictures"]
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


def test_classes(classed_snapshot, tmp_path):
    """Each seed has its own, which a line names, or all have the one that is asked for."""
    model = eg3d.load(classed_snapshot, device="cpu")
    drawn = model.classes([0, 3])
    assert drawn[0] != drawn[1]
    for asked in ([], ["--class=2"]):
        line = [f"--network={classed_snapshot}", "--seeds=0,3", f"--outdir={tmp_path}"]
        result = CliRunner().invoke(gen_samples.main, [*line, "--views=front", *asked])
        assert result.exit_code == 0, result.output
        said = f"--class=0 to 2: {drawn[0]} (seed 0), {drawn[1]} (seed 3)"
        assert (said in result.stderr) == (not asked)
        for seed, own in zip((0, 3), drawn, strict=True):
            scene = model.scene(seed, class_index=2 if asked else own)
            expected = pictures.to_uint8(scene.render(model.camera).image)[0]
            found = np.asarray(PIL.Image.open(tmp_path / f"seed{seed:04d}.png"))
            assert np.abs(found.astype(int) - expected).max() <= 1


def test_classes_that_are_not_there(classed_snapshot, fails, run_on, tmp_path):
    arguments = ["--seeds=0", f"--outdir={tmp_path}", f"--network={classed_snapshot}"]
    fails(gen_samples.main, *arguments, "--class=3", words=["class 3", "classes 0 to 2"])
    fails(gen_samples.main, *arguments, "--class=-1", words=["'--class'"])
    ws = tmp_path / "ws.npz"
    latents.write_ws(ws, torch.zeros(1, 6, 16))
    given = [f"--projected-w={ws}", *arguments[1:]]
    fails(gen_samples.main, *given, "--class=1", words=["--class has no effect on --projected-w"])
    result = run_on(gen_samples.main, *given, "--views=front")
    assert result.exit_code == 0 and "classes" not in result.output


def test_notes_go_to_stderr(run_on, tmp_path):
    arguments = [f"--outdir={tmp_path}", "--seeds=0", "--views=front"]
    notes = ["--trunc-cutoff=14", "--reload_modules=True", "--class=3"]
    result = run_on(gen_samples.main, *arguments, *notes)
    assert result.exit_code == 0 and result.stdout == ""
    assert "the model has 6 layers, all are truncated" in result.stderr
    assert (
        "--reload-modules: not needed" in result.stderr and "--class: this model" in result.stderr
    )
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
        (["--hfov-deg=180"], ["180", "between"]),
        (["--hfov-deg=9", "--fov-deg=12"], ["--fov-deg", "--hfov-deg"]),
        (["--noise-mode=loud"], ["--noise-mode", "loud"]),
        (["--jitter=some"], ["--jitter", "some"]),
        (["--mix=7"], ["--mix", "7:8-13"]),
        (["--mix=7:"], ["--mix", "''"]),
        (["--mix=a:1"], ["--mix", "'a'"]),
        (["--mix=7:4-6"], ["layer 6", "0 to 5"]),
        (["--mix=7,8:4", "--grid=1x1"], ["1x1", "2 pictures"]),
        (["--vis=image,sketch"], ["--vis", "sketch", "normals"]),
        (["--vis=raw,raw"], ["--vis", "raw,raw"]),
        (["--vis=raw", "--image-mode=image_raw"], ["--image-mode", "--vis"]),
        (["--vis=raw", "--data=x.zip", "--grid=1x1"], ["--data", "--vis"]),
        (["--grid=3x1"], ["3x1", "1 pictures"]),
        (["--grid=3"], ["--grid", "4x2"]),
        (["--grid=0x1"], ["--grid"]),
        (["--views=back"], ["back", "orbit:N"]),
        (["--views=front", "--grid=1x1"], ["--grid-views"]),
        (["--views=front", "--cameras=x.json"], ["--views", "--cameras"]),
        (["--up=y", "--cameras=x.json"], ["--up", "--cameras"]),
        (["--up=y", "--cameras=x.json", "--shapes=True"], ["x.json"]),
        (["--grid-views=random"], ["needs --grid"]),
        (["--grid-views=front", "--grid=1x1", "--cameras=x.json"], ["--grid-views"]),
        (["--data=x.zip"], ["--data needs --grid"]),
        (["--data=x.zip", "--grid=1x1", "--image-mode=image_raw"], ["--data", "--image-mode"]),
        (["--cameras=no_such.json"], ["no_such.json"]),
        (["--shape-res=64"], ["--shape-res", "needs --shapes"]),
        (["--shape-border=0"], ["--shape-border", "needs --shapes"]),
        (["--shapes=True", "--shape-res=1"], ["--shape-res"]),
        (["--shapes=True", "--shape-format=dxf"], ["--shape-format", "dxf"]),
        (["--shapes=True", "--shape-border=0.5"], ["--shape-border"]),
        (["--shapes=True", "--shape-level=3"], ["--shape-level", "meshes", "--shape-format"]),
        (["--shapes=True", "--shape-simplify=9"], ["--shape-simplify", "meshes"]),
        (["--shapes=True", "--shape-format=ply", "--shape-level=nan"], ["finite"]),
        (["--network=no_such.pkl"], ["no_such.pkl"]),
        (["--no-such-option=1"], ["--no-such-option"]),
    ],
)
def test_bad_input_is_one_line(fails, tmp_path, arguments, words):
    fails(gen_samples.main, f"--outdir={tmp_path / 'out'}", "--seeds=0", *arguments, words=words)
    assert not (tmp_path / "out").exists()


def test_where_latents_come_from(fails, tmp_path):
    out = f"--outdir={tmp_path / 'out'}"
    np.savez(tmp_path / "w.npz", w=np.zeros((1, 6, 16), dtype=np.float32))
    np.savez(tmp_path / "large.npz", w=np.zeros((1, 14, 512), dtype=np.float32))
    given, large = (f"--projected-w={tmp_path / name}.npz" for name in ("w", "large"))
    for arguments, words in (
        ([], ["--seeds", "--projected-w"]),
        (["--seeds=0", given], ["--seeds", "--projected-w"]),
        ([given, "--trunc=0.5"], ["--trunc", "no effect"]),
        ([given, "--trunc-cutoff=2"], ["--trunc", "no effect"]),
        ([large], ["[1, 14, 512]", "[N, 6, 16]"]),
        (["--projected-w=no_such.npz"], ["no_such.npz", "No such file"]),
    ):
        fails(gen_samples.main, out, *arguments, words=words)
    assert not (tmp_path / "out").exists()


def test_cameras_that_are_not_finite(fails, tmp_path):
    label = [float("nan")] * 25
    (tmp_path / "cameras.json").write_text(json.dumps([label]))
    arguments = ["--seeds=0", f"--outdir={tmp_path / 'out'}", f"--cameras={tmp_path}/cameras.json"]
    fails(gen_samples.main, *arguments, words=["cameras.json", "camera 0", "not finite"])


def test_outdir_that_is_a_file(fails, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ["--seeds=0", f"--outdir={tmp_path / 'file'}"]
    fails(gen_samples.main, *arguments, words=["file", "cannot be made a folder"])
