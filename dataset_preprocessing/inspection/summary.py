"""What an inspection found, as plain values for programs."""

from dataclasses import asdict, replace

import numpy as np

from dataset_preprocessing.inspection.geometry import Geometry, Proposal, measure, propose
from dataset_preprocessing.inspection.survey import Survey

_WHITE = 250  # of 255
_MOST = 0.9  # share of pictures that must have a background for all to count as having one


def assess(found: Survey) -> tuple[Geometry | None, Proposal | None]:
    """The cameras and what they need; (None, None) without any."""
    numbers = found.posed()
    if not numbers:
        return None, None
    looks = [found.looks[number] for number in numbers]
    geometry = measure(np.stack([found.labels[number] for number in numbers]))
    plain = np.mean([look.uniform for look in looks]) >= _MOST
    white = plain and np.mean([(look.border >= _WHITE).all() for look in looks]) >= _MOST
    extents = [look.extent or (0.5, 0.5, 0.5, 0.5) for look in looks] if plain else None
    proposal = propose(geometry, found.path, extents, bool(white))
    return geometry, replace(proposal, notes=[*proposal.notes, *_unfit_pictures(found)])


def _unfit_pictures(found: Survey) -> list[str]:
    """What training does not take, and dataset_tool.py makes good."""
    width, height = found.usual_size
    notes = []
    if width != height or width & (width - 1) or not 32 <= width <= 1024:
        notes.append(
            f"Pictures are {width} x {height} pixels, must be squares of 32 to 1024, a power of "
            "two: dataset_tool.py --transform=center-crop --resolution=WxH makes them so."
        )
    if np.mean([look.grey for look in found.looks.values()]) > 0.5:
        notes.append("Pictures are grey, must be RGB: dataset_tool.py --colour=rgb makes them so.")
    return notes


def summarise(found: Survey, geometry: Geometry | None, proposal: Proposal | None) -> dict:
    """Everything but the pictures. Pictures are named; angles are in degrees."""
    names = found.names
    odd = {}
    if geometry is not None:
        odd = {names[found.posed()[k]]: reasons for k, reasons in geometry.odd.items()}
    return dict(
        dataset=found.path,
        pictures=len(names),
        size=list(found.usual_size) if found.looks else None,
        cameras=len(found.labels),
        problems={names[number]: lines for number, lines in sorted(found.problems.items())},
        mended={names[number]: lines for number, lines in found.mends.items()},
        opengl_axes=found.opengl,
        odd_cameras=odd,
        duplicates=[[names[one], names[other]] for one, other in found.exact],
        near_duplicates=[[names[one], names[other]] for one, other in found.near],
        near_empty=[names[number] for number in found.empty],
        statistics={} if geometry is None else statistics(geometry),
        proposal=None if proposal is None else asdict(proposal),
    )


def quantities(geometry: Geometry) -> dict[str, np.ndarray]:
    """What histograms are drawn of, by name with unit."""
    angles = geometry.angles
    named = dict(yaw=angles.yaw, pitch=angles.pitch, roll=angles.roll)
    return named | dict(radius=geometry.radius, focal=geometry.focal)


def statistics(geometry: Geometry) -> dict[str, dict[str, float]]:
    """Minimum, mean, median, maximum and standard deviation of each quantity."""
    measures = dict(
        minimum=np.min, mean=np.mean, median=np.median, maximum=np.max, deviation=np.std
    )
    return {
        name: {key: float(f"{measure(values):.6g}") for key, measure in measures.items()}
        for name, values in quantities(geometry).items()
    }


def headline(summary: dict) -> list[str]:
    """The summary in a few lines, for a terminal."""
    counts = [
        (len(summary["problems"]), "with problems"),
        (len(summary["mended"]), "with labels that --fix mends"),
        (len(summary["odd_cameras"]), "with odd cameras"),
        (len(summary["duplicates"]), "twice"),
        (len(summary["near_duplicates"]), "almost twice"),
        (len(summary["near_empty"]), "near-empty"),
    ]
    found = ", ".join(f"{count} {words}" for count, words in counts if count) or "nothing odd"
    lines = [f"{summary['dataset']}: {summary['pictures']} pictures: {found}"]
    if summary["opengl_axes"]:
        lines.append("The cameras have the axes of OpenGL (y up, z backward); --fix turns them")
    proposal = summary["proposal"]
    if proposal is not None:
        keys = ("near", "far", "box", "radius", "pivot")
        lines.append(", ".join(f"{key} {proposal[key]}" for key in keys))
        lines += [*proposal["notes"], *filter(None, [proposal["prepare"]]), proposal["command"]]
    return lines
