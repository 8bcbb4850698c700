"""The loop on tiny networks: what it writes, that it repeats, that every branch runs."""

import json
import pickle
import sys
import zipfile
from pathlib import Path

import PIL.Image
import pytest
import torch

import dnnlib
from torch_utils import training_stats
from training import setup
from training import training_loop as loop
from training.config import OptionError
from training.dataset import DatasetError, ImageFolderDataset
from training.guard import Guard
from training.image_grid import choose_images
from training.launch import launch
from training.loss import Batch
from training.phases import make_phases, run_phase
from training.training_loop import training_loop

pytestmark = pytest.mark.usefixtures("one_thread")


def last_snapshot(config):
    with open(sorted(Path(config.run_dir).glob("network-snapshot-*.pkl"))[-1], "rb") as file:
        return pickle.load(file)


def test_a_run_fills_its_directory(tiny_config):
    config = tiny_config(iterations=3)
    Path(config.run_dir).rmdir()
    launch(config)
    run_dir = Path(config.run_dir)
    names = {path.name for path in run_dir.iterdir()}
    assert {"training_options.json", "log.txt", "training_stats.jsonl", "reals.png"} <= names
    assert {"fakes000000.png", "fakes000000_raw.png", "fakes000000_depth.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.endswith(".tmp") for name in names)
    assert PIL.Image.open(run_dir / "fakes000000.png").size == (64, 64)
    assert PIL.Image.open(run_dir / "fakes000000_raw.png").size == (16, 16)

    options = json.loads((run_dir / "training_options.json").read_text())
    assert options["G_kwargs"]["class_name"] == "training.triplane.TriPlaneGenerator"
    assert options["G_reg_interval"] == 4.0 and options["ema_kimg"] == 4 * 10 / 32
    lines = [
        json.loads(line) for line in (run_dir / "training_stats.jsonl").read_text().splitlines()
    ]
    assert len(lines) == 2 and lines[0]["Loss/G/loss"]["num"] == 4
    stats = {
        *("Loss/scores/fake", "Loss/scores/real", "Loss/signs/fake", "Loss/signs/real"),
        *("Loss/G/loss", "Loss/D/loss", "Loss/r1_penalty", "Loss/D/reg"),
        *("Loss/G/density_reg", "Progress/tick", "Progress/kimg", "Progress/augment"),
        *("Timing/Gmain", "Timing/Greg", "Timing/Dmain", "Timing/Dreg", "Timing/sec_per_kimg"),
        *("Resources/cpu_mem_gb", "Resources/peak_gpu_mem_gb", "timestamp"),
    }
    assert stats <= set(lines[0])
    log = (run_dir / "log.txt").read_text()
    assert "tick 1" in log and "sec/kimg" in log and "img/s" in log and "eta" in log
    assert "Training options:" in log and "TriPlaneGenerator" in log and "Done in" in log
    with pytest.raises(OptionError, match="--outdir.*start again"):
        launch(config)


def test_a_snapshot_works_as_users_of_the_original_expect(tiny_config):
    config = tiny_config()
    training_loop(config)
    data = last_snapshot(config)
    assert list(data) == ["training_set_kwargs", "G", "D", "G_ema", "augment_pipe"]
    assert data["training_set_kwargs"] == config.training_set_kwargs
    G = data["G_ema"]
    assert not G.training and not any(p.requires_grad for p in G.parameters())
    assert G.dataset_label_std.shape == (25,) and G.dataset_label_std.any()
    assert G.neural_rendering_resolution == 8
    z, c = torch.randn(1, G.z_dim), torch.zeros(1, 25)
    c[:, [0, 5, 10, 15, 16, 20, 24]] = 1
    c[:, 11] = -2
    assert G(z, c)["image"].shape == (1, 3, 32, 32)
    w = G.mapping(z, c, truncation_psi=0.5, truncation_cutoff=8)
    img = G.synthesis(w, c, noise_mode="const")
    assert img["image_raw"].shape == (1, 3, 8, 8) and img["image_depth"].shape == (1, 1, 8, 8)
    logits = data["D"](img, c)
    assert logits.shape == (1, 1) and torch.isfinite(logits).all()


def test_two_runs_with_one_seed_give_the_same_bits(tiny_config):
    states = []
    for seed in (0, 0, 1):
        config = tiny_config(f"--seed={seed}", iterations=5)
        training_loop(config)
        data = last_snapshot(config)
        states.append(
            {f"{n}.{k}": v for n in ("G", "D", "G_ema") for k, v in data[n].state_dict().items()}
        )
    same, again, other = states
    assert all(torch.equal(same[k], again[k]) for k in same)
    assert any(not torch.equal(same[k], other[k]) for k in same)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--gen_pose_cond=True"],
        ["--gen_pose_cond=True", "--gpc_reg_fade_kimg=0", "--gpc_reg_prob=0.8"],
        ["--style_mixing_prob=0.9"],
        ["--reg_type=monotonic-detach"],
        ["--reg_type=monotonic-fixed", "--style_mixing_prob=0.9"],
        ["--density_reg=0"],
        ["--density_reg_every=1"],
        ["--gamma=0"],
        ["--mirror=True"],
        ["--batch-gpu=2", "--mbstd-group=2"],
        ["--freezed=3"],
        ["--disc_c_noise=1"],
        ["--sr_noise_mode=random"],
        ["--plane_axes=orthogonal"],
        ["--decoder_lr_mul=0.5"],
        ["--map-depth=1"],
        ["--neural_rendering_resolution_final=16", "--neural_rendering_resolution_fade_kimg=0"],
        ["--glr=0.01", "--dlr=0.01", "--c-scale=0.5"],
        ["--aug=fixed", "--p=0.9"],
    ],
    ids=lambda a: " ".join(a),
)
def test_every_branch_trains(tiny_config, arguments):
    """Two iterations run, stay finite, and end elsewhere than without the option."""
    states = []
    for options in ([], arguments):
        config = tiny_config(*options)
        training_loop(config)
        states.append(last_snapshot(config))
    plain, changed = (s["G"].state_dict() | s["D"].state_dict() for s in states)
    assert all(torch.isfinite(v).all() for v in changed.values())
    assert plain.keys() != changed.keys() or any(
        plain[k].shape != v.shape or not torch.equal(plain[k], v) for k, v in changed.items()
    )


@pytest.fixture
def mostly_broken(cars, tmp_path):
    """The cars, but of the images that neither opening nor the grid of 2 x 2 reads only a piece."""
    data = ImageFolderDataset(cars, use_labels=True)
    intact = {label.tobytes() for label in choose_images(data, 2, 2)[1]}
    names = [f"00000/img{i:08d}.png" for i in range(len(data))]
    broken = [n for i, n in enumerate(names) if i and data.get_label(i).tobytes() not in intact]
    path = tmp_path / "broken.zip"
    with zipfile.ZipFile(cars) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:99] if name in broken else content)
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_ends_the_run_with_one_line(tiny_config, mostly_broken, workers):
    config = tiny_config(f"--data={mostly_broken}", iterations=50)
    config.data_loader_kwargs["num_workers"] = workers
    Path(config.run_dir).rmdir()
    with pytest.raises(DatasetError) as error:
        launch(config)
    line = str(error.value)
    assert line.startswith(f"{mostly_broken}/00000/img0000") and "cannot be decoded" in line
    assert "\n" not in line
    log = (Path(config.run_dir) / "log.txt").read_text()
    assert "Training for" in log and "Traceback" in log and log.rstrip().endswith(line)


def test_augmentation_is_kept_with_the_networks(tiny_config):
    """ADA moves p, which snapshots have and the status line shows; --p is where it stays."""
    config = tiny_config("--aug=ada", "--target=1", iterations=5)
    config.augment_p, config.ada_kimg = 0.5, 0.1
    Path(config.run_dir).rmdir()
    launch(config)
    p = last_snapshot(config)["augment_pipe"].p.item()
    assert p == pytest.approx(
        0.5 - 4 * 4 / 100
    )  # Once in five iterations, down: no sign is above 1.
    log = (Path(config.run_dir) / "log.txt").read_text()
    assert "augment 0.500" in log and f"augment {p:.3f}" in log
    config = tiny_config("--aug=fixed", "--p=0.3", iterations=5)
    training_loop(config)
    assert last_snapshot(config)["augment_pipe"].p.item() == pytest.approx(0.3)


def test_workers_change_nothing(tiny_config):
    states = []
    for workers in (0, 1):
        config = tiny_config(iterations=3)
        config.data_loader_kwargs["num_workers"] = workers
        training_loop(config)
        states.append(last_snapshot(config)["D"].state_dict())
    assert all(torch.equal(states[0][k], v) for k, v in states[1].items())


def test_interrupting_keeps_what_there_is(tiny_config, monkeypatch):
    """Also that messages after the log is closed go where they went before."""
    config = tiny_config(iterations=50)
    Path(config.run_dir).rmdir()

    def interrupt(*args):
        if (Path(config.run_dir) / "network-snapshot-000000.pkl").exists():
            raise KeyboardInterrupt
        return run_phase(*args)

    monkeypatch.setattr(loop, "run_phase", interrupt)
    stdout = sys.stdout
    with pytest.raises(KeyboardInterrupt):
        launch(config)
    assert sys.stdout is stdout
    assert last_snapshot(config)["G_ema"] is not None
    assert "KeyboardInterrupt" in (Path(config.run_dir) / "log.txt").read_text()


@pytest.mark.parametrize(
    "arguments",
    [[], ["--gen_pose_cond=True", "--style_mixing_prob=0.5", "--reg_type=monotonic-fixed"]],
    ids=len,
)
def test_a_step_waits_for_no_value(tiny_config, cars, arguments, monkeypatch):
    """On tensors without values, where reading one fails: a GPU's queue would run empty there."""
    monkeypatch.setattr(training_stats, "_registry", training_stats._Registry())
    config = tiny_config("--disc_c_noise=1", *arguments)
    config.loss_kwargs.update(blur_init_sigma=2)
    data = ImageFolderDataset(cars, use_labels=True)
    meta = torch.device("meta")
    networks = setup.build_networks(config, data, meta)
    G, D = networks["G"], networks["D"]
    loss = dnnlib.util.construct_class_by_name(G=G, D=D, **config.loss_kwargs)
    phases = make_phases(loss.trained(), config.optimizers, dict(G=4, D=16))
    shapes = ([4, 3, 32, 32], [4, 25], [4, 512], [4, 25])
    batch = Batch(*[torch.zeros(shape, device=meta) for shape in shapes])
    guard = Guard({phase.name: [] for phase in phases}, limit=0)
    for phase in phases:
        guard.add(phase.name, run_phase(phase, [batch], nimg=0))
        assert any(p.grad is not None for p in phase.module.parameters())


def test_abort_ends_the_run_with_its_snapshots(tiny_config):
    config = tiny_config(iterations=50)
    seen = []
    training_loop(config, abort_fn=lambda: True, progress_fn=lambda now, total: seen.append(now))
    assert len(list(Path(config.run_dir).glob("network-snapshot-*.pkl"))) == 1
    assert seen == [0, 0]
