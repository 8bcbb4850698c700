"""Networks of published EpiGRAF files as networks of this project: other names of classes, tensors
and options, and a configuration in place of arguments."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import radians, tan
from typing import Any

from torch import Tensor

from training.cameras import LABEL_SIZE
from training.epigraf.generator import published_keys
from training.network_record import NetworkRecord, RecordError

_CLOSED, _OPEN = 1e10, 1e-3  # what the last sample of a ray stands for
_DECODER, _MLP = "synthesis.tri_plane_decoder.", "synthesis.tri_plane_mlp.model.0.weight"
# Constructor arguments in their order.
_GENERATOR = ("cfg", "z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs")
_DISCRIMINATOR = ("cfg", "c_dim", "img_resolution", "img_channels")
# Prefixes of names: ours, by published ones.
_PREFIXES = {
    published_keys(ours): ours
    for ours in ("backbone.synthesis.", "backbone.mapping.", "decoder.net.", "background_network.")
}


class Configuration:
    """The published configuration of a network, by the ends of its entries' paths.

    How deep an entry lies depends on who saved it: 'bg_model.type' finds
    'model.generator.bg_model.type' too, and 'ray_start' finds 'dataset.camera.ray.start'.
    """

    def __init__(self, cfg: Any, other: str):
        """cfg: nested dicts; `other`: name of the part that another network's options are in."""
        if not isinstance(cfg, Mapping):
            raise RecordError("a published network of EpiGRAF has no configuration (cfg)")
        entries = sorted(_flat(cfg), key=lambda entry: entry[0].count("_"))
        self._entries = [(path, v) for path, v in entries if f"_{other}_" not in path]

    def get(self, name: str, default: Any) -> Any:
        """The entry, or `default`."""
        ending = "_" + name.replace(".", "_")
        return next((v for path, v in self._entries if path.endswith(ending)), default)

    def number(self, name: str) -> float:
        """The entry, which must be a number."""
        value = self.get(name, None)
        if type(value) not in (int, float):
            raise RecordError(f"the configuration (cfg) has no number {name}, but {str(value)!r}")
        return value


def _flat(cfg: Mapping, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in cfg.items():
        inner = f"{path}_{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, inner)
        else:
            yield inner, value


def _arguments(record: NetworkRecord, names: tuple[str, ...]) -> dict[str, Any]:
    given = dict(zip(names, record.init_args, strict=False)) | record.init_kwargs
    missing = [name for name in names[:-1] if name not in given]
    if missing:
        raise RecordError(f"{record.class_name} of EpiGRAF has no argument {missing[0]}")
    return given


def generator(record: NetworkRecord) -> NetworkRecord:
    """A published `Generator` as `EpigrafGenerator`. Raises RecordError."""
    given = _arguments(record, _GENERATOR)
    cfg = Configuration(given["cfg"], other="discriminator")
    for name, only in (("backbone", "stylegan2"), ("bg_model.fmm.enabled", False)):
        if cfg.get(name, only) != only:
            raise RecordError(f"{name} is {cfg.get(name, only)!r}; only {only!r} can be imported")
    background = cfg.get("bg_model.type", None) or "none"
    mapping = dict(
        num_layers=cfg.get("map_depth", 2),
        camera_cond=cfg.get("camera_cond", False),
        camera_cond_noise_std=cfg.get("camera_cond_noise_std", 0),
        camera_cond_drop_p=cfg.get("camera_cond_drop_p", 0),
    )
    mapping |= _mean_pose(record.tensors, "mapping.")
    rendering = _rendering(cfg, background)
    kwargs = dict(
        z_dim=given["z_dim"],
        c_dim=LABEL_SIZE + given["c_dim"],
        w_dim=given["w_dim"],
        img_resolution=given["img_resolution"],
        img_channels=given.get("img_channels", 3),
        mapping_kwargs=mapping,
        rendering_kwargs=rendering,
        decoder_kwargs=_decoder(cfg, record.tensors),
        background=background,
        background_kwargs=_background(cfg) if background == "sphere" else {},
        plane_resolution=_largest(record.tensors, _DECODER),
        **_widths(given, cfg, fmaps=1.0),
        conv_clamp=given.get("conv_clamp", 256),
        num_fp16_res=0 if cfg.get("tri_plane.fp32", True) else given.get("num_fp16_res", 4),
        use_noise=cfg.get("use_noise", True),
        fused_modconv_default="inference_only",
    )
    settings = dict(
        neural_rendering_resolution=given["img_resolution"], rendering_kwargs=dict(rendering)
    )
    tensors = {_own_name(name): tensor for name, tensor in record.tensors.items()}
    return replace(
        record,
        class_name="EpigrafGenerator",
        init_args=(),
        init_kwargs=kwargs,
        tensors=tensors,
        settings=settings,
    )


def discriminator(record: NetworkRecord) -> NetworkRecord:
    """A published `Discriminator` as `PatchDiscriminator`. Raises RecordError."""
    given = _arguments(record, _DISCRIMINATOR)
    cfg = Configuration(given["cfg"], other="generator")
    start = cfg.get("num_additional_start_blocks", 0)
    if type(start) is not int or not 0 <= start <= 8:
        raise RecordError(f"num_additional_start_blocks is {str(start)!r}; must be from 0 to 8")
    head = dict(
        camera_cond=cfg.get("camera_cond", False),
        camera_raw_scalars=cfg.get("camera_cond_raw", False),
        camera_cond_drop_p=cfg.get("camera_cond_drop_p", 0),
        camera_cond_noise_std=cfg.get("camera_cond_noise_std", 0),
    )
    head |= _mean_pose(record.tensors, "head_mapping.")
    kwargs = dict(
        c_dim=given["c_dim"],
        img_resolution=_largest(record.tensors, "") >> start,
        img_channels=given.get("img_channels", 3),
        num_additional_start_blocks=start,
        **_widths(given, cfg, fmaps=0.5),
        num_fp16_res=given.get("num_fp16_res", 4),
        conv_clamp=given.get("conv_clamp", 256),
        hyper_mod=cfg.get("hyper_mod", True),
        head_kwargs=head,
        epilogue_kwargs=dict(mbstd_group_size=cfg.get("mbstd_group_size", 4)),
    )
    return replace(record, class_name="PatchDiscriminator", init_args=(), init_kwargs=kwargs)


def _own_name(name: str) -> str:
    for published, ours in _PREFIXES.items():
        if name.startswith(published):
            return ours + name.removeprefix(published)
    return name


def _mean_pose(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, list[float]]:
    """The angles that stand for those which are not given, if the network has them."""
    pose = tensors.get(f"{prefix}mean_camera_pose")
    if pose is None:
        return {}
    if pose.shape != (3,):
        raise RecordError(f"{prefix}mean_camera_pose has the shape {list(pose.shape)}, not [3]")
    return dict(mean_camera_pose=pose.tolist())


def _largest(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """The largest resolution that blocks 'b<resolution>.' after `prefix` are called by."""
    blocks = {name.removeprefix(prefix).partition(".")[0] for name in tensors if prefix in name}
    sizes = [int(block[1:]) for block in blocks if block[:1] == "b" and block[1:].isdecimal()]
    if not sizes:
        raise RecordError(f"a published network of EpiGRAF has no blocks {prefix}b4, b8, …")
    return max(sizes)


def _widths(given: Mapping, cfg: Configuration, fmaps: float) -> dict[str, int]:
    base = int(cfg.get("cbase", 32768) * cfg.get("fmaps", fmaps))
    return dict(
        channel_base=given.get("channel_base", base),
        channel_max=given.get("channel_max", cfg.get("cmax", 512)),
    )


def _decoder(cfg: Configuration, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    if _MLP not in tensors:
        raise RecordError("a published generator of EpiGRAF has no tri_plane_mlp")
    return dict(
        hidden_dim=tensors[_MLP].shape[0],
        n_layers=cfg.get("mlp.n_layers", 2),
        posenc_period_len=cfg.get("tri_plane.posenc_period_len", 0),
        has_view_cond=cfg.get("has_view_cond", False),
    )


def _background(cfg: Configuration) -> dict[str, Any]:
    return dict(
        num_blocks=cfg.get("bg_model.num_blocks", 2),
        channel_base=cfg.get("bg_model.cbase", 32768),
        channel_max=cfg.get("bg_model.cmax", 128),
        period=cfg.get("bg_model.posenc_period_len", 64),
    )


def _rendering(cfg: Configuration, background: str) -> dict[str, Any]:
    """Options of the renderer, and the usual camera."""
    steps = cfg.get("num_ray_steps", 48)
    return dict(
        superresolution_module=None,
        superresolution_noise_mode="none",
        depth_resolution=steps,
        depth_resolution_importance=steps,
        ray_start=cfg.number("ray_start"),
        ray_end=cfg.number("ray_end"),
        box_warp=2 * cfg.number("cube_scale"),
        disparity_space_sampling=False,
        ray_marcher="classic",
        clamp_mode=cfg.get("clamp_mode", "softplus"),
        density_bias=float(cfg.get("density_shift", 0)),
        depth_jitter="bins",
        importance_smoothing=False,
        plane_align_corners=True,
        last_delta=_CLOSED if background == "none" else _OPEN,
        white_back=cfg.get("white_back", False),
        last_back=cfg.get("last_back", False),
        background_steps=cfg.get("bg_model.num_steps", 8),
        background_start=float(cfg.get("bg_model.start", 1)),
        density_reg=0,
        avg_camera_radius=float(cfg.get("camera.radius", 1)),
        avg_camera_pivot=[0, 0, 0],
        avg_camera_focal=0.5 / tan(radians(cfg.number("fov")) / 2),
    )
