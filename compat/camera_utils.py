"""The camera helpers, under the name that programs for the original layout import."""

from eg3d.cameras import (
    FOV_to_intrinsics,
    GaussianCameraPoseSampler,
    LookAtPoseSampler,
    UniformCameraPoseSampler,
    create_cam2world_matrix,
)

__all__ = [
    "FOV_to_intrinsics",
    "GaussianCameraPoseSampler",
    "LookAtPoseSampler",
    "UniformCameraPoseSampler",
    "create_cam2world_matrix",
]
