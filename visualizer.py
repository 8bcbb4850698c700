"""Turn a generated object in a browser, also when the model runs on another machine."""

import getpass
import socket
import time
import warnings
from pathlib import Path

import click

from dnnlib.util import EasyDict, set_offline
from eg3d.command_line import CONTEXT, one_line_errors
from eg3d.errors import InputError
from eg3d.files import make_folder

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(context_settings=CONTEXT)
@click.argument("networks", nargs=-1, metavar="[NETWORK]...")
@click.option("--network", metavar="PATH|URL", help="The same as the first NETWORK.")
@click.option(
    "--run", type=_FOLDER, metavar="RUNDIR", help="Follow a training: newest snapshot, curves."
)
@click.option("--browse-dir", type=_FOLDER, help="Offer the snapshots below this folder.")
@click.option(
    "--capture-dir", type=click.Path(path_type=Path), help="Also keep what is saved here."
)
@click.option("--session", type=click.Path(path_type=Path), help="Start with a saved session.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; 0.0.0.0 lets everybody in who can reach this machine.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option("--device", help="Such as cpu or cuda:1.  [default: a GPU if there is one]")
@click.option("--most-upload-mb", type=click.IntRange(min=1), default=1024, show_default=True)
@click.option("--offline", is_flag=True, help="Download nothing; use what was downloaded before.")
@one_line_errors
def main(**options):
    """Serve a page in which the objects of a model are turned, changed and taken home.

    A NETWORK is a snapshot (.pkl, .safetensors), a web address, or a run directory; others than the
    first are offered in the page.
    """
    opts = EasyDict(options)
    viewer = _start(opts)
    _say_where(opts.host, viewer.port)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        viewer.stop()


def _start(opts):
    """The running viewer. Raises InputError before there is a server."""
    try:
        from eg3d.viewer.app import Options, Viewer
    except ImportError as error:
        raise InputError(
            f'the viewer needs a package: pip install "viser>=1.1,<1.2" ({error})'
        ) from error
    from eg3d.viewer.state import ViewState
    from eg3d.viewer.studio import Studio

    # Of viser, when a page is closed while a frame is on its way.
    warnings.filterwarnings("ignore", "Queued a .* on a closed connection")
    if opts.offline:
        set_offline(True)
    state = ViewState()
    if opts.session is not None:
        state = _session(opts.session, ViewState)
    studio = Studio(opts.device)
    networks = tuple(filter(None, [opts.network, *opts.networks]))
    if networks and not opts.run:
        studio.model(networks[0], state.weights)  # What is wrong is said before there is a page.
    if opts.capture_dir is not None:
        make_folder(opts.capture_dir)
    return Viewer(
        Options(
            networks,
            opts.run,
            opts.browse_dir,
            opts.capture_dir,
            opts.host,
            opts.port,
            opts.most_upload_mb * 2**20,
            state,
        ),
        studio,
    )


def _session(path, kind):
    try:
        return kind.from_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a saved session (.json)") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _say_where(host, port):
    click.echo(f"\nOpen http://localhost:{port} in a browser.")
    click.echo("If this machine is elsewhere, run there where the browser is:\n")
    click.echo(f"    ssh -L {port}:localhost:{port} {getpass.getuser()}@{socket.gethostname()}\n")
    if host not in ("127.0.0.1", "localhost", "::1"):
        click.echo(
            f"Everybody who can reach {host}:{port} can use it, and open files of this user."
        )


if __name__ == "__main__":
    main()
