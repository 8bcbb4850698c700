"""`python -m eg3d invert`: its files, against what the library makes of them."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import eg3d
import gen_samples
from eg3d import inversion, pictures, pose_search
from eg3d.__main__ import main as package_main
from eg3d.inversion import Options, invert
from eg3d.invert_command import main
from eg3d.latents import read_ws
from eg3d.loading import read
from eg3d.targets import read_picture
from tests.metrics.tiny_detectors import write_plain


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(inversion, "MEAN_OF", 100)
    monkeypatch.setattr(pose_search, "VIEWS", 4)
    monkeypatch.setattr(pose_search, "STEPS", 2)


@pytest.fixture(scope="module")
def model(snapshot):
    return eg3d.load(snapshot, device="cpu")


@pytest.fixture(scope="module")
def own(model, tmp_path_factory):
    """A folder with a picture that the model made, and the file of its camera."""
    folder = tmp_path_factory.mktemp("own")
    camera = eg3d.views.turned(model, [(0.3, 0.1)])
    with torch.no_grad():
        image = model.scene(5).render(camera).image
    pictures.write_png(folder / "own.png", pictures.to_uint8(image)[0])
    (folder / "own.json").write_text(json.dumps(camera.label()[0].tolist()))
    return folder


@pytest.fixture
def inverted(run_on, own, tmp_path):
    """`inverted(*arguments)` -> the folder of a short run that succeeds, its output beside it."""

    def run(*arguments, camera=True):
        folder = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        more = [f"--camera={own / 'own.json'}"] if camera else []
        steps = [] if any(str(a).startswith("--steps") for a in arguments) else ["--steps=3"]
        result = run_on(main, own / "own.png", f"--outdir={folder}", *more, *steps, *arguments)
        assert result.exit_code == 0, result.output
        run.output = result.output
        return folder

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def array(path):
    return np.asarray(PIL.Image.open(path)).astype(int)


def panels(folder):
    """The pictures of comparison.png."""
    row = array(folder / "comparison.png")
    return [row[:, start : start + 64] for start in range(0, row.shape[1], 64)]


def lines(folder):
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def test_files_of_an_inversion(inverted, own, model):
    """The same as the library's, and as what `gen_samples.py` makes of the two files."""
    folder = inverted("--steps=12", "--space=w+", "--seed=3")
    assert names(folder) == ["camera.json", "comparison.png", "losses.jsonl", "projected_w.npz"]
    ws, camera = read_ws(folder / "projected_w.npz"), eg3d.views.from_file(folder / "camera.json")
    image, _ = read_picture(own / "own.png", 64, white=False)
    guess = eg3d.views.from_file(own / "own.json")
    expected = invert(model, image, guess, Options("w+", 12, seed=3))
    assert torch.equal(ws, expected.ws) and torch.equal(camera.label(), expected.camera.label())
    assert [{"stage": "inversion", "step": i, **s} for i, s in enumerate(expected.losses)] == lines(
        folder
    )
    with torch.no_grad():
        made = pictures.to_uint8(model.scenes_of(ws).render(camera).image)[0].astype(int)
    found = panels(folder)
    assert len(found) == 4 and np.array_equal(found[0], array(own / "own.png"))
    assert np.array_equal(found[1], made)
    assert min(np.abs(found[i] - found[j]).max() for i in range(4) for j in range(i)) > 3
    psnr = 10 * np.log10(255**2 / np.square(made - found[0]).mean())
    assert float(inverted.output.split()[-3]) == pytest.approx(psnr, abs=0.1)


def test_gen_samples_takes_the_result(inverted, run_on, tmp_path):
    folder = inverted("--steps=12", "--tune-steps=2")
    result = run_on(
        gen_samples.main,
        f"--network={folder / 'network-tuned.pkl'}",
        f"--projected-w={folder / 'projected_w.npz'}",
        f"--cameras={folder / 'camera.json'}",
        f"--outdir={tmp_path / 'out'}",
    )
    assert result.exit_code == 0, result.output
    (path,) = (tmp_path / "out").glob("*.png")
    assert np.abs(array(path) - panels(folder)[2]).max() <= 1


def test_tuned_network(inverted, snapshot, model):
    """Every network of this project in the file as it was, but for what was tuned."""
    folder = inverted("--tune-steps=4")
    before, after = read(snapshot), read(folder / "network-tuned.pkl")
    assert set(before.records) == {"G", "D", "G_ema"} and set(after.records) == {"G", "G_ema"}
    assert "will be without D: " in inverted.output and "Linear" in inverted.output
    assert before.training_set_kwargs == after.training_set_kwargs
    for name in after.records:
        first, second = before.records[name].tensors, after.records[name].tensors
        same = all(torch.equal(value, second[key]) for key, value in first.items())
        assert same == (name != "G_ema"), name
    tuned = eg3d.load(folder / "network-tuned.pkl", device="cpu")
    camera = eg3d.views.from_file(folder / "camera.json")
    with torch.no_grad():
        scene = tuned.scenes_of(read_ws(folder / "projected_w.npz"))
        made = pictures.to_uint8(scene.render(camera).image)[0]
    found = panels(folder)
    assert len(found) == 5 and np.array_equal(made, found[2])
    assert np.abs(found[1] - found[2]).max() > 0
    stages = [line["stage"] for line in lines(folder)]
    assert stages == ["inversion"] * 3 + ["tuning"] * 4
    assert "tuning: " in inverted.output


def test_noise_goes_into_the_network(inverted, model):
    folder = inverted("--noise")
    tuned = eg3d.load(folder / "network-tuned.pkl", device="cpu").generator.state_dict()
    before = model.generator.state_dict()
    changed = {name for name, value in tuned.items() if not torch.equal(value, before[name])}
    assert changed and all(name.endswith("noise_const") for name in changed)


def test_run_twice_gives_the_same_bytes(inverted):
    options = ("--optimize-pose", "--noise", "--tune-steps=2", "--locality=0.5", "--trace=2")
    first, second = inverted(*options), inverted(*options)
    assert names(first) == names(second) and len(names(first)) == 7
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    "option",
    ["--steps=4", "--space=w+", "--optimize-pose", "--seed=1", "--perceptual={plain}"],
)
def test_every_option_changes_the_latents(inverted, tmp_path, option):
    option = option.format(plain=write_plain(tmp_path / "plain.pt"))
    plain, other = inverted(), inverted(option)
    ws = [read_ws(folder / "projected_w.npz") for folder in (plain, other)]
    assert not torch.equal(*ws)
    assert ("perceptual" in lines(other)[0]) == option.startswith("--perceptual")


def test_options_of_tuning_change_the_network(inverted):
    networks = [
        (inverted("--tune-steps=2", *more) / "network-tuned.pkl").read_bytes()
        for more in ([], ["--locality=5"], ["--locality=5", "--seed=1"])
    ]
    assert len(set(networks)) == 3


def test_camera_is_looked_for_only_where_asked(inverted, own, model):
    given = json.loads((own / "own.json").read_text())

    def label(folder):
        return eg3d.views.from_file(folder / "camera.json").label()[0]

    assert torch.equal(label(inverted()), torch.tensor(given))
    assert not torch.allclose(label(inverted("--optimize-pose")), torch.tensor(given), atol=1e-3)
    front = inverted(camera=False)
    assert torch.equal(label(front), model.camera.label()[0])
    assert "taken to be the front" in inverted.output
    text = ",".join(map(str, given))
    assert torch.equal(label(inverted(f"--camera={text}", camera=False)), torch.tensor(given))


def test_trace(inverted):
    """Pictures at even distances from the first step of all to the last one."""
    folder = inverted("--steps=5", "--tune-steps=2", "--trace=3")
    traces = [name for name in names(folder) if name.startswith("trace")]
    assert traces == ["trace00000.png", "trace00003.png", "trace00006.png"]
    assert all(array(folder / name).shape == (64, 64, 3) for name in traces)
    assert not np.array_equal(array(folder / traces[0]), array(folder / traces[1]))


def test_notes_about_the_picture(run_on, own, tmp_path):
    PIL.Image.new("RGBA", (100, 100), (9, 9, 9, 0)).save(tmp_path / "big.png")
    result = run_on(main, tmp_path / "big.png", f"--outdir={tmp_path / 'x'}", "--steps=1")
    assert "resized from 100 to 64" in result.output and "background is made black" in result.output


def test_bad_input(fails, own, tmp_path):
    good, out = own / "own.png", f"--outdir={tmp_path / 'out'}"
    PIL.Image.new("RGB", (64, 32)).save(tmp_path / "wide.png")
    (tmp_path / "file").write_text("")
    fails(main, tmp_path / "none.png", out, words=["none.png", "No such file"])
    fails(main, tmp_path / "wide.png", out, words=["64x32", "square"])
    fails(main, good, out, f"--camera={tmp_path / 'none.json'}", words=["none.json"])
    fails(main, good, out, "--camera=1,2,3", words=["camera", "25 numbers"])
    fails(main, good, out, "--network=none.pkl", words=["none.pkl"])
    fails(main, good, out, f"--perceptual={good}", words=["perceptual network", "own.png"])
    fails(main, good, out, "--space=z", words=["--space", "w+"])
    fails(main, good, out, "--steps=0", words=["--steps"])
    fails(main, good, out, "--locality=nan", words=["--locality", "finite"])
    fails(main, good, out, "--locality=1", words=["--locality needs --tune-steps"])
    fails(main, good, out, "--trust", "--noise", words=["--trust", "--noise"])
    fails(main, good, out, "--device=abacus", words=["abacus"])
    assert not (tmp_path / "out").exists()
    fails(main, good, f"--outdir={tmp_path / 'file'}", words=["file", "folder"])


def test_trust_and_offline(inverted, fails, own, tmp_path):
    trusted, plain = inverted("--trust"), inverted("--offline")
    assert (trusted / "projected_w.npz").read_bytes() == (plain / "projected_w.npz").read_bytes()
    arguments = ["--offline", "--network=http://localhost:9/x.pkl", f"--outdir={tmp_path / 'out'}"]
    fails(main, own / "own.png", *arguments, words=["localhost:9/x.pkl", "offline"])


def test_is_a_command_of_the_package(own, snapshot, tmp_path):
    arguments = ["invert", own / "own.png", "--steps=1", f"--network={snapshot}"]
    arguments = [*map(str, arguments), f"--outdir={tmp_path}", "--device=cpu"]
    done = CliRunner().invoke(package_main, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and "\ninversion: " in done.output, done.output
    assert (tmp_path / "projected_w.npz").exists()
