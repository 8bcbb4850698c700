"""benchmarks.small_data: distances and overfitting of models whose answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import eg3d
from benchmarks import small_data
from benchmarks.small_data import Judge, augmentation, main, report
from dataset_preprocessing import procedural
from tests.tiny import tiny_discriminator, tiny_generator
from training.dataset import ImageFolderDataset
from training.snapshots import save_snapshot


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sixteen chairs of 32 pixels to train with, and forty others."""
    folder = tmp_path_factory.mktemp("chairs")
    for name, count, seed in (("few", 16, 0), ("others", 40, 1)):
        path = folder / f"{name}.zip"
        procedural.make_dataset(path, count, resolution=32, seed=seed, category="chairs")
    return folder / "few.zip", folder / "others.zip"


@pytest.fixture(scope="module")
def judge(data):
    return Judge(*(ImageFolderDataset(path, use_labels=True) for path in data), samples=24)


class KnownModel:
    """Shows true chairs, or the opposite colours."""

    device = torch.device("cpu")

    def __init__(self, is_negative):
        self.sign = -1 if is_negative else 1
        self.generator = type("Generator", (), {"neural_rendering_resolution": 16})

    def latents(self, seeds):
        return torch.tensor(list(seeds), dtype=torch.float32)[:, None]

    def mapping(self, z, camera):
        return z

    def scenes_of(self, ws):
        self._seeds = ws[:, 0].int().tolist()
        return self

    def render(self, camera):
        chairs = [procedural.sample_chair(np.random.default_rng([9, seed])) for seed in self._seeds]
        views = zip(chairs, camera.label().numpy(), strict=True)
        image = np.stack([procedural.render_model(chair, c, 32).image for chair, c in views])
        image = self.sign * (torch.tensor(image).permute(0, 3, 1, 2) / 127.5 - 1)
        raw = torch.nn.functional.avg_pool2d(image, 2)
        return eg3d.Rendering(image, raw, raw, raw[:, :1], raw[:, :1], normals=raw)


class KnownDiscriminator:
    """Says 3 to pictures of the training set, 2 to held-out ones and -1 to all others."""

    def __init__(self, data):
        self.known = {}
        for value, path in zip((3.0, 2.0), data, strict=False):
            dataset = ImageFolderDataset(path, use_labels=True)
            self.known |= {dataset[i][0].tobytes(): value for i in range(len(dataset))}

    def __call__(self, images, c):
        image, raw = images["image"], images["image_raw"]
        assert raw.shape[-1] == 16 and c.shape == (len(image), 25) and len(image) == 8
        pictures = (image * 127.5 + 127.5).round().to(torch.uint8).numpy()
        return torch.tensor([[self.known.get(p.tobytes(), -1.0)] for p in pictures])


def test_distance_and_memory_of_known_models(judge, data, monkeypatch):
    monkeypatch.setattr(small_data, "load_network", lambda path, name: KnownDiscriminator(data))
    rows = []
    for is_negative in (False, True):
        model = KnownModel(is_negative)
        monkeypatch.setattr(eg3d, "load", lambda path, model=model: model)
        rows.append(judge.measure(Path("network-snapshot-000007.pkl")))
    assert [row["kimg"] for row in rows] == [7, 7]
    assert rows[0]["r_v"] == pytest.approx((3 - 2) / (3 + 1))
    assert rows[0]["distance"] < 1 < 10 < rows[1]["distance"]
    assert 0 < judge.training_set() < 5


def test_no_memory_is_told_where_fakes_look_truer(judge, monkeypatch):
    monkeypatch.setattr(eg3d, "load", lambda path: KnownModel(False))
    blind = KnownDiscriminator([])
    monkeypatch.setattr(small_data, "load_network", lambda path, name: blind)
    assert judge.measure(Path("network-snapshot-000007.pkl"))["r_v"] is None


def write_run(folder, kimg):
    folder.mkdir()
    ticks = [
        {
            "Progress/tick": {"mean": tick},
            "Progress/kimg": {"mean": tick + 0.008},
            "Progress/augment": {"mean": 0.1 * tick},
            "Loss/signs/real": {"mean": 0.5 - 0.1 * tick},
        }
        for tick in range(3)
    ]
    lines = "".join(json.dumps(tick) + "\n" for tick in ticks)
    (folder / "training_stats.jsonl").write_text(lines)
    for number in kimg:
        networks = {"G_ema": tiny_generator(number), "D": tiny_discriminator(number)}
        save_snapshot(folder / f"network-snapshot-{number:06d}.pkl", {}, **networks)
    return folder


def test_augmentation_of_ticks(tmp_path):
    found = augmentation(write_run(tmp_path / "run", []))
    assert [round(tick["kimg"]) for tick in found] == [1, 2]
    assert [tick["p"] for tick in found] == pytest.approx([0.1, 0.2])
    assert [tick["r_t"] for tick in found] == pytest.approx([0.4, 0.3])


def test_report_fills_what_a_run_lacks():
    curves = {
        "a": [{"kimg": 0, "distance": 9.0, "r_v": None}, {"kimg": 2, "distance": 1.0, "r_v": 0.5}]
    }
    curves["b"] = curves["a"][:1]
    ticks = {name: [{"kimg": 1.008, "r_t": 0.5, "p": 0.0}] for name in curves}
    lines = report(curves, ticks).splitlines()
    assert lines[0] == "| kimg | distance, a | distance, b | r_v, a | r_v, b |"
    assert lines[3] == "| 2 | 1.000 | None | 0.500 | None |"
    assert lines[-1] == "| 1 | 0.500 | 0.500 | 0.000 | 0.000 |"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_compares_runs(data, tmp_path):
    runs = [
        f"--run={name}={write_run(tmp_path / name, kimg)}"
        for name, kimg in (("a", (0, 2)), ("b", (2,)))
    ]
    paths = [f"--data={data[0]}", f"--held-out={data[1]}", f"--outdir={tmp_path / 'out'}"]
    result = run(*runs, *paths, "--samples=8")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "small_data.json").read_text())
    assert [point["kimg"] for point in found["curves"]["a"]] == [0, 2]
    assert found["curves"]["a"][1] == found["curves"]["b"][0]
    assert found["curves"]["a"][0]["distance"] > found["training_set"] > 0
    assert (tmp_path / "out" / "small_data.png").exists() != ("matplotlib" in result.output)

    wrong = run("--run=a", *paths)
    assert wrong.exit_code == 2 and "'a' must be NAME=DIRECTORY" in wrong.output
    twice = run(runs[0], runs[0], *paths)
    assert twice.exit_code == 2 and "with a name of its own" in twice.output
    missing = run(f"--run=a={tmp_path}", *paths)
    assert missing.exit_code == 1 and "no network-snapshot-*.pkl" in missing.output
