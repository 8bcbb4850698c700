"""train.py: its options under their published names, what it refuses, what it leaves undone."""

import errno
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

import train
from training import launch as launching
from training import methods, runs
from training.checkpoints import CheckpointError
from training.config import OptionError
from training.dataset import DatasetError
from training.guard import NonFiniteError

ROOT = Path(train.__file__).parent

# (name, lowest, highest, default): the interface that scripts for the published code rely on.
NUMBERS = [
    ("--gpus", 1, None, None),
    ("--batch", 1, None, None),
    ("--gamma", 0.0, None, None),
    ("--freezed", 0, None, 0),
    ("--p", 0.0, 1.0, 0.2),
    ("--target", 0.0, 1.0, 0.6),
    ("--cbase", 1, None, 32768),
    ("--cmax", 1, None, 512),
    ("--glr", 0.0, None, 0.0025),
    ("--dlr", 0.0, None, 0.002),
    ("--map-depth", 1, None, 2),
    ("--mbstd-group", 1, None, 4),
    ("--kimg", 1, None, 25000),
    ("--ada-kimg", 1, None, None),
    ("--tick", 1, None, 4),
    ("--snap", 1, None, 50),
    ("--seed", 0, 2**31 - 1, 0),
    ("--checkpoint-minutes", 0.0, None, 10.0),
    ("--nan-limit", 0, None, 100),
    ("--workers", 1, None, 3),
    ("--neural_rendering_resolution_initial", 1, None, 64),
    ("--neural_rendering_resolution_final", 1, None, None),
    ("--neural_rendering_resolution_fade_kimg", 0, None, 1000),
    ("--blur_fade_kimg", 1, None, 200),
    ("--c-scale", 0.0, None, 1.0),
    ("--c-noise", 0.0, None, 0.0),
    ("--gpc_reg_prob", 0.0, None, 0.5),
    ("--gpc_reg_fade_kimg", 0, None, 1000),
    ("--disc_c_noise", 0.0, None, 0.0),
    ("--sr_num_fp16_res", 0, None, 4),
    ("--g_num_fp16_res", 0, None, 0),
    ("--d_num_fp16_res", 0, None, 4),
    ("--sr_first_cutoff", 2, None, 2),
    ("--sr_first_stopband", 2.0, None, 2**2.1),
    ("--style_mixing_prob", 0.0, 1.0, 0.0),
    ("--density_reg", 0.0, None, 0.25),
    ("--density_reg_every", 1.0, None, 4.0),
    ("--density_reg_p_dist", 0.0, None, 0.004),
    ("--decoder_lr_mul", 0.0, None, 1.0),
]
BOOLEANS = [
    ("--cond", True),
    ("--cond_classes", False),
    ("--mirror", False),
    ("--nobench", False),
    ("--tf32", False),
    ("--deterministic", False),
    ("--cuda_graphs", False),
    ("--gen_pose_cond", False),
    ("--resume_blur", False),
    ("--aware3d", False),
]
# (name, choices or None for any text, default)
TEXTS = [
    ("--outdir", None, None),
    ("--cfg", list(methods.cfgs()), None),
    ("--method", list(methods.all_methods()), "eg3d"),
    ("--data", None, None),
    ("--aug", ["noaug", "ada", "fixed"], "noaug"),
    ("--resume", None, None),
    ("--desc", None, None),
    ("--metrics", None, None),
    ("--sr_noise_mode", ["random", "none"], "none"),
    ("--sr-module", None, None),
    (
        "--reg_type",
        ["l1", "l1-alt", "monotonic-detach", "monotonic-fixed", "total-variation"],
        "l1",
    ),
    ("--plane_axes", ["legacy", "orthogonal", "cyclic"], "legacy"),
    ("--preset", ["1x24gb", "1x80gb", "4x24gb", "4x80gb", "8x24gb", "8x80gb"], None),
    ("--recompute", ["none", "renderer", "renderer+sr"], "none"),
    ("--rebalance", ["yaw", "weights"], None),
    ("--cache", ["none", "ram", "gpu"], "none"),
    ("--compile", ["none", "generator"], "none"),
    ("--ops", ["auto", "torch", "triton"], "auto"),
    ("--detector", None, None),
    ("--pr-detector", None, None),
    ("--wandb", None, None),
    ("--launch", ["here", "slurm"], "here"),
    ("--launch-options", None, None),
]
OF_METHODS = {row[0] for row in train.OF_METHODS}  # each method's tests have its own
PARAMETERS = {option: p for p in train.main.params for option in p.opts if option not in OF_METHODS}


def parse(*arguments):
    needed = ["--outdir=o", "--cfg=ffhq", "--data=d"]
    return train.main.make_context("train", [*needed, *arguments]).params


@pytest.mark.parametrize("name, low, high, default", NUMBERS)
def test_numbers(name, low, high, default):
    parameter = PARAMETERS[name]
    kind = float if isinstance(low, float) else int
    assert isinstance(parameter.type, click.FloatRange if kind is float else click.IntRange)
    assert (parameter.type.min, parameter.type.max) == (low, high)
    assert not parameter.type.min_open and not parameter.type.max_open
    value = parse()[parameter.name]
    assert value == default and (value is None or type(value) is kind)


@pytest.mark.parametrize("name, default", BOOLEANS)
def test_booleans(name, default):
    parameter = PARAMETERS[name]
    assert parameter.type is click.BOOL and not parameter.is_flag
    assert parse()[parameter.name] is default
    assert parse(f"{name}={not default}")[parameter.name] is (not default)


@pytest.mark.parametrize("name, choices, default", TEXTS)
def test_texts(name, choices, default):
    parameter = PARAMETERS[name]
    found = list(parameter.type.choices) if isinstance(parameter.type, click.Choice) else None
    assert found == choices
    if name not in ("--outdir", "--cfg", "--data", "--metrics"):
        assert parse()[parameter.name] == default


def test_no_option_is_missing_here():
    tested = {row[0] for row in [*NUMBERS, *BOOLEANS, *TEXTS]}
    assert set(PARAMETERS) == tested | {"--dry-run", "-n", "--batch-gpu"}
    assert parse("-n")["dry_run"] and parse("--dry-run")["dry_run"] and not parse()["dry_run"]


def test_micro_batches_are_a_number_or_auto():
    assert parse()["batch_gpu"] is None and parse("--batch-gpu=auto")["batch_gpu"] == "auto"
    assert parse("--batch-gpu=4")["batch_gpu"] == 4
    for value in ("0", "many", "1.5"):
        with pytest.raises(click.BadParameter):
            parse(f"--batch-gpu={value}")


def test_lists_of_metrics():
    assert parse()["metrics"] == ["fid50k_full"]
    assert parse("--metrics=none")["metrics"] == []
    assert parse("--metrics=NONE")["metrics"] == parse("--metrics=")["metrics"] == []
    assert parse("--metrics=fid50k_full, kid50k_full")["metrics"] == ["fid50k_full", "kid50k_full"]


@pytest.mark.parametrize("spelling", ["-", "_"])
def test_names_with_dashes_and_underscores(spelling):
    """Every option in one spelling throughout, with its highest value, or any allowed one."""
    values = {name: high or (low or 1) * 8 for name, low, high, _ in NUMBERS}
    values["--batch-gpu"] = "auto"
    values |= {name: not default for name, default in BOOLEANS}
    values |= {name: choices[1] if choices else "x" for name, choices, _ in TEXTS}
    line = [f"--{n[2:].replace('-', '_').replace('_', spelling)}={v}" for n, v in values.items()]
    found = train.main.make_context("train", [*line, f"--dry{spelling}run"]).params
    values["--metrics"] = ["x"]
    expected = {PARAMETERS[n].name: v for n, v in values.items()} | {"dry_run": True}
    assert expected.items() <= found.items()
    others = found.keys() - expected.keys()
    assert {f"--{name.replace('_', '-')}" for name in others} == {
        name.replace("_", "-") for name in OF_METHODS
    }


# -- Runs of the command --------------------------------------------------------------------------


@pytest.fixture
def invoke(cars, tmp_path):
    """`invoke(*arguments)` -> click's result of a demo training into tmp_path / 'runs'."""

    def run(*arguments):
        line = ["--cfg=demo", f"--data={cars}", f"--outdir={tmp_path / 'runs'}", *arguments]
        return CliRunner().invoke(train.main, [str(a) for a in line])

    return run


@pytest.fixture
def launched(monkeypatch):
    """The configurations that the command would have trained."""
    configs = []
    monkeypatch.setattr(launching, "launch", lambda config, lock, world: not configs.append(config))
    return configs


def assert_one_error(result, *words):
    """Status 1 or 2; the last line, and no other, says `Error: ` and the words."""
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), result.exception
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and result.output.rstrip().endswith(errors[0]), result.output
    assert not [word for word in words if word not in errors[0]], errors[0]


def test_dry_run_creates_nothing(invoke, launched, tmp_path):
    result = invoke("--dry-run")
    assert result.exit_code == 0, result.output
    assert launched == [] and list(tmp_path.iterdir()) == []
    name = "00000-demo-cars-gpus1-"
    assert name in result.output and "12 images" in result.output
    options = result.output[result.output.index("{") : result.output.rindex("}") + 1]
    assert name in json.loads(options)["run_dir"]
    assert result.output.rstrip().endswith("Dry run; exiting.")


def test_what_is_launched(invoke, launched, tmp_path):
    result = invoke("--seed=3", "--desc=x")
    assert result.exit_code == 0, result.output
    (config,) = launched
    assert config.random_seed == 3 and config.run_dir.endswith("-x")
    assert list(tmp_path.iterdir()) == []  # The loop's part.


@pytest.mark.parametrize("missing", ["--outdir", "--cfg", "--data"])
def test_required_options(missing, cars, tmp_path):
    line = [f"--outdir={tmp_path}", "--cfg=demo", f"--data={cars}", "-n"]
    line = [argument for argument in line if not argument.startswith(missing)]
    result = CliRunner().invoke(train.main, line)
    assert result.exit_code == 2 and f"Error: Missing option '{missing}'" in result.output


@pytest.mark.parametrize("missing", ["gpus", "batch", "gamma"])
def test_required_options_of_published_presets(missing, cars, tmp_path):
    line = [f"--outdir={tmp_path}", "--cfg=ffhq", f"--data={cars}", "-n"]
    line += [f"--{name}=4" for name in ("gpus", "batch", "gamma") if name != missing]
    result = CliRunner().invoke(train.main, line)
    assert_one_error(result, f"--{missing} is required with --cfg=ffhq")


@pytest.mark.parametrize(
    "argument, words",
    [
        ("--gpus=3", ["--batch=8", "--gpus=3"]),
        ("--metrics=fid", ["--metrics: ", "fid", "fid50k_full"]),
        ("--metrics=ppl2_wend", ["--metrics: ", "ppl2_wend"]),
        ("--reg-type=l1-alt", ["--reg_type=l1-alt"]),
        ("--cond_classes=True", ["--data: ", 'dataset.json has no "classes", but classes']),
        ("--rebalance=weights", ["--data: cars: has no weights; dataset.json must have"]),
        ("--cfg=stylegan2", ["--cfg", "stylegan2", "ffhq"]),
        ("--kimg=0", ["--kimg"]),
        ("--seed=-1", ["--seed"]),
        ("--no-such-option=1", ["--no-such-option"]),
    ],
)
def test_refusals(invoke, launched, tmp_path, argument, words):
    assert_one_error(invoke(argument), *words)
    assert launched == [] and list(tmp_path.iterdir()) == []


def test_options_without_effect_are_noticed(invoke, launched):
    result = invoke("--c_noise=1", "--sr-first-cutoff=2", "--p=0.1")
    assert result.exit_code == 0 and len(launched) == 1
    notices = result.stderr.splitlines()
    assert [line.split(":")[0] for line in notices] == ["--c_noise", "--sr_first_cutoff", "--p"]
    assert invoke("-n").stderr == ""


def test_bad_datasets(invoke, launched, cars, tmp_path):
    assert_one_error(invoke("--data=nowhere.zip"), "--data", "nowhere.zip", "no such file")
    broken, bare = tmp_path / "broken.zip", tmp_path / "bare.zip"
    broken.write_bytes(b"not a zip")
    assert_one_error(invoke(f"--data={broken}"), "--data", "broken.zip", "not a readable zip")
    with zipfile.ZipFile(cars) as full, zipfile.ZipFile(bare, "w") as part:
        picture = next(name for name in full.namelist() if name.endswith(".png"))
        part.writestr(picture, full.read(picture))
    assert_one_error(invoke(f"--data={bare}"), "--data", "dataset.json is missing")
    assert launched == []


@pytest.mark.parametrize(
    "error, words",
    [
        (DatasetError("cars.zip/1.png cannot be decoded"), ["--data: cars.zip/1.png cannot"]),
        (OptionError("--outdir: x cannot be made"), ["--outdir: x"]),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to"), ["--batch-gpu", "CUDA out of"]),
        (NonFiniteError("weights of G are not finite: a"), ["weights of G are not finite: a"]),
        (CheckpointError("checkpoint is of a run with"), ["checkpoint is of a run with"]),
        (OSError(errno.ENOSPC, "No space left on device"), ["No space left"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_while_training(invoke, monkeypatch, error, words):
    def fail(config, lock, world):
        raise error

    monkeypatch.setattr(launching, "launch", fail)
    assert_one_error(invoke(), *words)


def test_interrupted(invoke, monkeypatch):
    def interrupt(config, lock, world):
        raise KeyboardInterrupt

    monkeypatch.setattr(launching, "launch", interrupt)
    result = invoke()
    assert result.exit_code == 1 and result.output.rstrip().endswith("Aborted!")


def test_stopped_by_a_signal(invoke, monkeypatch):
    monkeypatch.setattr(launching, "launch", lambda config, lock, world: False)
    assert invoke().exit_code == 75
    monkeypatch.setattr(launching, "launch", lambda config, lock, world: True)
    assert invoke().exit_code == 0
    assert "75" in CliRunner().invoke(train.main, ["--help"]).output


def test_a_finished_run_leaves_nothing_to_do(invoke, launched, monkeypatch):
    monkeypatch.setattr(
        runs, "choose", lambda config, *_, **__: runs.Choice(config, "is finished", None, True)
    )
    result = invoke("--resume=latest")
    assert (result.exit_code, launched, result.output) == (0, [], "is finished\n")


def test_a_snapshot_that_is_not_there(invoke, launched, tmp_path):
    assert_one_error(invoke("--resume=no.pkl"), "--resume=no.pkl: no such file", "latest or none")
    assert launched == [] and list(tmp_path.iterdir()) == []


def test_a_snapshot_that_is_none(invoke, launched, tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"hello")
    assert_one_error(invoke(f"--resume={tmp_path / 'x.pkl'}"), "--resume: ", "x.pkl: is neither")
    assert launched == [] and [p.name for p in tmp_path.iterdir()] == ["x.pkl"]


def test_outdir_that_cannot_be_made(invoke, tmp_path):
    (tmp_path / "file").touch()
    assert_one_error(invoke(f"--outdir={tmp_path / 'file'}"), "--outdir", "is a file")
    assert_one_error(invoke(f"--outdir={tmp_path / 'file' / 'x'}"), "--outdir", "cannot be made")


def test_the_script_itself(cars, tmp_path):
    """As users start it; nothing on stderr, and from any folder."""
    script = [sys.executable, ROOT / "train.py", "--cfg=demo", f"--data={cars}", "--outdir=out"]
    done = subprocess.run(
        [*script, "-n"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "") and "Dry run" in done.stdout
    assert list(tmp_path.iterdir()) == []
