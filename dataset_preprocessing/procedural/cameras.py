"""The cameras of the procedural dataset, and the rendering options that fit them."""

import numpy as np

RADIUS = 2.0
FOCAL = 1.6
ELEVATION_DEGREES = (5.0, 60.0)

# What a training preset for this dataset needs: every car and chair lies inside the box, and
# between ray_start and ray_end for every camera.
PRESET = {
    "ray_start": 1.35,
    "ray_end": 2.65,
    "box_warp": 1.1,
    "avg_camera_radius": RADIUS,
    "avg_camera_pivot": [0.0, 0.0, 0.0],
    "white_back": True,
}


def look_at_origin(azimuth: float, elevation: float, radius: float = RADIUS) -> np.ndarray:
    """Camera label [25] float32 of a camera that looks at the origin, y up, without roll.

    Angles are in radians. Azimuth 0 looks at the car's front from +z, pi/2 at its left side from
    +x; elevation is above the horizon. The intrinsics are FOCAL, principal point in the centre.
    """
    direction = np.array(
        [
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
            np.cos(elevation) * np.cos(azimuth),
        ]
    )
    right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
    down = np.cross(-direction, right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, down, -direction, radius * direction], axis=1)
    intrinsics = np.array([[FOCAL, 0, 0.5], [0, FOCAL, 0.5], [0, 0, 1]])
    return np.concatenate([pose.ravel(), intrinsics.ravel()]).astype(np.float32)


def sample_label(rng: np.random.Generator) -> np.ndarray:
    """Camera label [25] float32 drawn evenly from the area of the band ELEVATION_DEGREES."""
    low, high = np.sin(np.radians(ELEVATION_DEGREES))
    elevation = np.arcsin(rng.uniform(low, high))
    return look_at_origin(rng.uniform(0, 2 * np.pi), float(elevation))
