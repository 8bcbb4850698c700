"""`python -m eg3d`: looks at files of networks and this machine, converts, inverts pictures."""

from pathlib import Path

import click

from dnnlib.util import set_offline
from eg3d.command_line import one_line_errors
from eg3d.invert_command import main as invert


@click.group()
@click.option("--offline", is_flag=True, help="Download nothing; use what was downloaded before.")
def main(offline: bool) -> None:
    """Looks at files of networks and this machine, converts, inverts pictures."""
    if offline:
        set_offline(True)


@main.command()
@click.argument("file", metavar="FILE|URL")
@one_line_errors
def info(file: str) -> None:
    """Prints what FILE holds, without building it."""
    from eg3d.info import describe
    from eg3d.loading import read

    click.echo(describe(read(file)))


@main.command()
@click.argument("source", metavar="A")
@click.argument("dest", metavar="B", type=click.Path(path_type=Path, dir_okay=False))
@one_line_errors
def convert(source: str, dest: Path) -> None:
    """Converts A (path or web address) to B: .pkl to .safetensors, or back, bit for bit."""
    from eg3d.loading import read
    from training.network_files import write_networks

    content = read(source)
    write_networks(dest, content)
    click.echo(f"{dest}: {', '.join(content.records)}")


@main.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Prints versions, devices and times of operators; exit status 1 if something does not work."""
    from eg3d.doctor import Finding, examine

    found = 0
    for line in examine():
        wrong = isinstance(line, Finding)
        found += wrong
        click.echo(f"PROBLEM {line.strip()}" if wrong else line)
    click.echo(f"{found} problems" if found else "all is well")
    ctx.exit(1 if found else 0)


main.add_command(invert)

if __name__ == "__main__":
    main(prog_name="python -m eg3d")
