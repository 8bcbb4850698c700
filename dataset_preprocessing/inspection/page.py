"""The page: one HTML file that opens anywhere, without a network."""

import html
import json
from pathlib import Path

import numpy as np

from dataset_preprocessing.conversion.pictures import decode
from dataset_preprocessing.inspection.drawing import CORNERS, EDGES, histogram, overlay, picture
from dataset_preprocessing.inspection.geometry import Geometry, Proposal
from dataset_preprocessing.inspection.page_script import SCRIPT, STYLE
from dataset_preprocessing.inspection.summary import quantities, summarise
from dataset_preprocessing.inspection.survey import Survey
from dnnlib.util import replacing
from training.cameras import POSE_SIZE
from training.pose_angles import level_axes

_FRUSTA = 700  # drawn at most; odd ones always
_SAMPLES = 8
_SHOWN = 24  # pictures of one kind
_LISTED = 100  # lines of problems
_SIDE = 256


def write_page(
    path: str | Path, found: Survey, geometry: Geometry | None, proposal: Proposal | None
) -> None:
    """Writes the page, wholly or not at all."""
    text = page(found, geometry, proposal)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page(found: Survey, geometry: Geometry | None, proposal: Proposal | None) -> str:
    """The text of the page."""
    summary = summarise(found, geometry, proposal)
    parts = [_head(summary)]
    if geometry is not None:
        parts += [_stage(geometry), _samples(found, geometry, proposal), _proposal(proposal)]
    parts += [*_problems(summary), *_galleries(found, geometry)]
    if geometry is not None:
        cameras = json.dumps(_cameras(found, geometry, proposal)).replace("<", "\\u003c")
        parts.append(f'<script type="application/json" id="cameras">{cameras}</script>')
        parts.append(f"<script>{SCRIPT}</script>")
    title = html.escape(f"Cameras and pictures of {Path(found.path).name}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _head(summary: dict) -> str:
    size = summary["size"]
    sizes = f"{size[0]} × {size[1]} pixels" if size else "none can be decoded"
    counts = [
        ("pictures", summary["pictures"], False),
        ("cameras", summary["cameras"], summary["cameras"] < summary["pictures"]),
        *((words, len(summary[key]), len(summary[key]) > 0) for key, words in _COUNTED),
    ]
    cells = "".join(
        f'<div class="{"bad" if bad else ""}"><b>{count:,}</b>{words}</div>'
        for words, count, bad in counts
    )
    turned = ""
    if summary["opengl_axes"]:
        turned = (
            "<p>The cameras have the axes of OpenGL (y up, z backward) in place of OpenCV's. They "
            "are shown turned round, as <code>--fix</code> writes them.</p>"
        )
    name = html.escape(Path(summary["dataset"]).name)
    return (
        f'<h1>{name}</h1><div class="dim">{html.escape(summary["dataset"])} · {sizes}</div>'
        f'<div class="counts">{cells}</div>{turned}'
    )


_COUNTED = (
    ("problems", "with problems"),
    ("mended", "to mend"),
    ("odd_cameras", "odd cameras"),
    ("duplicates", "duplicates"),
    ("near_duplicates", "almost alike"),
    ("near_empty", "near-empty"),
)


def _stage(geometry: Geometry) -> str:
    drawings = "".join(histogram(name, values) for name, values in quantities(geometry).items())
    return (
        '<div class="columns"><div class="card stage"><canvas id="stage"></canvas>'
        '<div class="tools"><label><input type="checkbox" id="by-yaw" checked> colour by yaw'
        '</label><label><input type="checkbox" id="only-odd"> odd ones only</label></div>'
        '<div id="tip"></div></div>'
        f'<div class="card">{drawings}</div></div>'
        '<p class="dim">Drag to turn, scroll to come nearer, point at a camera for its name. The '
        "cube is the proposed box; red, green and blue are x, y and z; odd cameras are red.</p>"
    )


def _cameras(found: Survey, geometry: Geometry, proposal: Proposal) -> dict:
    """What the script draws."""
    numbers, angles = found.posed(), geometry.angles
    step = max(1, -(-len(numbers) // _FRUSTA))
    shown = [k for k in range(len(numbers)) if k % step == 0 or k in geometry.odd]
    up = np.array(angles.up)
    sideways, frontal = level_axes(up)
    frame = np.stack([up, sideways, frontal])
    corners = CORNERS * proposal.box / 2
    places = np.concatenate([geometry.labels[shown][:, [3, 7, 11]], corners]) @ frame.T
    low, high = np.quantile(places, (0.02, 0.98), axis=0)
    cameras = []
    for k in shown:
        pose = geometry.labels[k, :POSE_SIZE].reshape(4, 4)
        words = (
            f"yaw {angles.yaw[k]:.1f}°, pitch {angles.pitch[k]:.1f}°, roll {angles.roll[k]:.1f}°\n"
            f"radius {geometry.radius[k]:.3f}, focal {geometry.focal[k]:.3f}"
        )
        reasons = geometry.odd.get(k, [])
        cameras.append(
            dict(
                name=found.names[numbers[k]],
                pose=np.round(pose[:3, [3, 0, 1, 2]].T, 4).tolist(),
                focal=round(float(geometry.focal[k]), 4),
                yaw=round(float(angles.yaw[k]), 1),
                odd=bool(reasons),
                words="\n".join([words, *(f"odd: {reason}" for reason in reasons)]),
            )
        )
    return dict(
        frame=frame.tolist(),
        middle=((low + high) / 2).tolist(),
        extent=float((high - low).max()) / 2 or 1.0,
        radius=proposal.radius,
        side=proposal.box,
        box=[[corners[a].tolist(), corners[b].tolist()] for a, b in EDGES],
        cameras=cameras,
    )


def _samples(found: Survey, geometry: Geometry, proposal: Proposal) -> str:
    """Pictures from all sides, in the order of their yaw."""
    order = np.argsort(geometry.angles.yaw, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(_SAMPLES, len(order))).round().astype(int)]
    numbers = found.posed()
    pictures = "".join(
        _picture(
            found,
            numbers[k],
            overlay(geometry.labels[k], proposal.box),
            f"{geometry.angles.yaw[k]:.0f}°, {geometry.angles.pitch[k]:.0f}°",
        )
        for k in chosen
    )
    return (
        "<h2>The box and the axes in pictures</h2>"
        f'<div class="pictures">{pictures}</div>'
        '<p class="dim">Below each: yaw and pitch. Where cameras are right, the cube stays '
        "around the same thing in every picture, and the axes stick to it.</p>"
    )


def _proposal(proposal: Proposal) -> str:
    rows = [
        ("near, far", f"{proposal.near:g}, {proposal.far:g}", "ray_start, ray_end"),
        ("side of the box", f"{proposal.box:g}", "box_warp"),
        ("radius", f"{proposal.radius:g}", "avg_camera_radius"),
        ("pivot", ", ".join(f"{v:g}" for v in proposal.pivot), "avg_camera_pivot"),
        ("focal length", f"{proposal.focal:g}", "avg_camera_focal"),
        ("background", "white" if proposal.white_back else "any", "white_back"),
        ("nearest preset", proposal.preset, "--cfg"),
    ]
    cells = "".join(
        f'<tr><td>{name}</td><td>{value}</td><td class="dim">{key}</td></tr>'
        for name, value, key in rows
    )
    commands = [line for line in (proposal.prepare, proposal.command) if line]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in proposal.notes)
    return (
        f'<h2>Proposed</h2><div class="card"><table>{cells}</table>'
        f"<pre>{html.escape(chr(10).join(commands))}</pre>"
        + (f"<ul>{notes}</ul>" if notes else "")
        + "</div>"
    )


def _problems(summary: dict) -> list[str]:
    """Lists of what is wrong, by picture."""
    parts = []
    for key, title in (
        ("problems", "Problems"),
        ("mended", "Labels that --fix mends"),
        ("odd_cameras", "Odd cameras"),
    ):
        rows = list(summary[key].items())
        if not rows:
            continue
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape('; '.join(lines))}</td></tr>"
            for name, lines in rows[:_LISTED]
        )
        more = f'<p class="dim">and {len(rows) - _LISTED} more</p>' if len(rows) > _LISTED else ""
        parts.append(f'<h2>{title}</h2><div class="card"><table>{cells}</table>{more}</div>')
    return parts


def _galleries(found: Survey, geometry: Geometry | None) -> list[str]:
    """Pictures that look wrong."""
    pairs = [("Duplicates", found.exact), ("Near duplicates", found.near)]
    numbers = found.posed()
    singles = [("Near-empty pictures", [(number,) for number in found.empty])]
    if geometry is not None:
        singles.append(("Pictures of odd cameras", [(numbers[k],) for k in geometry.odd]))
    parts = []
    for title, groups in [*pairs, *singles]:
        if groups:
            shown = "".join(_picture(found, k) for group in groups[: _SHOWN // 2] for k in group)
            parts.append(f'<h2>{title}</h2><div class="pictures">{shown}</div>')
    return parts


def _picture(found: Survey, number: int, over: str = "", note: str = "") -> str:
    name = found.names[number]
    return picture(decode(found.source.read(number)), name, _SIDE, over, note or Path(name).name)
