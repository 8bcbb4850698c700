"""calc_metrics.py: the values of training to the last digit, every option, errors in one line."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import calc_metrics
from metrics import metric_main
from metrics.feature_metrics import FEATURE_METRICS
from metrics.in_training import RunMetrics
from tests.metrics.tiny_detectors import write_inception
from tests.tiny import tiny_generator
from training.snapshots import save_snapshot

ROOT = Path(__file__).parent.parent.parent
FEW = 20


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch, tmp_path):
    """Published names with 20 pictures in place of 50,000; a cache folder for each test."""
    few = {n: replace(m, fake=replace(m.fake, count=FEW)) for n, m in FEATURE_METRICS.items()}
    monkeypatch.setattr(metric_main, "_METRICS", few)
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    for role in ("INCEPTION", "VGG16"):
        monkeypatch.delenv(f"EG3D_{role}", raising=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from dataset_preprocessing.procedural import make_dataset

    path = tmp_path_factory.mktemp("data") / "cars.zip"
    make_dataset(path, num_images=40, resolution=32, seed=0)
    return path


@pytest.fixture
def run_dir(tmp_path, data):
    """A run of a tiny generator on the cars."""
    folder = tmp_path / "00000-demo"
    folder.mkdir()
    (folder / "training_options.json").write_text("{}")
    kwargs = dict(
        class_name="training.dataset.ImageFolderDataset",
        path=str(data),
        use_labels=True,
        max_size=40,
        xflip=False,
        resolution=32,
        random_seed=0,
    )
    networks = dict(G=tiny_generator(), D=None, G_ema=tiny_generator())
    save_snapshot(folder / "network-snapshot-000004.pkl", kwargs, **networks)
    return folder


@pytest.fixture
def detector(tmp_path):
    return write_inception(tmp_path / "inception.pt")


@pytest.fixture
def call(run_dir):
    def run(*arguments, network=None):
        line = [f"--network={network or run_dir}", "--workers=0", *arguments]
        return CliRunner().invoke(calc_metrics.main, line, catch_exceptions=False)

    return run


def results(outcome):
    assert outcome.exit_code == 0, outcome.output
    found = {}
    for line in outcome.stdout.splitlines():
        found |= json.loads(line)["results"]
    return found


def test_values_are_those_of_training_to_the_last_digit(call, run_dir, detector):
    names = ["fid50k_full", "kid50k_full", "is50k", "fd2k_randconv112"]
    kwargs = dict(
        class_name="training.dataset.ImageFolderDataset",
        path=json.loads(json.dumps(str(_data_of(run_dir)))),
        use_labels=True,
        max_size=40,
        xflip=False,
        resolution=32,
        random_seed=0,
    )
    trained = RunMetrics(names, kwargs, run_dir, networks=dict(inception=detector))
    G = tiny_generator().train()
    torch.manual_seed(1)
    expected = trained.evaluate(G, "network-snapshot-000004.pkl")
    found = results(call(f"--metrics={','.join(names)}", f"--detector={detector}", "--cache=no"))
    assert found == expected and len(found) == 5


def _data_of(run_dir):
    from eg3d.loading import load_all

    return load_all(run_dir)["training_set_kwargs"]["path"]


def test_lines_go_to_the_run(call, run_dir, detector):
    outcome = call("--metrics=fid50k_full,is50k", f"--detector={detector}")
    for name in ("fid50k_full", "is50k"):
        (text,) = (run_dir / f"metric-{name}.jsonl").read_text().splitlines()
        assert text in outcome.stdout.splitlines()
        line = json.loads(text)
        assert line["snapshot_pkl"] == "network-snapshot-000004.pkl"
        assert line["provenance"]["detector"]["name"] == "inception"
        assert line["provenance"]["fake"]["number"] == FEW


def test_a_file_outside_of_a_run_is_measured_too(call, run_dir, detector, tmp_path):
    alone = tmp_path / "alone.pkl"
    shutil.copy(run_dir / "network-snapshot-000004.pkl", alone)
    outcome = call(f"--detector={detector}", network=alone)
    assert set(results(outcome)) == {"fid50k_full"}
    assert not list(tmp_path.glob("metric-*"))


@pytest.mark.parametrize(
    "argument, metric",
    [
        ("--seed=1", "fid50k_full"),
        ("--trunc=0.5", "fid50k_full"),
        ("--nrr=4", "fid50k_full"),
        ("--cameras=ffhq", "fid50k_camera"),
        ("--detector=randconv112", "fid50k_full"),
        ("--pr-detector=randconv112", "pr50k3_full"),
        ("--mirror=yes", "fid50k"),
        ("--batch-gen=4", "fid50k_full"),
    ],
)
def test_options_change_the_value(call, detector, argument, metric):
    usual = [f"--detector={detector}", f"--pr-detector={detector}", f"--metrics={metric}"]
    if metric.startswith("pr"):
        plain, changed = (call(*usual, *more).stdout for more in ((), (argument,)))
        assert (
            json.loads(plain)["provenance"]["detector"]
            != (json.loads(changed)["provenance"]["detector"])
        )
    else:
        assert results(call(*usual)) != results(call(*usual, argument))


def test_the_cutoff_of_truncation(call, detector):
    usual = [f"--detector={detector}", "--trunc=0.2"]
    assert results(call(*usual)) != results(call(*usual, "--trunc-cutoff=1"))


def test_other_data(call, detector, tmp_path):
    from dataset_preprocessing.procedural import make_dataset

    make_dataset(tmp_path / "other.zip", num_images=30, resolution=32, seed=5)
    usual = [f"--detector={detector}"]
    found = results(call(*usual, f"--data={tmp_path / 'other.zip'}"))
    assert found != results(call(*usual))


def test_options_that_change_no_value(call, detector):
    usual = [f"--detector={detector}"]
    plain = results(call(*usual))
    for argument in ("--cache=no", "--workers=1", "--device=cpu", "--offline", "--trust"):
        assert results(call(*usual, argument)) == plain
    assert results(call(*usual, "--batch=8")) == pytest.approx(plain, rel=1e-6)


def test_real_statistics_are_kept_unless_unwanted(call, detector, tmp_path):
    def kept():
        return list((tmp_path / "cache").rglob("*.npz"))

    call(f"--detector={detector}", "--cache=no")
    assert kept() == []
    call(f"--detector={detector}")
    assert len(kept()) == 1


def test_none_is_nothing(call):
    outcome = call("--metrics=none")
    assert outcome.exit_code == 0 and outcome.stdout == ""


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--metrics=fid"], ["no metric is called 'fid'", "fid50k_full"]),
        (["--metrics=ppl2_wend"], ["ppl2_wend does not apply"]),
        (["--metrics=fid50k_full"], ["fid50k_full", "--detector", "EG3D_INCEPTION"]),
        (["--metrics=pr50k3_full"], ["pr50k3_full", "--pr-detector", "EG3D_VGG16"]),
        (["--detector=none.pt"], ["none.pt"]),
        (["--data=none.zip"], ["none.zip"]),
        (["--network=none.pkl"], ["none.pkl"]),
        (["--device=quantum"], ["quantum"]),
        (["--cameras=dogs", "--metrics=fid50k_camera", "--detector=randconv112"], ["'dogs'"]),
        (["--batch=0"], ["--batch"]),
        (["--trunc=nan"], ["--trunc"]),
    ],
    ids=lambda value: value[0] if isinstance(value[0], str) else "",
)
def test_errors_are_one_line(call, arguments, words):
    outcome = call(*arguments)
    assert outcome.exit_code in (1, 2)
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and outcome.stderr.rstrip().endswith(lines[0]), outcome.output
    assert all(word in lines[0] for word in words), lines[0]
    assert "Traceback" not in outcome.output


def test_data_that_moved_are_asked_for(call, run_dir, data):
    moved = data.with_name("moved.zip")
    data.rename(moved)
    try:
        outcome = call("--detector=randconv112")
        assert outcome.exit_code == 1 and "say where by --data" in outcome.stderr
        assert results(call("--detector=randconv112", f"--data={moved}"))
    finally:
        moved.rename(data)


def test_one_that_fails_does_not_take_the_others(call, detector, run_dir):
    outcome = call("--metrics=pr50k3_full,fid50k_full", f"--detector={detector}")
    assert outcome.exit_code == 1 and "pr50k3_full" in outcome.stderr
    assert [path.name for path in run_dir.glob("metric-*")] == ["metric-fid50k_full.jsonl"]


# Makes few pictures of the metrics, then is the command.
COMMAND = """
import sys
from dataclasses import replace
from metrics import metric_main
for name in ("fid50k_full",):
    m = metric_main._METRICS[name]
    metric_main._METRICS[name] = replace(m, fake=replace(m.fake, count=20))
import calc_metrics
calc_metrics.__file__ = __file__
calc_metrics.main()
"""


def test_several_processes(call, run_dir, detector, tmp_path):
    """--gpus=2 starts two; the value is the same, and written once."""
    script = tmp_path / "command.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{COMMAND}")
    line = [f"--network={run_dir}", f"--detector={detector}", "--gpus=2", "--cache=no"]
    done = subprocess.run(
        [sys.executable, script, *line], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (text,) = (run_dir / "metric-fid50k_full.jsonl").read_text().splitlines()
    found = json.loads(text)
    assert found["num_gpus"] == 2 and done.stdout.count('"fid50k_full"') >= 1
    assert found["results"] == results(call(f"--detector={detector}", "--cache=no"))
