"""Networks of published Mimic3D files as networks of this project. Names of classes and tensors are
the same; what the constructors are told differs."""

from dataclasses import replace
from typing import Any

from training.network_record import NetworkRecord, RecordError

# Arguments that publish a choice which this project leaves out, and the one that is left.
_FIXED: dict[str, Any] = dict(triplane_channels=96, blur_plane=0, decoder_output_dim=32)
_BACKBONE = dict(roll_out=None, aware3d_att=False, add_block=0, add_sr_module=False, retidx=None)


def _common(record: NetworkRecord) -> dict[str, Any]:
    """The arguments that both generators have, without those that say nothing."""
    kwargs = dict(record.init_kwargs)
    for name, only in _FIXED.items():
        if kwargs.pop(name, only) != only:
            value = record.init_kwargs[name]
            raise RecordError(f"{name} is {str(value)!r:.80}; only {only!r} can be imported")
    for name, default in _BACKBONE.items():
        if name in kwargs and kwargs[name] == default:
            del kwargs[name]
    act = kwargs.pop("triplane_act", None)
    # Published code takes whatever is not named, False above all, for a sigmoid.
    kwargs["triplane_act"] = act if act in (None, "tanh") else "sigmoid"
    kwargs["plane_resolution"] = kwargs.pop("triplane_resolution", 256)
    kwargs["rendering_kwargs"] = _cyclic(kwargs.get("rendering_kwargs"))
    return kwargs


def _cyclic(options: Any) -> dict[str, Any]:
    """Rendering options that say where the planes lie, which published ones need not."""
    if not isinstance(options, dict):
        raise RecordError("rendering_kwargs are missing")
    return {**options, "plane_axes": "cyclic"}


def _settings(record: NetworkRecord) -> dict[str, Any]:
    options = _cyclic(record.settings.get("rendering_kwargs"))
    # Published renderers have no axes of their own; unpickling fills in those of EG3D's.
    settings = {name: value for name, value in record.settings.items() if name != "plane_axes"}
    return {**settings, "rendering_kwargs": options}


def dual_generator(record: NetworkRecord) -> NetworkRecord:
    """A published `DualTriPlaneGenerator`, of stage 2, as ours. Raises RecordError."""
    return replace(record, init_kwargs=_common(record), settings=_settings(record))


def generator(record: NetworkRecord) -> NetworkRecord:
    """A published `TriPlaneGenerator`, of stage 1, as ours. Raises RecordError."""
    kwargs = _common(record)
    act, guided = kwargs.pop("triplane_act"), kwargs.pop("depth_guided_sample", 0)
    if act is not None or guided:
        raise RecordError("triplane_act and depth_guided_sample of stage 1 cannot be imported")
    kwargs.pop("neural_rendering_resolution", None)  # what it is now is a setting
    return replace(record, init_kwargs=kwargs, settings=_settings(record))
