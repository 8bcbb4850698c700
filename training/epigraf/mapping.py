"""The mapping network of EpiGRAF: StyleGAN2's, told the camera's pose beside the class (Skorokhodov
et al. 2022, section 3.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_utils import persistence
from training.dual_discriminator import noisy_label
from training.epigraf.encoders import ScalarEncoder1d, normalized_angles
from training.layers import MappingNetwork

POSE_NUMBERS = 2  # yaw and pitch; roll is not looked at
CAMERA_COND_DROPS = ("element", "sample")


@persistence.persistent_class
class PoseMappingNetwork(MappingNetwork):
    """z [N, z_dim], class c [N, c_dim], angles [N, 3] -> ws [N, num_ws, w_dim], or [N, w_dim].

    Args:
        c_dim: size of the class label, 0 for none.
        camera_cond: whether the pose conditions.
        camera_raw_scalars: the pose as two numbers; otherwise as their Fourier code.
        camera_cond_noise_std: noise on the angles in training, in standard deviations of the batch.
        camera_cond_drop_p: probability in training that what `camera_cond_drop` says is set to 0.
        camera_cond_drop: 'element' is dropout of the code's numbers, as published models were
            trained; 'sample' forgets the whole pose of a sample, and leaves the others as they are.
        mean_camera_pose: yaw, pitch and roll that stand for angles which are not given.
        mapping_kwargs: options of `training.layers.MappingNetwork`.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        num_layers: int = 2,
        camera_cond: bool = False,
        camera_raw_scalars: bool = False,
        camera_cond_noise_std: float = 0,
        camera_cond_drop_p: float = 0,
        camera_cond_drop: str = "element",
        mean_camera_pose: Sequence[float] | None = None,
        **mapping_kwargs,
    ):
        if not 0 <= camera_cond_drop_p < 1:
            raise ValueError(
                f"camera_cond_drop_p must be from 0 to below 1, not {camera_cond_drop_p}"
            )
        if camera_cond_drop not in CAMERA_COND_DROPS:
            raise ValueError(
                f"camera_cond_drop must be one of {CAMERA_COND_DROPS}, not {camera_cond_drop!r}"
            )
        encoder = None
        code_dim = POSE_NUMBERS if camera_cond else 0
        if camera_cond and not camera_raw_scalars:
            encoder = ScalarEncoder1d(POSE_NUMBERS, x_multiplier=64)
            code_dim = encoder.dim
        super().__init__(z_dim, c_dim + code_dim, w_dim, num_ws, num_layers, **mapping_kwargs)
        self.class_dim = c_dim
        self.camera_cond = camera_cond
        self.camera_cond_noise_std = camera_cond_noise_std
        self.camera_cond_drop_p = camera_cond_drop_p
        self.camera_cond_drop = camera_cond_drop
        self.camera_scalar_enc = encoder
        mean = None if mean_camera_pose is None else torch.tensor(mean_camera_pose).float()
        self.register_buffer("mean_camera_pose", mean)

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
        angles: Tensor | None = None,
    ) -> Tensor:
        """z [N, z_dim], c [N, c_dim], angles [N, 3] (yaw, pitch, roll, radians) -> ws.

        Without angles a network in eval mode takes `mean_camera_pose`. c and angles mean nothing
        where the network is not conditioned on them.
        """
        label = []
        if self.class_dim > 0:
            if c is None or c.ndim != 2 or c.shape[1] != self.class_dim:
                shape = None if c is None else tuple(c.shape)
                raise ValueError(f"mapping: c must have shape [N, {self.class_dim}], not {shape}")
            label.append(c.to(torch.float32))
        if self.camera_cond:
            like = z if self.z_dim > 0 else c
            label.append(self._pose_code(self._mean_pose(like) if angles is None else angles))
        return super().forward(
            z,
            torch.cat(label, dim=1) if label else None,
            truncation_psi,
            truncation_cutoff,
            update_emas,
        )

    def _mean_pose(self, like: Tensor) -> Tensor:
        if self.training or self.mean_camera_pose is None:
            raise ValueError("mapping: angles must be given, the network is conditioned on them")
        return self.mean_camera_pose.expand(like.shape[0], -1)

    def _pose_code(self, angles: Tensor) -> Tensor:
        """Angles [N, 3] -> code [N, 2] or [N, 24], with noise and gaps in training."""
        pose = angles[:, :POSE_NUMBERS].to(torch.float32)
        if self.training:
            pose = noisy_label(pose, self.camera_cond_noise_std)
        code = normalized_angles(pose)
        if self.camera_scalar_enc is not None:
            code = self.camera_scalar_enc(code)
        if not self.training or self.camera_cond_drop_p == 0:
            return code
        if self.camera_cond_drop == "sample":
            # Not scaled up: a whole pose that is there looks in training as it does later.
            return code * (torch.rand_like(code[:, :1]) >= self.camera_cond_drop_p)
        kept = torch.rand_like(code) >= self.camera_cond_drop_p
        return code * kept / (1 - self.camera_cond_drop_p)
