"""Draws the figures of docs/gallery.md from a snapshot, and the meshes in them.

python -m docs.figures.make_gallery --network=runs/00000-demo-cars-… [--outdir=docs/figures]
"""

from pathlib import Path

import click
import numpy as np
import torch
import trimesh
from PIL import Image

import eg3d
from eg3d import latents, pictures, trajectories, views
from training.cameras import Camera
from training.surfaces import normal_picture

SEEDS = (3, 5, 8, 13)
PSI = 0.8
SIDE = 96  # of a tile
_MESH_POINTS = 400_000
_LIGHT = np.array([0.4, 0.8, 0.45]) / np.linalg.norm([0.4, 0.8, 0.45])


def tiles(values: torch.Tensor) -> list[np.ndarray]:
    """Pictures [N, 3, H, W] in [-1, 1] as uint8 [SIDE, SIDE, 3] each."""
    values = (values * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    resample = (
        Image.Resampling.BICUBIC if values.shape[2] >= SIDE // 2 else Image.Resampling.NEAREST
    )
    images = (Image.fromarray(v.permute(1, 2, 0).cpu().numpy()) for v in values)
    return [np.asarray(image.resize((SIDE, SIDE), resample)) for image in images]


def depth_tiles(model: eg3d.Model, rendering: eg3d.Rendering) -> list[np.ndarray]:
    """Near is white, what is not opaque is black."""
    near, far = model.depth_range
    shade = 1 - 2 * (rendering.depth - near) / (far - near)
    return tiles(torch.where(rendering.opacity > 0.5, shade, -1).expand(-1, 3, -1, -1))


def mesh_tile(mesh: trimesh.Trimesh, camera: Camera) -> np.ndarray:
    """The mesh from a camera, uint8 [SIDE, SIDE, 3]: points of its surface, nearest in front."""
    points, faces = trimesh.sample.sample_surface(mesh, _MESH_POINTS, seed=0)
    colour = mesh.visual.face_colors[faces, :3] / 255
    normal = mesh.face_normals[faces]
    light = 0.45 + 0.55 * np.clip(normal @ _LIGHT, 0, 1)
    pose, lens = camera.cam2world[0].double().numpy(), camera.intrinsics[0].double().numpy()
    seen = (points - pose[:3, 3]) @ pose[:3, :3]
    place = (seen @ lens.T)[:, :2] / seen[:, 2:] * SIDE
    column, row = place.astype(int).T
    inside = (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE)
    order = np.flatnonzero(inside)[np.argsort(-seen[inside, 2], kind="stable")]
    picture = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    picture[row[order], column[order]] = (colour * light[:, None] * 255)[order]
    return picture


def save(path: Path, rows: list[list[np.ndarray]]) -> None:
    """A sheet of tiles."""
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    pictures.write_png(path, sheet)
    click.echo(f"wrote {path}")


@torch.inference_mode()
def draw(model: eg3d.Model, outdir: Path) -> None:
    """All figures."""
    scenes = model.scenes(SEEDS, psi=PSI)
    around = views.orbit(model, 8)
    turning = [scenes[k].render(around) for k in range(len(SEEDS))]
    save(outdir / "gallery_orbit.png", [tiles(view.image) for view in turning])

    camera = around[1]
    front = scenes.render(camera)
    normals = normal_picture(front.depth, front.opacity, camera)
    save(
        outdir / "gallery_panels.png",
        [tiles(front.image), tiles(front.raw), depth_tiles(model, front), tiles(normals)],
    )

    keys = model.mapping(model.latents([*SEEDS, SEEDS[0]]), psi=PSI)
    walk = model.scenes_of(latents.interpolate(keys, 16)).render(camera)
    shown = tiles(walk.image)
    save(outdir / "gallery_walk.png", [shown[:8], shown[8:]])

    ws = model.mapping(model.latents([21, 34, 55]), psi=PSI)
    half = range(model.num_ws // 2, model.num_ws)
    own = model.mapping(model.latents(SEEDS), psi=PSI)
    mixed = [
        tiles(model.scenes_of(latents.mix(own, w[None], half)).render(camera).image) for w in ws
    ]
    colours = tiles(model.scenes_of(ws).render(camera).image)
    blank = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    table = [[colour, *row] for colour, row in zip(colours, mixed, strict=True)]
    save(outdir / "gallery_mix.png", [[blank, *tiles(front.image)], *table])

    meshes = [scenes[k].mesh(resolution=128, border=0) for k in range(len(SEEDS))]
    rows = [[mesh_tile(mesh, around[k]) for k in range(8)] for mesh in meshes[:2]]
    save(outdir / "gallery_mesh.png", rows)

    spiral = trajectories.named(model, "spiral", 8)
    save(outdir / "gallery_spiral.png", [tiles(scenes[1].render(spiral).image)])


@click.command()
@click.option("--network", required=True, help="Snapshot or run directory")
@click.option("--outdir", type=click.Path(path_type=Path), default=Path("docs/figures"))
def main(network: str, outdir: Path) -> None:
    """Draws the figures of docs/gallery.md."""
    draw(eg3d.load(network, device="cpu"), outdir)


if __name__ == "__main__":
    main()
