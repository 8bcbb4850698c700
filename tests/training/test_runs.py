"""Which run a command means: every branch, on directories that look like runs."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import train
from tests.tiny import tiny_discriminator, tiny_generator
from training import checkpoints, runs
from training.config import OptionError, as_fine_tune
from training.runs import RunLock, choose, create, is_finished, prepare
from training.snapshots import save_snapshot

ROOT = Path(train.__file__).parent


def checkpoint(run_dir, nimg):
    progress = checkpoints.Progress({})
    progress.nimg = nimg
    return checkpoints.write_checkpoint(run_dir, progress.state_dict())


@pytest.fixture
def command(tiny_config, tmp_path):
    """`command(*arguments)`: the configuration of a command, whose new run would be number 99."""

    def build(*arguments, **changes):
        config = tiny_config(*arguments)
        run_dir = str(tmp_path / "runs" / "00099-demo-cars-gpus1")
        return replace(config, run_dir=run_dir, total_kimg=2, **changes)

    return build


@pytest.fixture
def earlier(tmp_path):
    """`earlier(number, config, nimg, cfg='demo')`: makes a run directory with a checkpoint."""

    def build(number, config, nimg=None, cfg="demo"):
        run_dir = tmp_path / "runs" / f"{number:05d}-{cfg}-cars-gpus1"
        run_dir.mkdir(parents=True)
        options = asdict(replace(config, run_dir=str(run_dir)))
        (run_dir / "training_options.json").write_text(json.dumps(options))
        if nimg is not None:
            checkpoint(run_dir, nimg)
        return run_dir

    return build


@pytest.fixture
def locked():
    """`locked(run_dir)`: another process holds the lock until the end of the test."""
    code = (
        "import sys; from training.runs import RunLock; lock = RunLock.take(sys.argv[1]);"
        "print(lock is not None, flush=True); sys.stdin.read()"
    )
    held = []

    def lock(run_dir):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(run_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        held.append(process)
        assert process.stdout.readline() == "True\n"
        return process

    yield lock
    for process in held:
        process.communicate()


def chosen(choice):
    return Path(choice.config.run_dir)


# -- Left out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [None, "latest", "none"])
def test_without_runs_a_new_one_starts(command, resume):
    config = command()
    choice = choose(config, resume)
    assert choice.config == config and choice.lock is None and not choice.finished
    assert bool(choice.notice) == (resume == "latest")


def test_the_newest_unfinished_one_goes_on(command, earlier):
    config = command()
    older, newer = earlier(3, config, 500), earlier(10, config, 4)
    earlier(11, config, 2000)  # finished
    earlier(12, command("--seed=1"), 4)  # another command's
    (newer.parent / "00013-demo-cars-gpus1").mkdir()  # Killed before it recorded its options.
    (newer.parent / "notes").mkdir()
    choice = choose(config, None)
    assert chosen(choice) == newer and choice.lock.run_dir == newer and not choice.finished
    assert str(newer) in choice.notice
    assert replace(choice.config, run_dir=config.run_dir) == config
    for path in newer.glob("checkpoint-*"):
        path.unlink()
    assert chosen(choose(config, None)) == newer  # From its beginning.
    checkpoint(newer, 2000)
    assert chosen(choose(config, None)) == older
    checkpoint(older, 2004)
    assert choose(config, None).lock is None


def test_none_is_always_a_new_one(command, earlier):
    config = command()
    earlier(1, config, 4)
    assert choose(config, "none").config == config and choose(config, "none").lock is None


def test_a_run_in_training_is_left_alone(command, earlier, locked, capsys):
    config = command()
    older, newer = earlier(1, config, 4), earlier(2, config, 4)
    process = locked(newer)
    for resume in (None, "latest"):
        choice = choose(config, resume)
        choice.lock.release()
        assert chosen(choice) == older
        assert capsys.readouterr().err == f"{newer} is being trained by another process\n"
    process.kill()  # Whatever ends the process frees the run.
    process.wait()
    assert chosen(choose(config, None)) == newer


def test_finished_is_what_a_good_checkpoint_says(tmp_path):
    assert not is_finished(tmp_path, 8)
    checkpoint(tmp_path, 4)
    assert not is_finished(tmp_path, 8)
    last = checkpoint(tmp_path, 8)
    assert is_finished(tmp_path, 8) and not is_finished(tmp_path, 9)
    last.write_bytes(last.read_bytes()[:-1])
    assert not is_finished(tmp_path, 8)


# -- --resume=latest ------------------------------------------------------------------------------


def test_latest_takes_the_newest_of_the_preset(command, earlier):
    config = command()
    demo = earlier(1, config, 4)
    earlier(2, config, 4, cfg="ffhq")
    assert chosen(choose(config, "latest")) == demo


def test_latest_extends_what_is_finished(command, earlier):
    run_dir = earlier(1, command(), 2000)
    choice = choose(command(), "latest")
    assert choice.finished and "larger --kimg" in choice.notice
    longer = replace(command(), total_kimg=3)
    choice = choose(longer, "latest")
    assert chosen(choice) == run_dir and not choice.finished and choice.config.total_kimg == 3


def test_latest_allows_what_weights_do_not_depend_on(command, earlier, cars, tmp_path):
    other = tmp_path / "copy.zip"
    os.link(cars, other)
    run_dir = earlier(1, command(), 4)
    config = command(
        *("--tick=7", "--snap=9", "--workers=2", "--nobench=True", f"--data={other}"),
        *("--checkpoint-minutes=3", "--nan-limit=5"),
        metrics=["fid50k_full"],
    )
    config = replace(config, image_grid=[3, 3])
    choice = choose(config, "latest")
    assert chosen(choice) == run_dir and choice.config.kimg_per_tick == 7
    assert choose(config, None).lock is None  # Without the word it would be another run.


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed=1"],
        ["--batch=8"],
        ["--batch-gpu=2", "--mbstd-group=2"],
        ["--gamma=3"],
        ["--glr=0.1"],
        ["--dlr=0.1"],
        ["--cmax=16"],
        ["--cbase=128"],
        ["--map-depth=3"],
        ["--freezed=1"],
        ["--mirror=True"],
        ["--density_reg=1"],
        ["--density_reg_every=2"],
        ["--density_reg_p_dist=1"],
        ["--reg_type=monotonic-fixed"],
        ["--decoder_lr_mul=2"],
        ["--plane_axes=orthogonal"],
        ["--gen_pose_cond=True"],
        ["--c-scale=2"],
        ["--disc_c_noise=1"],
        ["--sr_noise_mode=random"],
        ["--style_mixing_prob=1"],
        ["--g_num_fp16_res=1"],
        ["--d_num_fp16_res=0"],
        ["--sr_num_fp16_res=0"],
        ["--blur_fade_kimg=9"],
        ["--neural_rendering_resolution_initial=4"],
        ["--neural_rendering_resolution_final=16"],
        ["--neural_rendering_resolution_fade_kimg=9"],
        ["--aug=ada"],
        ["--aug=fixed"],
        ["--sr-module=training.superresolution.Superresolution32"],
    ],
    ids=" ".join,
)
def test_latest_names_what_differs(command, earlier, arguments, monkeypatch):
    monkeypatch.setattr(
        "training.superresolution.Superresolution32",
        type("Superresolution32", (), {}),
        raising=False,
    )
    run_dir = earlier(1, command(), 4)
    with pytest.raises(OptionError) as error:
        choose(command(*arguments), "latest")
    message = str(error.value)
    assert "\n" not in message and str(run_dir) in message
    named = message.split(": ")[-1].split(", ")
    for argument in arguments:
        option = argument.split("=")[0].replace("-", "_")
        assert option in [name.replace("-", "_") for name in named]
    assert all(name.startswith("--") for name in named), named
    RunLock.take(run_dir).release()  # The lock is free again.


def test_latest_goes_on_with_a_fine_tuning(command, earlier):
    """Without naming the snapshot that it started from."""
    pose = "--gen_pose_cond=True"
    for number, keep in ((1, False), (2, True)):
        run_dir = earlier(number, as_fine_tune(command(pose), "a.pkl", keep), 4)
        choice = choose(command(pose), "latest")
        assert chosen(choice) == run_dir
        assert choice.config.resume_pkl == "a.pkl" and choice.config.ema_rampup is None
        fade = choice.config.loss_kwargs["gpc_reg_fade_kimg"]
        assert fade == (1000 if keep else 0)


# -- --resume=SNAPSHOT ----------------------------------------------------------------------------


def test_a_snapshot_starts_a_run_that_goes_on(command, earlier, tmp_path, monkeypatch):
    snapshot = tmp_path / "a.pkl"
    config = command(f"--resume={snapshot}")
    with pytest.raises(OptionError, match="--resume=.*a.pkl: no such file.*latest or none"):
        choose(config, str(snapshot))
    snapshot.touch()
    with pytest.raises(OptionError, match="--resume: .*a.pkl: is neither"):
        choose(config, str(snapshot))
    save_snapshot(snapshot, {}, D=tiny_discriminator())
    with pytest.raises(OptionError, match="--resume=.*a.pkl: has neither G nor G_ema"):
        choose(config, str(snapshot))
    save_snapshot(snapshot, {}, G_ema=tiny_generator())
    earlier(1, command(), 4)
    assert choose(config, str(snapshot)).lock is None
    run_dir = earlier(2, config, 4)
    snapshot.unlink()  # No longer needed.
    assert chosen(choose(config, str(snapshot))) == run_dir
    address = "https://a.b/c.pkl"
    monkeypatch.setattr(runs, "read_tensors", lambda source: read.append(source))
    read = []
    assert choose(command(f"--resume={address}"), address).lock is None and read == [address]


# -- Directories ----------------------------------------------------------------------------------


def test_options_are_recorded_whole(command, earlier, monkeypatch):
    config = command()
    with create(config.run_dir):
        assert prepare(config) is None
    path = Path(config.run_dir, "training_options.json")
    before = path.read_text()
    assert json.loads(before) == json.loads(json.dumps(asdict(config)))

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(runs.json, "dump", full)
    with pytest.raises(OSError, match="No space"):
        prepare(replace(config, total_kimg=9))
    assert path.read_text() == before and len(list(path.parent.iterdir())) == 2


def test_damaged_checkpoints_are_not_swept_away(command, capsys):
    config = command()
    with create(config.run_dir):
        assert prepare(config) is None
        assert prepare(config) is None  # As after a crash before the first checkpoint.
        assert "has no checkpoint yet: it starts from its beginning" in capsys.readouterr().out
        path = checkpoint(config.run_dir, 4)
        path.write_bytes(b"")
        with pytest.raises(checkpoints.CheckpointError, match="none of its.*--resume=none"):
            prepare(config)
        assert path.exists() and path.name in capsys.readouterr().err


def test_a_directory_of_another_process(command):
    config = command()
    with create(config.run_dir):
        with pytest.raises(OptionError, match="was made meanwhile; start again"):
            create(config.run_dir)


def test_file_systems_without_locks(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(runs.fcntl, "lockf", unsupported)
    assert RunLock.take(tmp_path) is not None
    monkeypatch.setattr(runs, "fcntl", None)
    assert RunLock.take(tmp_path) is not None
