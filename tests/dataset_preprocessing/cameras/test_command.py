"""The command: every option changes something, nothing is half written."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import scipy.io
from click.testing import CliRunner

from dataset_preprocessing.cameras import formats
from dataset_preprocessing.cameras.__main__ import main
from tests.dataset_preprocessing.cameras import scenes
from tests.dataset_preprocessing.cameras.scenes import expected_labels, orbit


def labels_in(folder):
    entries = json.loads((folder / "dataset.json").read_text())["labels"]
    return np.array([label for _, label in sorted(entries)])


@pytest.mark.parametrize("kind", scenes.WRITERS)
def test_pictures_are_copied(kind, scene, run):
    source = scene(kind)
    dest, done = run(source)
    assert f"3 pictures with cameras of {kind}" in done.output
    assert np.allclose(labels_in(dest), expected_labels(orbit(3)), atol=1e-9)
    for path in dest.rglob("*.png"):
        name = path.relative_to(dest)
        inside = source / name if (source / name).exists() else source / "images" / name
        assert path.read_bytes() == inside.read_bytes()
    assert len(list(dest.rglob("*"))) - len([p for p in dest.rglob("*") if p.is_dir()]) == 4


@pytest.mark.parametrize(
    "options",
    [["--auto-orient"], ["--recenter"], ["--radius=1"], ["--box=1"]],
    ids=" ".join,
)
def test_alignment(options, scene, run, tmp_path):
    source = scene("colmap", world=np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]))
    plain, moved = run(source)[0], run(source, *options)[0]
    assert not (plain / "alignment.json").exists()
    told = json.loads((moved / "alignment.json").read_text())
    before, after = labels_in(plain), labels_in(moved)
    eyes = told["scale"] * before[:, [3, 7, 11]] @ np.array(told["rotation"]).T
    assert np.allclose(after[:, [3, 7, 11]], eyes + told["translation"], atol=1e-12)
    assert not np.allclose(before, after, atol=0.01)


def test_mode(run, tmp_path):
    folder = tmp_path / "faces"
    scenes.save(orbit(1, size=(64, 64)), folder)
    values = dict(angle=np.array([[0.1, -0.35, 0.07]]), trans=np.array([[0.2, -0.1, 0.5]]))
    scipy.io.savemat(folder / "000.mat", values)
    found = [labels_in(run(folder, *mode)[0]) for mode in ([], ["--mode=orig"], ["--mode=cor"])]
    assert np.array_equal(found[0], found[1]) and not np.allclose(found[1], found[2], atol=1e-3)


def test_images(scene, run, refused, tmp_path):
    """Pictures elsewhere are found by the last parts of their paths; without the option, only where
    the file says."""
    source, elsewhere = scene("transforms"), tmp_path / "elsewhere"
    shutil.move(source / "images", elsewhere)
    shutil.copy(elsewhere / "000.png", source)
    assert "has no picture ./images/000.png; --images=FOLDER says" in refused(source)
    dest, _ = run(source, f"--images={elsewhere}")
    assert (dest / "000.png").is_file() and len(labels_in(dest)) == 3


def test_format(scene, run, refused):
    source = scene("transforms")
    scenes.write_srn(orbit(2), source)
    assert refused(source).endswith("has cameras of transforms and srn; choose with --format")
    assert len(labels_in(run(source, "--format=srn")[0])) == 2
    assert len(labels_in(run(source, "--format=transforms")[0])) == 3


@pytest.mark.parametrize(
    "kind, file",
    [
        ("transforms", "transforms.json"),
        ("colmap", "sparse/0/images.bin"),
        ("colmap-text", "sparse/0/images.txt"),
        ("srn", "pose/000002.txt"),
        ("labels", "dataset.json"),
    ],
)
def test_export(kind, file, scene, run):
    assert (run(scene("labels"), f"--export={kind}")[0] / file).is_file()


def test_zip(scene, tmp_path):
    source, dest = scene("labels"), tmp_path / "deep" / "out.zip"
    assert CliRunner().invoke(main, [f"--source={source}", f"--dest={dest}"]).exit_code == 0
    with zipfile.ZipFile(dest) as archive:
        assert sorted(archive.namelist()) == ["000.png", "001.png", "002.png", "dataset.json"]
        assert archive.read("001.png") == (source / "001.png").read_bytes()


def test_interruption(scene, tmp_path, monkeypatch):
    """A copy that fails leaves nothing under its name; the same command then goes on, to the same
    bytes."""
    line, dest, added = f"--source={scene('labels')}", tmp_path / "out.zip", []
    add, broken = formats.Destination.add, True

    def counted(destination, name, content):
        if broken and name == "001.png":
            raise OSError("the disk is gone")
        added.append(name)
        add(destination, name, content)

    monkeypatch.setattr(formats.Destination, "add", counted)
    done = CliRunner().invoke(main, [line, f"--dest={dest}"])
    assert done.exit_code == 1 and "the disk is gone" in done.output and not dest.exists()
    broken = False
    for path in (dest, tmp_path / "whole.zip"):
        assert CliRunner().invoke(main, [line, f"--dest={path}"]).exit_code == 0
    names = ["000.png", "001.png", "002.png", "dataset.json"]
    assert added == [*names, *names]
    assert dest.read_bytes() == (tmp_path / "whole.zip").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_destination_is_there(scene, refused, tmp_path):
    (tmp_path / "out0").mkdir()
    (tmp_path / "out0" / "x").touch()
    line = [f"--source={scene('labels')}", f"--dest={tmp_path / 'out0'}"]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 1 and "must be an empty folder" in done.output


def test_radius_and_box(scene, run):
    done = run(scene("labels"), "--radius=1", "--box=1")[1]
    assert done.exit_code == 2 and "choose one" in done.output


def test_ignore_distortion(scene, run):
    source = scene("transforms")
    content = json.loads((source / "transforms.json").read_text())
    (source / "transforms.json").write_text(json.dumps(dict(content, k1=0.1)))
    assert run(source)[0] is None
    assert np.allclose(labels_in(run(source, "--ignore-distortion")[0]), expected_labels(orbit(3)))
