"""What a file of networks holds, for people: nothing of it is built or run."""

import json
from collections.abc import Iterator

from training.network_files import NetworkFile
from training.network_record import NetworkRecord

_CAMERA = {"avg_camera_radius": "radius", "avg_camera_pivot": "pivot", "avg_camera_focal": "focal"}


def describe(content: NetworkFile) -> str:
    """Several lines: format, training data, and of each network its class, sizes and settings."""
    lines = [f"{content.source}: {content.format}, {len(content.records)} networks"]
    if content.training_set_kwargs is not None:
        lines.append(f"  trained on  {_shown(content.training_set_kwargs)}")
    for name, record in content.records.items():
        lines += [f"{name}: {record.class_name}", *_network(record)]
    return "\n".join(lines)


def _network(record: NetworkRecord) -> Iterator[str]:
    bytes_in_all = sum(t.numel() * t.itemsize for t in record.tensors.values())
    kinds = sorted({str(t.dtype).removeprefix("torch.") for t in record.tensors.values()})
    yield (
        f"  tensors     {len(record.tensors)} with {record.num_values:,} numbers, "
        f"{bytes_in_all / 2**20:.1f} MiB ({', '.join(kinds) or 'none'})"
    )
    if record.init_args:
        yield f"  arguments   {_shown(record.init_args)}"
    own = {k: v for k, v in record.init_kwargs.items() if k != "rendering_kwargs"}
    if own:
        yield f"  arguments   {_shown(own)}"
    settings = record.settings
    options = settings.get("rendering_kwargs")
    if isinstance(options, dict):
        camera = {short: options[name] for name, short in _CAMERA.items() if name in options}
        yield f"  rendering   {_shown({k: v for k, v in options.items() if k not in _CAMERA})}"
        yield f"  camera      {_shown(camera)}"
    if "neural_rendering_resolution" in settings:
        yield f"  rendered at {_shown(settings['neural_rendering_resolution'])}"
    if settings.get("plane_axes"):
        yield f"  plane axes  {_shown(settings['plane_axes'])}"


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=True)
