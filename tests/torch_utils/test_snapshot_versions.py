"""Every snapshot that was ever written still opens and gives the pictures it gave then.

The files in tests/data/snapshots are as users have them: `version<N>` as this project wrote them
while its state version was N, `published` in the layout of the published checkpoints.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import outputs
from torch_utils import persistence
from training import migrations
from training.migrations import MIGRATIONS, STATE_VERSION, migrate
from training.snapshots import save_snapshot

FOLDER = Path(__file__).parents[1] / "data" / "snapshots"
FILES = sorted(FOLDER.glob("*.pkl"))


@pytest.fixture
def stored(monkeypatch):
    """`stored(path)` -> the networks, and of each class in the file all names and versions."""

    def load(path):
        names, versions = {}, {}

        def collect(meta):
            names.setdefault(meta.class_name, set()).update(meta.state)
            versions.setdefault(meta.class_name, set()).add(meta.state.get("_state_version", 0))
            return meta

        monkeypatch.setattr(persistence, "_import_hooks", [collect])
        return pickle.loads(path.read_bytes()), names, versions

    return load


def recorded(path):
    with np.load(path.with_suffix(".npz")) as file:
        return {name: file[name] for name in file.files}


def assert_outputs(networks, expected):
    actual = outputs(networks)
    assert set(actual) == set(expected)
    for name, value in expected.items():
        assert value.std() > 1e-3  # a picture, not a blank
        np.testing.assert_allclose(actual[name], value, atol=1e-4 * abs(value).max())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_old_files_give_their_pictures(path, tmp_path):
    networks = pickle.loads(path.read_bytes())
    assert_outputs(networks, recorded(path))
    again = tmp_path / "again.pkl"
    save_snapshot(again, {}, G_ema=networks["G_ema"], D=networks["D"])
    assert_outputs(pickle.loads(again.read_bytes()), recorded(path))


def test_there_is_a_file_of_every_version():
    names = {path.stem for path in FILES}
    missing = {"published", *(f"version{i}" for i in range(STATE_VERSION + 1))} - names
    assert not missing, f"{missing}: see tests/make_snapshot.py"
    assert all(path.with_suffix(".npz").exists() for path in FILES)
    assert all(path.stat().st_size < 300_000 for path in FOLDER.iterdir())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_of_the_version_that_they_are_named_after(path, stored):
    _, _, versions = stored(path)
    number = int(path.stem.removeprefix("version")) if path.stem != "published" else 0
    assert versions and set().union(*versions.values()) == {number}


def test_what_is_stored_changes_with_the_version_only(stored, tmp_path):
    """Fails for a new, renamed or lost attribute: write a migration, then a file."""
    networks, then, _ = stored(FOLDER / f"version{STATE_VERSION}.pkl")
    path = tmp_path / "now.pkl"
    save_snapshot(path, {}, G_ema=networks["G_ema"], D=networks["D"])
    _, now, _ = stored(path)
    fields = set(vars(torch.nn.Module()))  # differ from one version of torch to the next
    assert {k: v - fields for k, v in now.items()} == {k: v - fields for k, v in then.items()}


def test_published_state_becomes_ours():
    inert = object()
    before = {"act_gain": np.float64(1.5), "_last_planes": inert, "weight": inert, "_init_args": ()}
    after = migrate("TriPlaneGenerator", before)
    assert after == {"act_gain": 1.5, "_last_planes": None, "weight": inert, "_init_args": ()}
    assert type(after["act_gain"]) is float and before["_last_planes"] is inert
    assert migrate("TriPlaneGenerator", {**after, "_state_version": 1}) == after
    cached = {"_last_planes": inert, "_state_version": STATE_VERSION}
    assert migrate("TriPlaneGenerator", cached)["_last_planes"] is inert  # not touched twice


def test_steps_run_in_order_from_the_version_of_the_state(monkeypatch):
    def step(number):
        return lambda class_name, state: {**state, "steps": [*state["steps"], (class_name, number)]}

    monkeypatch.setattr(migrations, "MIGRATIONS", tuple(map(step, range(3))))
    monkeypatch.setattr(migrations, "STATE_VERSION", 3)
    for version in range(4):
        state = {"steps": [], "_state_version": version}
        assert migrate("A", state) == {"steps": [("A", i) for i in range(version, 3)]}
        assert state == {"steps": [], "_state_version": version}
    assert migrate("A", {"steps": []})["steps"][0] == ("A", 0)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"_state_version": STATE_VERSION + 1}, "made by a newer version"),
        ({"_state_version": 10**9}, "made by a newer version"),
        ({"_state_version": -1}, "must be a number from 0"),
        ({"_state_version": True}, "must be a number from 0"),
        ({"_state_version": "1"}, "must be a number from 0"),
        ({"_state_version": None}, "must be a number from 0"),
    ],
)
def test_unknown_versions_are_refused_in_one_line(entries, message):
    with pytest.raises(pickle.UnpicklingError, match=f"^ToRGBLayer: .*{message}") as error:
        migrate("ToRGBLayer", {"weight_gain": 1.0, **entries})
    assert "\n" not in str(error.value)


def test_damaged_states_are_refused_in_one_line():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    circle = []
    circle.append(circle)
    for value in (deep, circle):
        with pytest.raises(pickle.UnpicklingError, match="^Generator: its state cannot be used"):
            migrate("Generator", {"z_dim": value})


def test_number_of_the_project():
    assert STATE_VERSION == len(MIGRATIONS) >= 1
