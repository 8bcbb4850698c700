"""The command as a whole: what is found in a broken dataset, its page, what is mended."""

import json
import re
import shlex
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import dataset_tool
from dataset_preprocessing.cameras.__main__ import main as cameras_command
from dataset_preprocessing.inspection import drawing
from dataset_preprocessing.inspection.survey import survey
from tests.dataset_preprocessing.inspection.conftest import COUNT, break_things, png
from training.cameras import Camera
from training.dataset import ImageFolderDataset


@pytest.fixture
def run(tmp_path):
    """`run(source, *options)` -> click's result and the page's text, None without."""

    def invoke(source, *options, dest="page.html"):
        line = ["inspect", f"--source={source}", f"--dest={tmp_path / dest}", *options]
        done = CliRunner().invoke(dataset_tool.main, line)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        page = tmp_path / dest
        return done, page.read_text(encoding="utf-8") if page.is_file() else None

    return invoke


def test_a_good_dataset(cars, run, tmp_path):
    done, page = run(cars, f"--json={tmp_path / 'found.json'}")
    assert done.exit_code == 0 and f"{COUNT} pictures: nothing odd" in done.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["pictures"] == found["cameras"] == COUNT and found["size"] == [32, 32]
    assert not any(found[key] for key in ("problems", "mended", "odd_cameras", "duplicates"))
    assert found["proposal"]["preset"] == "demo"
    assert page.count("<canvas") == 1 and page.count('class="histogram"') == 5
    for unwanted in ("http:", "https:", "//cdn", "<link", "import(", 'src="/'):
        assert unwanted not in page
    cameras = json.loads(re.search(r'id="cameras">(.*?)</script>', page, re.S)[1])
    assert len(cameras["cameras"]) == COUNT
    label = ImageFolderDataset(cars, use_labels=True).get_label(0)
    assert np.allclose(cameras["cameras"][0]["pose"][0], label[[3, 7, 11]], atol=1e-4)
    assert np.allclose(cameras["cameras"][0]["pose"][3], label[[2, 6, 10]], atol=1e-4)


def test_everything_that_is_broken_is_found(rewrite, run, tmp_path, content):
    source = rewrite(break_things)
    done, page = run(source, f"--json={tmp_path / 'a.json'}", f"--fix={tmp_path / 'fixed.zip'}")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "a.json").read_text())
    names = sorted(content[1])
    problems = {names.index(name): "; ".join(lines) for name, lines in found["problems"].items()}
    words = {0: "cannot be decoded", 4: "is 16 x 16 pixels, most are 32 x 32", 9: "reflection"}
    words |= {10: "has no camera", 12: "not finite"}
    assert set(problems) == set(words) and all(words[k] in problems[k] for k in words)
    assert {names.index(name) for name in found["mended"]} == {7, 8, 13, 14}
    assert {names.index(name) for name in found["odd_cameras"]} == {11}
    assert found["duplicates"] == [[names[2], names[5]]]
    assert found["near_duplicates"] == [[names[3], names[6]]]
    assert found["near_empty"] == [names[1], names[4]]
    for title in ("Problems", "Labels that --fix mends", "Odd cameras", "Duplicates"):
        assert f"<h2>{title}</h2>" in page


def test_what_is_mended(rewrite, run, tmp_path, content):
    source = rewrite(break_things)
    before = source.read_bytes()
    done, _ = run(source, f"--fix={tmp_path / 'fixed.zip'}")
    assert f"{COUNT - 7} pictures, 7 left out" in done.output and source.read_bytes() == before
    names = sorted(content[1])
    kept = [names[k] for k in range(COUNT) if k not in (0, 1, 4, 5, 9, 10, 12)]
    with zipfile.ZipFile(tmp_path / "fixed.zip") as new, zipfile.ZipFile(source) as old:
        assert sorted(new.namelist()) == sorted([*kept, "dataset.json"])
        assert all(new.read(name) == old.read(name) for name in kept)
    data = ImageFolderDataset(tmp_path / "fixed.zip", use_labels=True)
    for k, name in enumerate(kept):
        if name not in (names[11], names[7]):
            np.testing.assert_allclose(data.get_label(k), content[1][name], atol=1e-6)
    turned = np.array(content[1][names[7]], dtype=float)
    assert np.abs(data.get_label(kept.index(names[7])) - turned).max() < 0.02
    again, _ = run(tmp_path / "fixed.zip")
    assert "1 with odd cameras, 1 almost twice" in again.output


def test_classes_are_kept(content, run, tmp_path):
    files, labels = content
    names = sorted(labels)[:4]
    for name in names:
        (tmp_path / "cars" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cars" / name).write_bytes(files[name])
    (tmp_path / "cars" / names[1]).write_bytes(png(np.full((32, 32, 3), 255, np.uint8)))
    entries = dict(labels=[[name, labels[name]] for name in names])
    entries["classes"] = [[name, 10 + k] for k, name in enumerate(names)]
    entries["num_classes"] = 20
    (tmp_path / "cars" / "dataset.json").write_text(json.dumps(entries))
    run(tmp_path / "cars", f"--fix={tmp_path / 'fixed'}")
    found = json.loads((tmp_path / "fixed" / "dataset.json").read_text())
    assert found["classes"] == [[names[0], 10], [names[2], 12], [names[3], 13]]
    assert found["num_classes"] == 20


def test_axes_of_opengl_are_turned(rewrite, run, tmp_path, cars):
    def turn(files, labels):
        for label in labels.values():
            pose = np.array(label[:16]).reshape(4, 4) @ np.diag([1, -1, -1, 1])
            label[:16] = pose.ravel().tolist()

    done, page = run(rewrite(turn), f"--fix={tmp_path / 'fixed'}")
    assert "have the axes of OpenGL" in done.output and "axes of OpenGL" in page
    found, right = (ImageFolderDataset(p, use_labels=True) for p in (tmp_path / "fixed", cars))
    np.testing.assert_allclose(found.all_labels(), right.all_labels(), atol=1e-6)


def test_names_are_text(rewrite, run):
    evil = "<script>alert(1)</script>&\"'.png"

    def rename(files, labels):
        name = sorted(labels)[0]
        files[evil], labels[evil] = files.pop(name), labels.pop(name)
        labels[evil][3] *= 9

    _, page = run(rewrite(rename))
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    cameras = json.loads(re.search(r'id="cameras">(.*?)</script>', page, re.S)[1])
    assert evil in [camera["name"] for camera in cameras["cameras"]]


def test_without_cameras(rewrite, run, tmp_path):
    done, page = run(rewrite(lambda files, labels: labels.clear()), f"--fix={tmp_path / 'x.zip'}")
    assert done.exit_code == 0 and "<canvas" not in page
    assert f"{COUNT} with problems" in done.output and f"{COUNT} pictures, 0 left" in done.output


@pytest.mark.parametrize(
    "shape, words",
    [
        ((32, 48, 3), "Pictures are 48 x 32 pixels, must be squares"),
        ((48, 48, 3), "Pictures are 48 x 48 pixels, must be squares"),
        ((16, 16, 3), "Pictures are 16 x 16 pixels, must be squares"),
        ((32, 32), "Pictures are grey, must be RGB"),
    ],
)
def test_pictures_that_training_does_not_take(rewrite, run, shape, words):
    def change(files, labels):
        for k, name in enumerate(labels):
            files[name] = png(np.random.RandomState(k).randint(0, 256, shape, dtype=np.uint8))

    assert words in run(rewrite(change))[0].output


def test_cameras_in_one_place(rewrite, run):
    def stand(files, labels):
        for label in labels.values():
            label[3] = label[7] = label[11] = 0

    done, _ = run(rewrite(stand))
    assert done.exit_code == 0 and "The cameras stand at the origin" in done.output


def test_workers_find_the_same(cars):
    one, two = survey(cars), survey(cars, workers=2)
    assert [look.digest for look in one.looks.values()] == [
        look.digest for look in two.looks.values()
    ]


@pytest.mark.parametrize(
    "options, dest, words",
    [
        ([], "page.zip", "must end in .html"),
        (["--json=x.zip"], "page.html", "must end in .json"),
        (["--fix=SOURCE"], "page.html", "is there already"),
        (["--fix=x.tar"], "page.html", "must be a .zip or a folder"),
        (["--workers=0"], "page.html", "--workers"),
    ],
)
def test_errors_are_one_line(cars, run, options, dest, words, tmp_path):
    options = [option.replace("SOURCE", str(cars)) for option in options]
    before = cars.read_bytes()
    done, _ = run(cars, *options, dest=dest)
    assert done.exit_code in (1, 2) and cars.read_bytes() == before
    (error,) = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert words in error
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".zip", ".tar", ".part")]


def test_no_dataset(run, tmp_path):
    done, page = run(tmp_path / "none.zip")
    assert done.exit_code == 1 and page is None and "no such file" in done.output


def test_lines_are_where_points_are():
    """Against the definition of the camera; a line behind it is cut off."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.diag([1, -1, -1]), (0.1, 0.2, 2)
    lens = np.array([[1.5, 0.01, 0.45], [0, 1.4, 0.52], [0, 0, 1]])
    label = np.concatenate([pose.ravel(), lens.ravel()])
    points = np.random.default_rng(0).normal(0, 0.3, (9, 3))
    places, depths = drawing.projected(points, label)
    camera = Camera.from_label(torch.from_numpy(label)[None])
    for point, place, depth in zip(points, places, depths, strict=True):
        seen = camera.cam2world[0].inverse() @ torch.tensor([*point, 1.0], dtype=torch.float64)
        x, y, w = camera.intrinsics[0] @ seen[:3]
        np.testing.assert_allclose(place, (x / w, y / w))
        assert depth == pytest.approx(float(seen[2]))
    far = drawing._line(np.array([0, 0, 0.0]), np.array([0, 0, 5.0]), label, "")
    near = drawing._line(np.array([0, 0, 0.0]), np.array([0, 0, 1.95]), label, "")
    assert far.split("x2")[1] == near.split("x2")[1]
    assert drawing._line(np.array([0, 0, 3.0]), np.array([0, 0, 5.0]), label, "") == ""


@pytest.mark.browser
def test_the_page_in_a_browser(cars, run, tmp_path):
    """It opens without a network, draws, and turns."""
    playwright = pytest.importorskip("playwright.sync_api")
    run(cars)
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path="/usr/bin/chromium")
        page = browser.new_page(viewport=dict(width=1200, height=900))
        errors, asked = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        canvas = page.locator("#stage")
        before = canvas.screenshot()
        area = canvas.bounding_box()
        x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 150, y - 40, steps=4)
        page.mouse.up()
        turned = canvas.screenshot()
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(100)
        nearer = canvas.screenshot()
        page.locator("#only-odd").check()
        assert len({before, turned, nearer, canvas.screenshot()}) == 4
        page.locator("#only-odd").uncheck()
        place = page.evaluate("placed.at(-1).slice(1, 3)")
        page.mouse.move(area["x"] + place[0], area["y"] + place[1])
        assert "yaw" in page.locator("#tip").inner_text()
        browser.close()
    assert errors == [] and all(url.startswith(("file:", "data:")) for url in asked)


def test_the_proposed_command_moves_the_scene_where_it_belongs(rewrite, run, tmp_path):
    """Cars five times as large, high above the origin of a z-up world."""

    def move(files, labels):
        turn = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
        for label in labels.values():
            pose = np.array(label[:16]).reshape(4, 4)
            pose[:3, 3] = 5 * pose[:3, 3] + (0, 3, 0)
            label[:16] = (turn @ pose).ravel().tolist()

    run(rewrite(move), f"--json={tmp_path / 'a.json'}")
    proposal = json.loads((tmp_path / "a.json").read_text())["proposal"]
    words = shlex.split(proposal["prepare"])[3:]
    assert words[2:] == ["--auto-orient", "--recenter", "--radius=2"]
    words[1] = f"--dest={tmp_path / 'scaled.zip'}"
    assert CliRunner().invoke(cameras_command, words).exit_code == 0
    run(tmp_path / "scaled.zip", f"--json={tmp_path / 'b.json'}")
    found = json.loads((tmp_path / "b.json").read_text())["proposal"]
    assert found["prepare"] is None and found["notes"] == []
    assert found["box"] == pytest.approx(1.1, abs=0.08) and found["preset"] == "demo"
