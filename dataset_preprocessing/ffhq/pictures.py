"""The two steps that make FFHQ's crops: aligned pictures of 1500, then crops of 512."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dataset_preprocessing.faces import landmarks
from dataset_preprocessing.faces.alignment import OUTPUT_SIZE, TRANSFORM_SIZE, align_face
from dataset_preprocessing.faces.crop import CropSettings, crop_face
from dataset_preprocessing.faces.pictures import mirror_name, pictures_in, read_rgb, to_png
from dataset_preprocessing.faces.steps import (
    Job,
    PreprocessingError,
    Step,
    problems_error,
    provenance_of,
)
from dataset_preprocessing.faces.values import numbers, parse_object
from dataset_preprocessing.ffhq.listing import File

PARAMETERS_FILE = "cropping_params.json"


def align_step(
    files: list[File],
    source: str | Path,
    output_size: int = OUTPUT_SIZE,
    transform_size: int = TRANSFORM_SIZE,
) -> Step:
    """The step that aligns listed pictures in a folder by their 68 landmarks, as NUMBER.png."""
    jobs: dict[str, Job] = {}
    problems = {}
    for file in files:
        path = Path(source) / file.path
        if not path.is_file():
            problems[str(path)] = "no such file"
        elif file.landmarks is None:
            problems[str(path)] = "the list has no landmarks of it"
        else:
            points = landmarks.five_of_68(np.array(file.landmarks))
            jobs[f"{file.number:05d}.png"] = _align_job(path, points, output_size, transform_size)
    settings = dict(output=output_size, transform=transform_size)
    return Step("align", make_aligned, jobs, settings, problems=problems)


def align_own_step(
    source: str | Path,
    points: str | Path,
    output_size: int = OUTPUT_SIZE,
    transform_size: int = TRANSFORM_SIZE,
) -> Step:
    """The step that aligns the pictures in a folder by five landmarks each, in files NAME.txt of
    another. Raises PreprocessingError."""
    pairs, problems = pictures_with_points(source, points)
    jobs = {
        f"{stem}.png": _align_job(path, found, output_size, transform_size)
        for stem, (path, found) in pairs.items()
    }
    settings = dict(output=output_size, transform=transform_size)
    return Step("align", make_aligned, jobs, settings, provenance_of(points), problems=problems)


def pictures_with_points(
    source: str | Path, points: str | Path
) -> tuple[dict[str, tuple[Path, np.ndarray]], dict[str, str]]:
    """{stem: (picture, landmarks [5, 2])} of the pictures of which there are landmarks; and the
    files of landmarks that are broken or have no picture, with the reasons. Raises
    PreprocessingError."""
    pictures = pictures_in(source)
    found, problems = {}, {}
    for path in sorted(Path(points).glob("*.txt")):
        if path.stem not in pictures:
            problems[str(path)] = f"there is no picture {path.stem} in {source}"
            continue
        try:
            found[path.stem] = (pictures[path.stem], landmarks.read_points(path))
        except PreprocessingError as error:
            problems[str(path)] = str(error)
    if not found and not problems:
        raise PreprocessingError(
            f"{points}: has no landmarks, files NAME.txt with five lines 'x y'"
        )
    return found, problems


def crop_step(
    source: str | Path,
    parameters: str | Path,
    mirror: bool = False,
    compress_level: int = 0,
) -> tuple[Step, list[Path]]:
    """The step that crops aligned pictures, in a folder or below, as `cropping_params.json` says;
    with `mirror`, their mirror images beside them. And the pictures that the file does not name,
    which the published data do without.

    Raises PreprocessingError with all parameters that are wrong, or if they are of other pictures.
    """
    by_stem = read_parameters(parameters)
    jobs: dict[str, Job] = {}
    unnamed = []
    for stem, path in pictures_in(source, below=True).items():
        if stem not in by_stem:
            unnamed.append(path)
            continue
        job = dict(picture=str(path), size=path.stat().st_size, **by_stem[stem])
        job = dict(job, compress_level=compress_level)
        add_crop(jobs, f"{stem}.png", job, mirror)
    if not jobs:
        raise PreprocessingError(f"{parameters}: names none of the pictures in {source}")
    return Step("crop", make_crop, jobs, dict(mirror=mirror), provenance_of(source)), unnamed


def add_crop(jobs: dict[str, Job], name: str, job: Job, mirror: bool) -> None:
    """Adds the job of a crop; with `mirror`, also that of its mirror image."""
    jobs[name] = dict(job, mirror=False)
    if mirror:
        jobs[mirror_name(name)] = dict(job, mirror=True)


def crop_job(points: np.ndarray, model: np.ndarray, settings: CropSettings) -> dict[str, Any]:
    """The parameters of a crop, as plain values."""
    return dict(points=points.tolist(), model=model.tolist(), **asdict(settings))


def read_parameters(path: str | Path) -> dict[str, dict[str, Any]]:
    """`crop_job`s by the stem of the picture, from {name: {lm, lm3d_std, rescale_factor,
    center_crop_size, output_size}}. Raises PreprocessingError with all entries that are wrong."""
    path = Path(path)
    if not path.is_file():
        raise PreprocessingError(
            f"{path}: no such file; it is {PARAMETERS_FILE}, which the EG3D authors host for FFHQ; "
            "get it and name it with --params"
        )
    found, problems = {}, []
    form = "{name: {lm, lm3d_std, rescale_factor, center_crop_size, output_size}, ...}"
    for name, entry in parse_object(path.read_bytes(), path, form).items():
        try:
            points = numbers("lm", entry["lm"], landmarks.COUNT, 2)
            model = numbers("lm3d_std", entry["lm3d_std"], landmarks.COUNT, 3)
            found[Path(name).stem] = crop_job(points, model, _settings(entry))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else error
            problems.append(f"{path}: {name}: {reason}")
    if problems:
        raise problems_error(problems)
    return found


def make_aligned(job: Job) -> bytes:
    """The aligned picture of a job. Raises PreprocessingError, PictureError, OSError."""
    pixels = read_rgb(Path(job["picture"]).read_bytes())
    points = np.array(job["points"])
    return to_png(align_face(pixels, points, job["output"], job["transform"]))


def make_crop(job: Job) -> bytes:
    """The crop of a job, or its mirror image. Raises PreprocessingError, PictureError, OSError."""
    pixels = read_rgb(Path(job["picture"]).read_bytes())
    sizes = (job["rescale_factor"], job["center_crop_size"], job["output_size"])
    crop = crop_face(pixels, np.array(job["points"]), np.array(job["model"]), CropSettings(*sizes))
    if job["mirror"]:
        crop = np.ascontiguousarray(crop[:, ::-1])
    return to_png(crop, job["compress_level"])


def _align_job(path: Path, points: np.ndarray, output: int, transform: int) -> Job:
    job = dict(picture=str(path), size=path.stat().st_size, points=points.tolist())
    return dict(job, output=output, transform=transform)


def _settings(entry: dict[str, Any]) -> CropSettings:
    sizes = (float(entry["rescale_factor"]), *(int(entry[k]) for k in _SIZES))
    if not all(0 < size < 1 << 14 for size in sizes):
        raise ValueError(f"rescale_factor, {' and '.join(_SIZES)} must be above 0, not {sizes}")
    return CropSettings(*sizes)


_SIZES = ("center_crop_size", "output_size")
