"""Alignment and crops as commands: the right files, checked first, the same after interruptions."""

import json

import numpy as np
import pytest
from PIL import Image

from dataset_preprocessing.faces.alignment import align_face
from dataset_preprocessing.faces.crop import CropSettings, crop_face
from dataset_preprocessing.faces.landmarks import format_points
from dataset_preprocessing.ffhq import pictures
from tests.dataset_preprocessing.faces.heads import MODEL
from tests.dataset_preprocessing.ffhq.conftest import COUNT, face

SIZES = ("--output-size=60", "--transform-size=128", "--threads=1")


def read(path):
    with Image.open(path) as picture:
        return np.array(picture)


def align(ffhq, *options):
    listing = f"--dataset_json={ffhq / 'ffhq-dataset-v2.json'}"
    return ["align", f"--source={ffhq}", f"--dest={ffhq / 'aligned'}", listing, *SIZES, *options]


def test_align(ffhq, run):
    output = run(*align(ffhq))
    assert f"{ffhq / 'aligned'}: 3 files" in output
    for number in range(COUNT):
        pixels, points, _ = face(number)
        found = read(ffhq / "aligned" / f"{number:05d}.png")
        assert np.array_equal(found, align_face(pixels, points, 60, 128))
    assert "3 files, which were there" in run(*align(ffhq))


def test_align_by_five_landmarks(ffhq, run):
    (ffhq / "points").mkdir()
    for number in range(COUNT):
        text = format_points(face(number)[1])
        (ffhq / "points" / f"{number:05d}.txt").write_bytes(text)
    wilds = f"--source={ffhq / 'in-the-wild-images/00000'}"
    run("align", wilds, f"--dest={ffhq / 'own'}", f"--landmarks={ffhq / 'points'}", *SIZES)
    run(*align(ffhq))
    for number in range(COUNT):
        name = f"{number:05d}.png"
        same = read(ffhq / "own" / name).astype(int) - read(ffhq / "aligned" / name)
        assert np.abs(same).max() <= 1  # text has four digits


def test_align_from_a_number_on(ffhq, run):
    run(*align(ffhq, "--start-index=2"))
    assert [path.name for path in (ffhq / "aligned").glob("*.png")] == ["00002.png"]


def test_align_says_all_that_is_missing(ffhq, refused):
    content = json.loads((ffhq / "ffhq-dataset-v2.json").read_text())
    del content["0"]["in_the_wild"]["face_landmarks"]
    (ffhq / "ffhq-dataset-v2.json").write_text(json.dumps(content))
    (ffhq / "in-the-wild-images/00000/00002.png").unlink()
    message = refused(*align(ffhq))
    assert "2 problems" in message and "no landmarks of it" in message
    assert "00002.png: no such file" in message and not (ffhq / "aligned").exists()


def test_align_without_what_is_missing(ffhq, run):
    (ffhq / "in-the-wild-images/00000/00002.png").unlink()
    assert "00002.png: no such file" in run(*align(ffhq, "--on-error=skip"))
    assert len(list((ffhq / "aligned").glob("*.png"))) == 2


def test_align_broken_picture(ffhq, run, refused):
    (ffhq / "in-the-wild-images/00000/00001.png").write_bytes(b"not a picture")
    message = refused(*align(ffhq))
    assert "1 problem, nothing is written" in message and "00001.png: cannot be decoded" in message
    assert not (ffhq / "aligned").exists()
    assert "left out: 00001.png" in run(*align(ffhq, "--on-error=skip"))
    assert len(list((ffhq / "aligned").glob("*.png"))) == 2


def test_interrupted_alignment(ffhq, run, monkeypatch):
    """The second run makes what the first had not, and the bytes are those of one run."""
    made = []

    def counted(*arguments):
        if len(made) == 1:
            made.append("stopped")
            raise KeyboardInterrupt
        made.append("made")
        return align_face(*arguments)

    monkeypatch.setattr(pictures, "align_face", counted)
    with pytest.raises(AssertionError):
        run(*align(ffhq))
    assert not (ffhq / "aligned").exists()
    run(*align(ffhq))
    assert made == ["made", "stopped", "made", "made"]
    whole = ffhq / "whole"
    run(*align(ffhq, f"--dest={whole}"))
    for path in whole.iterdir():
        assert path.read_bytes() == (ffhq / "aligned" / path.name).read_bytes()


@pytest.fixture
def parameters(ffhq):
    """cropping_params.json of the pictures as they are."""
    entry = dict(lm3d_std=MODEL.tolist(), rescale_factor=280, center_crop_size=600, output_size=96)
    content = {f"{n:05d}.png": dict(entry, lm=face(n)[1].tolist()) for n in range(COUNT)}
    path = ffhq / "cropping_params.json"
    path.write_text(json.dumps(content))
    return path


def crop(ffhq, *options):
    folder = ffhq / "in-the-wild-images"  # with folders below, as the published layout has them
    params = f"--params={ffhq / 'cropping_params.json'}"
    return ["crop", f"--indir={folder}", f"--outdir={ffhq / 'crops'}", params, *options]


def test_crop(ffhq, parameters, run):
    run(*crop(ffhq, "--mirror"))
    for number in range(COUNT):
        pixels, points, _ = face(number)
        wanted = crop_face(pixels, points, MODEL, CropSettings(280, 600, 96))
        assert np.array_equal(read(ffhq / "crops" / f"{number:05d}.png"), wanted)
        mirrored = read(ffhq / "crops" / f"{number:05d}_mirror.png")
        assert np.array_equal(mirrored, wanted[:, ::-1])


def test_crop_alone(ffhq, parameters, run):
    run(*crop(ffhq))
    assert len(list((ffhq / "crops").glob("*.png"))) == COUNT


def test_compress_level(ffhq, parameters, run):
    run(*crop(ffhq))
    run(*crop(ffhq, "--compress_level=9", f"--outdir={ffhq / 'small'}"))
    plain, small = (ffhq / folder / "00000.png" for folder in ("crops", "small"))
    assert small.stat().st_size < plain.stat().st_size > 96 * 96 * 3
    assert np.array_equal(read(plain), read(small))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(lm=[[1, 2]]), "lm must be 5 x 2 numbers"),
        (dict(lm3d_std=[[1, 2, float("nan")]] * 5), "lm3d_std must be 5 x 3 numbers"),
        (dict(rescale_factor=-1), "rescale_factor, center_crop_size and output_size must be above"),
        (dict(output_size=0), "rescale_factor, center_crop_size and output_size must be above"),
        (dict(center_crop_size="x"), "invalid literal"),
    ],
)
def test_broken_parameters(change, message, ffhq, parameters, refused):
    content = json.loads(parameters.read_text())
    content["00001.png"] |= change
    del content["00002.png"]["rescale_factor"]
    parameters.write_text(json.dumps(content))
    found = refused(*crop(ffhq))
    assert "2 problems" in found and f"00001.png: {message}" in found
    assert "00002.png: has no 'rescale_factor'" in found and not (ffhq / "crops").exists()


def test_pictures_without_parameters(ffhq, parameters, run, refused):
    """The published file does not name all pictures: those are not of the published data."""
    content = json.loads(parameters.read_text())
    del content["00001.png"]
    parameters.write_text(json.dumps(content))
    output = run(*crop(ffhq))
    assert "00001.png: " in output and output.count("has no entry for it") == 1
    assert sorted(p.name for p in (ffhq / "crops").glob("*.png")) == ["00000.png", "00002.png"]
    parameters.write_text(json.dumps({"x.png": content["00000.png"]}))
    assert "names none of the pictures" in refused(*crop(ffhq, f"--outdir={ffhq / 'b'}"))
    parameters.unlink()
    assert "cropping_params.json: no such file; it is" in refused(*crop(ffhq))


def test_mirror_and_poses_and_label(ffhq, parameters, run, refused):
    """The commands reach the functions that are tested elsewhere."""
    run(*crop(ffhq))
    run("mirror", f"--source={ffhq / 'crops'}", f"--dest={ffhq / 'mirrored'}", "--max_images=2")
    assert len(list((ffhq / "mirrored").glob("*_mirror.png"))) == 2
    assert "no .mat files" in refused("poses", f"--in_root={ffhq}", f"--out_path={ffhq / 'c.json'}")
    assert "cameras.json: no such file" in refused(
        "label", f"--source={ffhq / 'crops'}", f"--dest={ffhq / 'labelled'}"
    )
