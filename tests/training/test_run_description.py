"""environment.json: true of this machine and this command, without names and secrets."""

import datetime
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from training import run_description
from training.run_description import (
    describe_run,
    git_state,
    relevant_variables,
    write_description,
)


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository of one file with one commit."""
    if shutil.which("git") is None:
        pytest.skip("no git")
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_it_says_what_is(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--cfg=demo", "--data=my cars.zip"])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    found = json.loads(json.dumps(describe_run(world_size=4)))
    assert found["command"].endswith(" train.py --cfg=demo '--data=my cars.zip'")
    assert found["command"].startswith(sys.executable)
    assert found["arguments"] == ["--cfg=demo", "--data=my cars.zip"]
    started = datetime.datetime.fromisoformat(found["started"])
    assert before <= started <= datetime.datetime.now(datetime.timezone.utc)
    versions = found["versions"]
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == torch.__version__ and versions["cuda"] == torch.version.cuda
    assert versions["numpy"] == np.__version__
    assert {"eg3d-open", "triton"} <= set(versions)
    assert found["cpu"]["threads"] == os.cpu_count()
    assert found["cpu"]["memory_gib"] * 2**30 == pytest.approx(
        psutil.virtual_memory().total, rel=0.05
    )
    assert len(found["devices"]) == torch.cuda.device_count()
    assert found["world_size"] == 4 and found["environment"]["OMP_NUM_THREADS"] == "3"
    assert found["torch_threads"] == torch.get_num_threads()


def test_devices_are_named(monkeypatch):
    class Properties:
        name, total_memory, major, minor = "NVIDIA Something", 80 * 2**30, 9, 0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    expected = {"name": "NVIDIA Something", "memory_gib": 80.0, "capability": "9.0"}
    assert describe_run()["devices"] == [expected, expected]


def test_no_names_and_no_secrets(monkeypatch):
    told = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "TORCH_NCCL_BLOCKING_WAIT": "1",
        "NCCL_DEBUG": "INFO",
        "SLURM_JOB_ID": "17",
    }
    kept_back = {
        "WANDB_API_KEY": "s3cret",
        "TORCH_HUB_TOKEN": "s3cret",
        "NCCL_HOSTID": "s3cret",
        "MASTER_ADDR": "s3cret",
        "SLURM_JOB_NODELIST": "s3cret",
        "HOME": "s3cret",
    }
    assert relevant_variables({**kept_back, **told}) == told
    for name, value in kept_back.items():
        if name != "HOME":
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    text = json.dumps(describe_run())
    assert "s3cret" not in text
    assert len(socket.gethostname()) < 4 or socket.gethostname() not in text


def test_one_entry_for_each_start(tmp_path, monkeypatch):
    for argument in ("--kimg=1", "--kimg=2"):
        monkeypatch.setattr(sys, "argv", ["train.py", argument])
        write_description(tmp_path)
    starts = json.loads((tmp_path / "environment.json").read_text())
    assert [start["arguments"] for start in starts] == [["--kimg=1"], ["--kimg=2"]]
    assert [path.name for path in tmp_path.iterdir()] == ["environment.json"]


@pytest.mark.parametrize("damage", ['[{"command": "tr', '{"command": "train.py"}', ""])
def test_a_damaged_file_is_begun_anew(tmp_path, damage):
    (tmp_path / "environment.json").write_text(damage)
    write_description(tmp_path)
    assert len(json.loads((tmp_path / "environment.json").read_text())) == 1


def test_the_commit(repository):
    commit = git(repository, "rev-parse", "HEAD")
    assert len(commit) == 40
    assert git_state(repository) == {"commit": commit, "dirty": False}
    (repository / "picture.png").write_text("new")  # What a run writes says nothing of the code.
    assert git_state(repository) == {"commit": commit, "dirty": False}
    (repository / "code.py").write_text("2\n")
    assert git_state(repository) == {"commit": commit, "dirty": True}


def test_no_commit(repository, tmp_path_factory, monkeypatch):
    """Outside of any repository, inside one that does not know the files, and without git."""
    installed = repository / "venv" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "code.py").write_text("1\n")
    assert git_state(installed) is None
    outside = tmp_path_factory.mktemp("plain")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(outside.parent))
    assert git_state(outside) is None
    monkeypatch.setenv("PATH", str(outside))
    assert git_state(repository) is None


def test_a_slow_git_does_not_stop_a_run(repository, monkeypatch):
    def run(command, **settings):
        assert 0 < settings["timeout"] <= 60
        raise subprocess.TimeoutExpired(command, settings["timeout"])

    monkeypatch.setattr(run_description.subprocess, "run", run)
    assert describe_run()["code"] is None


def test_the_code_described_is_ours():
    if not (Path(__file__).parents[2] / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a checkout")
    assert describe_run()["code"]["commit"] == git(Path(__file__).parent, "rev-parse", "HEAD")
