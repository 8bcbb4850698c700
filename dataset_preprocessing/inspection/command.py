"""Command line of the inspection: python dataset_tool.py inspect."""

import json

import click


@click.command()
@click.option("--source", required=True, metavar="PATH", help="Dataset: folder, .zip or shards.")
@click.option("--dest", required=True, metavar="HTML", help="The page to write, page.html.")
@click.option("--json", "summary_path", metavar="FILE", help="Also what was found, for programs.")
@click.option("--fix", metavar="PATH", help="Also a new dataset with what can be mended.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True)
def main(source, dest, summary_path, fix, workers):
    """Looks at a dataset: cameras in 3D, odd ones, duplicates, what to train with.

    The page opens without a network. docs/datasets.md says what is looked for and what --fix mends.
    """
    from dataset_preprocessing.conversion.archive import check_destination
    from dataset_preprocessing.inspection.fix import FixError, write_fixed
    from dataset_preprocessing.inspection.page import write_page
    from dataset_preprocessing.inspection.summary import assess, headline, summarise
    from dataset_preprocessing.inspection.survey import survey
    from dnnlib.util import replacing

    if not dest.lower().endswith((".html", ".htm")):
        raise click.UsageError(f"--dest={dest}: must end in .html")
    if summary_path is not None and not summary_path.lower().endswith(".json"):
        raise click.UsageError(f"--json={summary_path}: must end in .json")
    try:
        if fix is not None:
            check_destination(fix)
        found = survey(source, workers, verbose=True)
        geometry, proposal = assess(found)
        summary = summarise(found, geometry, proposal)
        write_page(dest, found, geometry, proposal)
        if summary_path is not None:
            with replacing(summary_path) as temporary:
                temporary.write_text(json.dumps(summary, indent=1))
        click.echo("\n".join(headline(summary)))
        click.echo(f"wrote {dest}")
        if fix is not None:
            kept, left_out = write_fixed(found, fix)
            click.echo(f"{fix}: {kept} pictures, {left_out} left out")
    except (FixError, OSError) as error:
        raise click.ClickException(str(error)) from None
