"""From a folder of photographs of faces to a dataset, step by step in folders below it.

detections/  five landmarks of the largest face of each picture, NAME.txt
crop/        its crop of 512 x 512, NAME.png, and all poses, cameras.json
poses/       (MediaPipe) the pose of each crop, NAME.txt
labelled/    crops, mirror images, labels

Detections may also come from MTCNN, as for the published data: then the folder is used as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataset_preprocessing.conversion.convert import Recipe, convert
from dataset_preprocessing.faces.camera_files import (
    CAMERAS_FILE,
    Poses,
    labelled_step,
    poses_of_results,
    write_cameras,
)
from dataset_preprocessing.faces.crop import CropSettings
from dataset_preprocessing.faces.estimators import Face, main_face, open_estimator
from dataset_preprocessing.faces.landmarks import format_points, read_model
from dataset_preprocessing.faces.mediapipe_model import NUMBERS, model_points
from dataset_preprocessing.faces.pictures import pictures_in, read_rgb
from dataset_preprocessing.faces.poses import solve_pose
from dataset_preprocessing.faces.steps import (
    Job,
    PreprocessingError,
    Step,
    fingerprint,
    problems_error,
    provenance_of,
    run_step,
)
from dataset_preprocessing.ffhq.pictures import add_crop, crop_job, make_crop, pictures_with_points

_ORIENTATION = 0x0112  # of EXIF; 1 is upright


@dataclass(frozen=True)
class Wild:
    """What makes a dataset of photographs.

    Args:
        indir: folder of pictures.
        dest: the dataset, a .zip or folder.
        lm3d: similarity_Lm3D_all.mat, the model of the crop.
        landmarks: 'yunet', 'mediapipe', or 'files': `detections` are there.
        landmark_model: model file of the detector.
        pose: 'deep3dface' or 'mediapipe'.
        results: folder with Deep3DFaceRecon's results.
        pose_model: model file of MediaPipe.
        mode: as of `labelled_step`.
    """

    indir: Path
    dest: Path
    lm3d: Path
    landmarks: str = "yunet"
    landmark_model: Path | None = None
    pose: str = "deep3dface"
    results: Path | None = None
    pose_model: Path | None = None
    mode: str = "orig"


def make_dataset(
    wild: Wild,
    workers: int = 1,
    on_error: str = "stop",
    verbose: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Makes the steps that are not made yet, and the dataset; the number of its pictures.

    Pictures without a face are left out, always, and named. Raises PreprocessingError, also where
    another program has to be run first; ConversionError; OSError.
    """
    run = dict(workers=workers, verbose=verbose)
    if wild.dest.exists():
        raise PreprocessingError(f"{wild.dest}: is there already; remove it or name another one")
    _check(wild)
    detections = wild.indir / "detections"
    if wild.landmarks != "files":
        report = run_step(detection_step(wild), detections, on_error="skip", **run)
        for name, reason in report.left_out.items():
            say(f"left out: {Path(name).stem}: {reason}")
    step = wild_crop_step(wild.indir, detections, wild.lm3d)
    crop = wild.indir / "crop"
    _say_left_out(run_step(step, crop, on_error=on_error, **run).left_out, say)
    poses, record = _poses(wild, crop, on_error, run, say)
    write_cameras(crop / CAMERAS_FILE, poses, record)
    step = labelled_step(crop, wild.mode)
    folder = wild.indir / "labelled" if wild.dest.suffix.lower() == ".zip" else wild.dest
    made = run_step(step, folder, on_error=on_error, **run).made
    if folder != wild.dest:
        return convert(folder, wild.dest, Recipe(), workers=workers, verbose=verbose).written
    return len(made)


def detection_step(wild: Wild) -> Step:
    """The step that finds the largest face of each picture in a folder: its five landmarks.
    Raises PreprocessingError."""
    model = _model_path(wild.landmark_model, "--landmark-model", wild.landmarks)
    record = open_estimator(wild.landmarks, model).record()
    jobs = {
        f"{stem}.txt": _job(path, estimator=wild.landmarks, model_file=model)
        for stem, path in pictures_in(wild.indir).items()
    }
    return Step("detect", make_detection, jobs, provenance=dict(landmarks=record))


def wild_crop_step(source: Path, detections: Path, lm3d: Path) -> Step:
    """The step that crops pictures by their landmarks. Raises PreprocessingError."""
    model = read_model(lm3d)
    if not detections.is_dir():
        raise PreprocessingError(f"{detections}: no such folder; --landmarks=yunet makes it")
    jobs: dict[str, Job] = {}
    pairs, problems = pictures_with_points(source, detections)
    for stem, (path, points) in pairs.items():
        job = _job(path, compress_level=0, **crop_job(points, model, CropSettings()))
        add_crop(jobs, f"{stem}.png", job, mirror=False)
    provenance = provenance_of(detections) or dict(landmarks=dict(estimator="files"))
    provenance = dict(provenance, crop=fingerprint(lm3d))
    return Step("crop", make_crop, jobs, provenance=provenance, problems=problems)


def pose_step(crop: Path, pose_model: str, lm3d: Path) -> Step:
    """The step that estimates the poses of crops by MediaPipe. Raises PreprocessingError."""
    record = dict(
        open_estimator("mediapipe", pose_model).record(), solver="PnP, fixed focal length"
    )
    model = model_points(read_model(lm3d)).tolist()
    jobs = {
        f"{stem}.txt": _job(path, model_file=pose_model, points=model)
        for stem, path in pictures_in(crop).items()
    }
    return Step("pose", make_pose, jobs, provenance=dict(pose=record))


def make_detection(job: Job) -> bytes:
    """The landmarks of the main face in a picture. Raises PreprocessingError, PictureError."""
    return format_points(_main_face(job, job["estimator"])[0].points)


def make_pose(job: Job) -> bytes:
    """cam2world of a crop, 16 numbers. Raises PreprocessingError, PictureError."""
    face, size = _main_face(job, "mediapipe")
    pose = solve_pose(face.mesh[NUMBERS], np.array(job["points"]), size)
    return " ".join(map(repr, pose.ravel().tolist())).encode()


def _main_face(job: Job, estimator: str) -> tuple[Face, tuple[int, int]]:
    """The main face in the picture of a job, and the size of the picture."""
    pixels = read_rgb(Path(job["picture"]).read_bytes())
    faces = open_estimator(estimator, job["model_file"]).faces(pixels)
    return main_face(faces), (pixels.shape[1], pixels.shape[0])


def _poses(
    wild: Wild, crop: Path, on_error: str, run: dict[str, Any], say: Callable[[str], None]
) -> tuple[Poses, dict[str, Any]]:
    """Of all crops, and what to record of them."""
    stems = [path.stem for path in pictures_in(crop).values()]
    if wild.pose == "mediapipe":
        model = _model_path(wild.pose_model, "--pose-model", "mediapipe")
        step, folder = pose_step(crop, model, wild.lm3d), wild.indir / "poses"
        _say_left_out(run_step(step, folder, on_error=on_error, **run).left_out, say)
        files = sorted(folder.glob("*.txt"))
        poses = {f"{f.stem}.png": np.array(f.read_text().split(), float) for f in files}
        return {name: pose.reshape(4, 4) for name, pose in poses.items()}, step.provenance["pose"]
    if wild.results is None:
        raise PreprocessingError(
            f"{len(stems)} crops are in {crop}; now run Deep3DFaceRecon_pytorch, `python test.py "
            f"--img_folder={wild.indir} --gpu_ids=0 --name=pretrained --epoch=20`, and then this "
            "command again with --results=FOLDER of its .mat files"
        )
    poses, record = poses_of_results(wild.results)
    missing = [f"{wild.results}: has no {stem}.mat" for stem in stems if f"{stem}.png" not in poses]
    if missing and on_error == "stop":
        raise problems_error(missing, "no dataset is written; --on-error=skip leaves such out")
    for line in missing:
        say(f"left out: {line}")
    return {f"{stem}.png": poses[f"{stem}.png"] for stem in stems if f"{stem}.png" in poses}, record


def _check(wild: Wild) -> None:
    """All that is wrong before anything is made."""
    read_model(wild.lm3d)
    pictures = pictures_in(wild.indir)
    if wild.pose == "mediapipe":
        open_estimator("mediapipe", _model_path(wild.pose_model, "--pose-model", "mediapipe"))
        return
    turned = []
    for path in pictures.values():
        try:
            with Image.open(path) as picture:
                if picture.getexif().get(_ORIENTATION, 1) != 1:
                    turned.append(f"{path}: its EXIF entry says to turn it")
        except Exception:  # Pillow's plugins raise whatever they like; the steps name such files.
            continue
    if turned:
        raise problems_error(turned, "Deep3DFaceRecon sees pictures as they are stored; turn them")


def _model_path(path: Path | None, option: str, kind: str) -> str:
    if path is None:
        raise PreprocessingError(f"{option}: name the model file of {kind}")
    return str(path)


def _job(path: Path, **values: Any) -> Job:
    return dict(picture=str(path), size=path.stat().st_size, **values)


def _say_left_out(left_out: dict[str, str], say: Callable[[str], None]) -> None:
    for name, reason in left_out.items():
        say(f"left out: {name}: {reason}")
