"""Command line of the faces: python -m dataset_preprocessing.ffhq STEP."""

from pathlib import Path

import click

from dataset_preprocessing.cameras.deep3dface import MODES
from dataset_preprocessing.faces.alignment import OUTPUT_SIZE, TRANSFORM_SIZE
from dataset_preprocessing.faces.camera_files import (
    CAMERAS_FILE,
    labelled_step,
    poses_of_results,
    write_cameras,
)
from dataset_preprocessing.faces.commands import (
    CONTEXT,
    PATH,
    errors_as_lines,
    max_images_option,
    on_error_option,
    run_and_tell,
    workers_option,
)
from dataset_preprocessing.faces.mirror import mirror_step
from dataset_preprocessing.ffhq import inthewild as wild
from dataset_preprocessing.ffhq.download import download, validate
from dataset_preprocessing.ffhq.listing import KINDS, LIST_FILE, is_published, read_listing
from dataset_preprocessing.ffhq.pictures import (
    PARAMETERS_FILE,
    align_own_step,
    align_step,
    crop_step,
)
from dataset_preprocessing.ffhq.rebalance import ARCS, rebalance

_mode_option = click.option(
    "--mode",
    type=click.Choice(MODES),
    default="orig",
    show_default=True,
    help="Distance of cameras from the origin, or from a point within the head.",
)
_list_option = click.option(
    "--dataset-json", type=PATH, default=LIST_FILE, show_default=True, help="The list of files."
)
_start_option = click.option(
    "--start-index", type=click.IntRange(min=0), default=0, show_default=True
)


def _kind_options(function):
    """-w, -i and -t; none of them is -w."""
    helps = {"images": "Aligned pictures of 1024.", "thumbs": "Of 128.", "wilds": "As they were."}
    for kind, text in helps.items():
        function = click.option(f"-{kind[0]}", f"--{kind}", is_flag=True, help=text)(function)
    return function


def _listed(dataset_json: Path, start_index: int, chosen: dict[str, bool]) -> list:
    kinds = [kind for kind in KINDS if chosen[kind]] or ["wilds"]
    files = read_listing(dataset_json, kinds, start_index)
    if not is_published(dataset_json):
        click.echo(f"{dataset_json}: is not the published list (its MD5 differs)", err=True)
    return files


@click.group(context_settings=CONTEXT)
def main() -> None:
    """Faces, from FFHQ or from photographs, as posed datasets.

    docs/preprocessing.md has the whole way. Each step goes on where it was interrupted.
    """


@main.command("download")
@_list_option
@click.option("--dest", type=PATH, default=".", show_default=True, help="Folder for the files.")
@_kind_options
@click.option("-s", "--stats", is_flag=True, help="Only say how much there is to download.")
@click.option("--num-threads", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--num-attempts", type=click.IntRange(min=1), default=10, show_default=True)
@_start_option
@errors_as_lines
def download_command(
    dataset_json, dest, stats, num_threads, num_attempts, start_index, **chosen
) -> None:
    """Download the files of a list and check them."""
    files = _listed(dataset_json, start_index, chosen)
    size = sum(file.size for file in files)
    click.echo(f"{len(files)} files, {size / 2**30:.2f} GiB")
    if not stats:
        fetched = download(files, dest, num_threads, num_attempts)
        click.echo(f"{dest}: {fetched.new} downloaded, {fetched.there} were there")


@main.command("validate")
@_list_option
@click.option("--source", type=PATH, default=".", show_default=True, help="Folder of the files.")
@_kind_options
@click.option("--mode", type=click.Choice(["file", "pixel"]), default="file", show_default=True)
@_start_option
@errors_as_lines
def validate_command(dataset_json, source, mode, start_index, **chosen) -> None:
    """Compare files with their list; delete those that differ. Status 1 if any differ or lack."""
    good, problems = validate(_listed(dataset_json, start_index, chosen), source, mode)
    for problem in problems:
        click.echo(problem, err=True)
    click.echo(f"{source}: {good} files are right, {len(problems)} are not")
    if problems:
        raise click.exceptions.Exit(1)


@main.command("align")
@click.option("--source", type=PATH, default=".", show_default=True, help="Folder of pictures.")
@click.option("--dest", type=PATH, default="realign1500", show_default=True)
@_list_option
@click.option("--landmarks", type=PATH, help="Folder of NAME.txt with five landmarks, instead.")
@click.option("--output-size", type=click.IntRange(8, 8192), default=OUTPUT_SIZE, show_default=True)
@click.option(
    "--transform-size", type=click.IntRange(8, 16384), default=TRANSFORM_SIZE, show_default=True
)
@_start_option
@workers_option("--threads", default=12)
@on_error_option
@errors_as_lines
def align_command(
    source, dest, dataset_json, landmarks, output_size, transform_size, start_index, **options
) -> None:
    """Turn, scale and centre faces by their eyes and mouth."""
    sizes = (output_size, transform_size)
    if landmarks is None:
        files = [file for file in read_listing(dataset_json, ["wilds"], start_index)]
        step = align_step(files, source, *sizes)
    else:
        step = align_own_step(source, landmarks, *sizes)
    run_and_tell(step, dest, **options)


@main.command("crop")
@click.option("--indir", type=PATH, default="realign1500", show_default=True)
@click.option("--outdir", type=PATH, default="final_crops", show_default=True)
@click.option("--params", type=PATH, default=PARAMETERS_FILE, show_default=True)
@click.option("--compress-level", type=click.IntRange(0, 9), default=0, show_default=True)
@click.option("--mirror", is_flag=True, help="Mirror images, too, as the published data have.")
@workers_option()
@on_error_option
@errors_as_lines
def crop_command(indir, outdir, params, compress_level, mirror, **options) -> None:
    """Crop aligned faces as a file of parameters says."""
    step, unnamed = crop_step(indir, params, mirror, compress_level)
    for path in unnamed:
        click.echo(f"left out: {path}: {params} has no entry for it", err=True)
    run_and_tell(step, outdir, **options)


@main.command("mirror")
@click.option("--source", type=PATH, required=True)
@click.option("--dest", type=PATH, required=True)
@max_images_option
@workers_option()
@on_error_option
@errors_as_lines
def mirror_command(source, dest, max_images, **options) -> None:
    """Copy pictures and mirror each, with their labels if there is a dataset.json."""
    run_and_tell(mirror_step(source, max_images), dest, **options)


@main.command("poses")
@click.option("--in-root", type=PATH, required=True, help="Folder of Deep3DFaceRecon's .mat.")
@click.option("--out-path", type=PATH, default=CAMERAS_FILE, show_default=True)
@errors_as_lines
def poses_command(in_root, out_path) -> None:
    """Write the poses of Deep3DFaceRecon's results into a cameras.json."""
    poses, record = poses_of_results(in_root)
    write_cameras(out_path, poses, record)
    click.echo(f"{out_path}: {len(poses)} poses")


@main.command("label")
@click.option("--source", type=PATH, required=True, help="Folder of crops with a cameras.json.")
@click.option("--dest", type=PATH, required=True)
@click.option("--cameras", type=PATH, help="The cameras.json, if it is elsewhere.")
@max_images_option
@_mode_option
@workers_option()
@on_error_option
@errors_as_lines
def label_command(source, dest, cameras, max_images, mode, **options) -> None:
    """Copy crops, mirror each, and label both by a cameras.json."""
    run_and_tell(labelled_step(source, mode, max_images, cameras), dest, **options)


@main.command("rebalance")
@click.argument("inzip", type=PATH)
@click.argument("outzip", type=PATH)
@click.option("--table", type=PATH, help="num_replicas.json.  [default: copies by yaw]")
@click.option("--arcs", type=click.IntRange(1, 15), default=ARCS, help="Of yaw; odd.  [default: 9]")
@errors_as_lines
def rebalance_command(inzip, outzip, table, arcs) -> None:
    """Copy a dataset with several copies of pictures from the side."""
    if arcs % 2 == 0:
        raise click.UsageError(f"--arcs={arcs}: must be odd, so that one arc is in the middle")
    done = rebalance(inzip, outzip, table, arcs, verbose=True)
    published = "the published ones" if done.is_published else "not the published ones (by MD5)"
    click.echo(f"{outzip}: {done.after} pictures of {done.before}; labels are {published}")


@main.command("inthewild")
@click.option("--indir", type=PATH, required=True, help="Folder of photographs.")
@click.option("--dest", type=PATH, required=True, help="The dataset, a .zip or a folder.")
@click.option("--lm3d", type=PATH, default="similarity_Lm3D_all.mat", show_default=True)
@click.option(
    "--landmarks",
    type=click.Choice(["yunet", "mediapipe", "files"]),
    default="yunet",
    show_default=True,
    help="What finds faces; files: INDIR/detections/NAME.txt are there.",
)
@click.option("--landmark-model", type=PATH, help="Its model file.")
@click.option(
    "--pose",
    type=click.Choice(["deep3dface", "mediapipe"]),
    default="deep3dface",
    show_default=True,
    help="What estimates poses.",
)
@click.option("--results", type=PATH, help="Folder of Deep3DFaceRecon's .mat.")
@click.option("--pose-model", type=PATH, help="Model file of MediaPipe.")
@_mode_option
@workers_option()
@on_error_option
@errors_as_lines
def inthewild_command(workers, on_error, **options) -> None:
    """Make a dataset of photographs of faces."""
    job = wild.Wild(**options)
    count = wild.make_dataset(job, workers, on_error, True, lambda line: click.echo(line, err=True))
    click.echo(f"{job.dest}: {count} pictures")


if __name__ == "__main__":
    main()
