"""Draws docs/figures/cameras.png: `python docs/figures/make_cameras.py` (needs matplotlib)."""

import math
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from eg3d.cameras import FOV_to_intrinsics, orbit  # noqa: E402
from training.cameras import Y_UP, Z_UP, look_at, orbit_position  # noqa: E402

RED, GREEN, BLUE, GREY = "#c0392b", "#27864a", "#2458a8", "#888888"


def show(vectors):
    """World (x, y, z) -> the plot's axes, so that +y of the world is drawn upwards."""
    x, y, z = np.moveaxis(np.asarray(vectors, dtype=float), -1, 0)
    return z, x, y


def arrow(axes, start, vector, color, text):
    """A labelled vector of world coordinates."""
    axes.quiver(*show(start), *show(vector), color=color, linewidth=1.8, arrow_length_ratio=0.18)
    tip = np.asarray(start) + 1.2 * np.asarray(vector)
    axes.text(*show(tip), text, color=color, fontsize=9, ha="center")


def draw_camera(axes, pose, size=0.5, names=True):
    """The three axes of a camera and the pyramid it sees."""
    pose = pose.numpy()
    centre, (right, down, forward) = pose[:3, 3], pose[:3, :3].T
    if names:
        arrow(axes, centre, size * right, RED, "x right")
        arrow(axes, centre, size * down, GREEN, "y down")
        arrow(axes, centre, size * forward, BLUE, "z forward")
    corners = [
        centre + size * (0.35 * (a * right + b * down) + 0.8 * forward)
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
    ]
    axes.plot(*show(corners), color=GREY, linewidth=0.8)
    for corner in corners[:4]:
        axes.plot(*show([centre, corner]), color=GREY, linewidth=0.8)


def draw_box(axes, side=1.0):
    """The cube that the planes cover."""
    half = side / 2
    for axis in range(3):
        for a in (-half, half):
            for b in (-half, half):
                ends = np.full((2, 3), 0.0)
                ends[:, axis] = (-half, half)
                ends[:, (axis + 1) % 3], ends[:, (axis + 2) % 3] = a, b
                axes.plot(*show(ends), color="#c9a227", linewidth=0.9)


def finish(axes, title, reach, towards_viewer=0.0):
    """Title and limits of a 3-D panel."""
    axes.set_title(title, fontsize=10)
    axes.set_box_aspect((1, 1, 1), zoom=1.55)
    (
        axes.set_xlim(towards_viewer - reach, towards_viewer + reach),
        axes.set_ylim(-reach, reach),
        axes.set_zlim(-reach, reach),
    )
    axes.set_axis_off()


def world_panel(axes):
    """The world of faces with its frontal camera."""
    for vector, color, name in zip(
        np.eye(3), (RED, GREEN, BLUE), ("+x", "+y up", "+z"), strict=True
    ):
        arrow(axes, np.zeros(3), 0.8 * vector, color, name)
    draw_box(axes)
    front = look_at(torch.tensor([[0.0, 0.0, 2.6]]), (0.0, 0.0, 0.0), Y_UP)[0]
    draw_camera(axes, front, 0.75)
    axes.view_init(elev=22, azim=62)
    finish(axes, "world of faces (y-up), frontal camera", 1.55, 1.05)


def pixel_panel(axes, resolution=4):
    """Image coordinates and the order of rays."""
    for k in range(resolution + 1):
        axes.plot([0, 1], [k / resolution] * 2, color=GREY, linewidth=0.8)
        axes.plot([k / resolution] * 2, [0, 1], color=GREY, linewidth=0.8)
    for row in range(resolution):
        for column in range(resolution):
            x, y = (column + 0.5) / resolution, (row + 0.5) / resolution
            axes.text(x, y, str(row * resolution + column), ha="center", va="center", fontsize=9)
    axes.plot(0.5, 0.5, "x", color=RED)
    axes.annotate("(cx, cy)", (0.5, 0.5), (0.51, 0.44), color=RED, fontsize=9)
    axes.set_xlim(-0.03, 1.03), axes.set_ylim(1.03, -0.03), axes.set_aspect("equal")
    axes.set_xticks([0, 0.5, 1]), axes.set_yticks([0, 0.5, 1])
    axes.set_xlabel("x, to the right"), axes.set_ylabel("y, downwards")
    axes.set_title("image spans [0, 1]²; ray index", fontsize=10)


def angle_panel(axes):
    """The parameter v against the polar angle."""
    v = torch.linspace(0, math.pi, 200)
    height = orbit_position(torch.full_like(v, math.pi / 2), v)[:, 1]
    axes.plot(v, torch.arccos(height), color=BLUE, label="φ of the camera")
    axes.plot(v, v, "--", color=GREY, label="if v were φ")
    axes.set_xticks([0, math.pi / 2, math.pi], ["0", "π/2", "π"])
    axes.set_yticks([0, math.pi / 2, math.pi], ["0 (top)", "π/2", "π"])
    axes.set_xlabel("v"), axes.legend(fontsize=8)
    axes.set_title("v is not the polar angle φ", fontsize=10)


def orbit_panel(axes):
    """A loop around an object of a z-up world."""
    cameras = orbit(10, 1.6, FOV_to_intrinsics(45), elevation=0.35, up=Z_UP)
    for pose in cameras.cam2world:
        draw_camera(axes, pose, 0.35, names=False)
    arrow(axes, np.zeros(3), np.array([0, 0, 0.9]), BLUE, "+z up")
    arrow(axes, np.zeros(3), np.array([0.9, 0, 0]), RED, "+x")
    arrow(axes, np.zeros(3), np.array([0, 0.9, 0]), GREEN, "+y")
    ring = cameras.cam2world[:, :3, 3].numpy()
    axes.plot(*show(np.concatenate([ring, ring[:1]])), color=GREY, linewidth=0.6)
    axes.view_init(elev=20, azim=-60, roll=0, vertical_axis="x")
    finish(axes, "z-up world (cars): orbit(10, up=Z_UP)", 1.5)


def main():
    """Write the figure."""
    figure = plt.figure(figsize=(11, 8.6))
    world_panel(figure.add_subplot(2, 2, 1, projection="3d"))
    pixel_panel(figure.add_subplot(2, 2, 2))
    orbit_panel(figure.add_subplot(2, 2, 3, projection="3d"))
    angle_panel(figure.add_subplot(2, 2, 4))
    figure.tight_layout()
    figure.savefig(HERE / "cameras.png", dpi=80)


if __name__ == "__main__":
    main()
