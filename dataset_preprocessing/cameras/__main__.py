"""Command line of the cameras: python -m dataset_preprocessing.cameras."""

import click

from dataset_preprocessing.cameras.deep3dface import MODES
from dataset_preprocessing.cameras.formats import FORMATS, WRITERS, convert_cameras
from dataset_preprocessing.cameras.posed import CameraError

_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command()
@click.option(
    "--source",
    required=True,
    metavar="PATH",
    help="transforms.json or its folder; COLMAP project or model; SRN object or folder of them; "
    "folder of Deep3DFaceRecon's .mat; dataset; EpiGRAF's dataset.",
)
@click.option("--dest", required=True, metavar="PATH", help="Folder or .zip, not there yet.")
@click.option(
    "--format",
    type=click.Choice(["auto", *FORMATS]),
    default="auto",
    show_default=True,
    help="What the cameras are.",
)
@click.option(
    "--export",
    type=click.Choice(list(WRITERS)),
    default="labels",
    show_default=True,
    help="What to write; labels are for dataset_tool.py.",
)
@click.option("--images", metavar="FOLDER", help="The pictures, if they are somewhere else.")
@click.option("--auto-orient", is_flag=True, help="Turn the scene so that up is +y.")
@click.option("--recenter", is_flag=True, help="Shift what the cameras look at to the origin.")
@click.option("--radius", type=_POSITIVE, help="Scale the scene to this distance of cameras.")
@click.option("--box", type=_POSITIVE, help="Scale its points into a cube of this side.")
@click.option("--mode", type=click.Choice(MODES), help="Centre of faces' cameras.")
@click.option(
    "--fov",
    type=click.FloatRange(0, 180, min_open=True, max_open=True),
    help="Field of view of EpiGRAF's cameras, in degrees.",
)
@click.option("--negate-yaw", is_flag=True, help="EpiGRAF's angles are those of Blender.")
@click.option("--approximate", is_flag=True, help="Export EpiGRAF's nearest cameras.")
@click.option("--ignore-distortion", is_flag=True, help="Take lenses for undistorted.")
def main(source, dest, **options):
    """Makes a dataset of pictures with cameras of another program, or the reverse.

    docs/datasets.md describes the formats. Pictures are copied as they are: dataset_tool.py crops
    and resizes them.
    """
    if options["radius"] is not None and options["box"] is not None:
        raise click.UsageError("--radius and --box: choose one, both scale the scene")
    try:
        report = convert_cameras(source, dest, **options)
    except (CameraError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{dest}: {report.pictures} pictures with cameras of {report.format}")


if __name__ == "__main__":
    main()
