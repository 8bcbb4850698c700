"""Pickles as the published checkpoints have them, made of networks of ours, for tests only.

Nothing here is taken from what our own code writes: class paths, attributes and bytes follow the
published layout, so that a file of `published_bytes` shows whether our classes get along with it.
Genuine files hold nothing but the attributes in `ATTRIBUTES`, the module fields of torch 1.x, NumPy
numbers as gains, tensors that were on a GPU, and whole source texts. The texts here end the process
if they are run.

    data = published_bytes({"G_ema": G, "D": D}, protocol=2)
"""

import io
import pickle
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

_SIZES = "z_dim c_dim w_dim img_resolution img_channels"
_BLOCK = (
    "in_channels w_dim resolution img_channels is_last architecture use_fp16 channels_last "
    "fused_modconv_default num_conv num_torgb"
)
_DISCRIMINATOR = "c_dim img_resolution img_resolution_log2 img_channels block_resolutions"
_RESIZED = "input_resolution sr_antialias"

# class -> attributes in its state, besides the fields of torch and the constructor arguments
ATTRIBUTES = {
    "TriPlaneGenerator": f"{_SIZES} neural_rendering_resolution rendering_kwargs _last_planes",
    "Generator": f"{_SIZES} num_ws",
    "SynthesisNetwork": (
        "w_dim img_resolution img_resolution_log2 img_channels num_fp16_res block_resolutions "
        "num_ws"
    ),
    "SynthesisBlock": _BLOCK,
    "SynthesisBlockNoUp": _BLOCK,
    "SynthesisLayer": (
        "in_channels out_channels w_dim resolution up use_noise activation conv_clamp padding "
        "act_gain"
    ),
    "ToRGBLayer": "in_channels out_channels w_dim conv_clamp weight_gain",
    "FullyConnectedLayer": "in_features out_features activation weight_gain bias_gain",
    "MappingNetwork": "z_dim c_dim w_dim num_ws num_layers w_avg_beta",
    "Superresolution": _RESIZED,
    "SuperresolutionHybrid8X": _RESIZED,
    "SuperresolutionHybrid4X": _RESIZED,
    "SuperresolutionHybrid2X": _RESIZED,
    "SuperresolutionHybrid8XDC": _RESIZED,
    "SuperresolutionHybrid16XDC": _RESIZED,
    "SuperresolutionHybridDeepfp32": "input_resolution",
    "OSGDecoder": "hidden_dim",
    "ImportanceRenderer": "plane_axes",
    "MipRayMarcher2": "",
    "RaySampler": "ray_origins_h ray_directions depths image_coords rendering_options",
    "Sequential": "",
    "Softplus": "beta threshold",
    "DualDiscriminator": f"{_DISCRIMINATOR} disc_c_noise",
    "SingleDiscriminator": _DISCRIMINATOR,
    "DummyDualDiscriminator": f"{_DISCRIMINATOR} disc_c_noise raw_fade",
    "DiscriminatorBlock": (
        "in_channels resolution img_channels first_layer_idx architecture use_fp16 channels_last "
        "num_layers"
    ),
    "Conv2dLayer": (
        "in_channels out_channels activation up down conv_clamp padding weight_gain act_gain"
    ),
    "DiscriminatorEpilogue": "in_channels cmap_dim resolution img_channels architecture",
    "MinibatchStdLayer": "group_size num_channels",
    "AugmentPipe": (
        "xflip rotate90 xint xint_max scale rotate aniso xfrac scale_std rotate_max aniso_std "
        "xfrac_std brightness contrast lumaflip hue saturation brightness_std contrast_std "
        "hue_max saturation_std imgfilter imgfilter_bands imgfilter_std noise cutout noise_std "
        "cutout_size"
    ),
}
ATTRIBUTES = {name: tuple(words.split()) for name, words in ATTRIBUTES.items()}

# Classes that are pickled by reference; all others carry the source text of their module.
PLAIN = {
    "OSGDecoder": "training.triplane",
    "ImportanceRenderer": "training.volumetric_rendering.renderer",
    "MipRayMarcher2": "training.volumetric_rendering.ray_marcher",
    "RaySampler": "training.volumetric_rendering.ray_sampler",
    "Sequential": "torch.nn.modules.container",
    "Softplus": "torch.nn.modules.activation",
}

MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    torch.float32: "FloatStorage",
    torch.float16: "HalfStorage",
    torch.float64: "DoubleStorage",
    torch.int64: "LongStorage",
    torch.int32: "IntStorage",
    torch.uint8: "ByteStorage",
    torch.bool: "BoolStorage",
}
_ATTRIBUTE_DICTS = ("mapping_kwargs", "sr_kwargs", "block_kwargs", "epilogue_kwargs")


class Global(NamedTuple):
    """A name in a pickle: written as it stands, whether or not it exists here."""

    module: str
    name: str


class Call:
    """`function(*args)` in a pickle (NEWOBJ if `new`), then its entries and its state."""

    def __init__(self, function: Global, args: tuple, *, new=False, items=None, state=None):
        self.function, self.args, self.new = function, args, new
        self.items, self.state = items or {}, state


class StandIn(NamedTuple):
    """A network of a published class that this project does not have.

    `tensors` by their names in the state_dict, which say what lies within what; `kwargs` of the
    constructor; other `attributes` of the network.
    """

    class_name: str
    tensors: Mapping[str, torch.Tensor]
    kwargs: Mapping[str, Any]
    attributes: Mapping[str, Any]


class Reference:
    """A persistent id in a pickle."""

    def __init__(self, key: tuple):
        self.key = key


class Writer(pickle._Pickler):
    """Pickler of plain values, `Global`, `Call` and `Reference`."""

    dispatch = dict(pickle._Pickler.dispatch)

    def _save_global(self, name: Global) -> None:
        if self.proto >= 4:
            self.save(name.module)
            self.save(name.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{name.module}\n{name.name}\n".encode())
        self.memoize(name)

    def _save_call(self, call: Call) -> None:
        self.save(call.function)
        self.save(call.args)
        self.write(pickle.NEWOBJ if call.new else pickle.REDUCE)
        self.memoize(call)
        if call.items:
            self.write(pickle.MARK)
            for key, value in call.items.items():
                self.save(key)
                self.save(value)
            self.write(pickle.SETITEMS)
        if call.state is not None:
            self.save(call.state)
            self.write(pickle.BUILD)

    def _save_reference(self, reference: Reference) -> None:
        self.save(reference.key)
        self.write(pickle.BINPERSID)

    dispatch[Global] = _save_global
    dispatch[Call] = _save_call
    dispatch[Reference] = _save_reference


def written(value: Any, protocol: int = 4) -> bytes:
    """The pickle of a value made of plain values, `Global`, `Call` and `Reference`."""
    file = io.BytesIO()
    Writer(file, protocol).dump(value)
    return file.getvalue()


def storage_bytes(tensor: torch.Tensor, location: str = "cpu", key: str = "94040104") -> bytes:
    """The whole storage under `tensor` as an old file of torch.save holds it."""
    raw = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy().tobytes()
    numel = len(raw) // tensor.element_size()
    sizes = {"protocol_version": 1001, "little_endian": True}
    sizes["type_sizes"] = {"short": 2, "int": 4, "long": 4}
    kind = Global("torch", _STORAGES[tensor.dtype])
    reference = Reference(("storage", kind, key, location, numel, None))
    header = b"".join(written(part, 2) for part in (MAGIC, 1001, sizes, reference, [key]))
    return header + struct.pack("<q", numel) + raw


def published_bytes(
    entries: Mapping[str, Any],
    protocol: int = 4,
    numpy_path: str = "numpy.core.multiarray",
    cuda: bool = True,
    decoder_module: str = "training.triplane",
    stale_planes: torch.Tensor | None = None,
    trap: str | None = None,
    source_size: int = 8000,
) -> bytes:
    """The pickle of `entries` (networks, None and plain values, in this order) as published.

    Args:
        protocol: 4 names classes by STACK_GLOBAL, 2 and 3 by GLOBAL.
        numpy_path: module of the NumPy function `scalar`: `numpy._core.multiarray` for NumPy 2.
        cuda: the renderer's plane axes (and stale planes) were on the device cuda:0.
        decoder_module: module of OSGDecoder; re-saved files have `_imported_module_<32 hex>`.
        stale_planes: `_last_planes` of the generators, as after a cached rendering.
        trap: a file that the source texts would write if they were run.
        source_size: length of each source text.
    """
    device = "cuda:0" if cuda else "cpu"
    sources = _Sources(trap, source_size)
    encoder = _Encoder(numpy_path, device, decoder_module, stale_planes, sources)
    return written({name: encoder.value(value) for name, value in entries.items()}, protocol)


class _Sources(dict):
    """module -> its one source text."""

    def __init__(self, trap: str | None, size: int):
        super().__init__()
        self.trap, self.size = trap, size

    def __missing__(self, module: str) -> str:
        lines = [f'"""Text of {module} as it was when the file was written."""', "import torch"]
        if self.trap is not None:
            lines.append(f"open({str(self.trap)!r}, 'a').close()")
        lines.append("raise SystemExit('source text in the file was run')")
        lines += ["class NeverReached(torch.nn.Module):", "    pass  # " + "x" * 60]
        text = "\n".join(lines) + "\n"
        filler = "    # " + "." * 73 + "\n"
        self[module] = text + filler * max(0, (self.size - len(text)) // len(filler))
        return self[module]


class _Encoder:
    """From networks to the values that `Writer` takes."""

    def __init__(self, numpy_path, device, decoder_module, stale_planes, sources):
        self.device, self.stale_planes, self.sources = device, stale_planes, sources
        self.plain = {**PLAIN, "OSGDecoder": decoder_module}
        self.scalar = Global(numpy_path, "scalar")
        layout = (3, "<", None, None, None, -1, -1, 0)
        self.float64 = Call(Global("numpy", "dtype"), ("f8", False, True), state=layout)
        self.globals: dict[Global, Global] = {}
        self.tensors = 0

    def named(self, module: str, name: str) -> Global:
        """Each name once: a pickle refers back to it."""
        name = Global(module, name)
        return self.globals.setdefault(name, name)

    def value(self, value: Any) -> Any:
        """Networks and tensors as calls, within lists, tuples and dicts too."""
        if isinstance(value, torch.nn.Module):
            return self.module(value)
        if isinstance(value, StandIn):
            return self.stand_in(value)
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, np.generic):
            return value.item()
        if type(value) in (list, tuple):
            return type(value)(map(self.value, value))
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return value

    def ordered(self, items: Mapping[str, Any] | None = None) -> Call:
        """An OrderedDict."""
        return Call(self.named("collections", "OrderedDict"), (), items=items)

    def tensor(self, tensor: torch.Tensor, location: str = "cpu") -> Call:
        """A tensor as a view of all of its storage."""
        self.tensors += 1
        data = storage_bytes(tensor.detach(), location, key=str(94040104 + 64 * self.tensors))
        storage = Call(self.named("torch.storage", "_load_from_bytes"), (data,))
        view = (tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()))
        rebuild = self.named("torch._utils", "_rebuild_tensor_v2")
        return Call(rebuild, (storage, *view, False, self.ordered()))

    def parameter(self, parameter: torch.nn.Parameter) -> Call:
        """A parameter without gradient."""
        rebuild = self.named("torch._utils", "_rebuild_parameter")
        return Call(rebuild, (self.tensor(parameter), False, self.ordered()))

    def module(self, module: torch.nn.Module) -> Call:
        """A network, with those inside it."""
        name = type(module).__name__
        state = {**self.fields(module), **self.attributes(module)}
        if name in self.plain:
            return Call(self.named(self.plain[name], name), (), new=True, state=state)
        arguments = {key: self.argument(key, v) for key, v in module.init_kwargs.items()}
        state |= {"_init_args": self.value(module.init_args), "_init_kwargs": arguments}
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.sources[_home(name)],
            "class_name": name,
            "state": state,
        }
        rebuild = self.named("torch_utils.persistence", "_reconstruct_persistent_obj")
        return Call(rebuild, (meta,))

    def stand_in(self, network: StandIn) -> Call:
        """A network by its tensors, with those inside it."""
        own, inner = {}, {}
        for name, tensor in network.tensors.items():
            child, _, rest = name.partition(".")
            if rest:
                inner.setdefault(child, {})[rest] = tensor
            else:
                own[name] = self.parameter(tensor)
        state = {
            "training": True,
            "_parameters": self.ordered(own),
            "_buffers": self.ordered(),
            "_non_persistent_buffers_set": set(),
            "_modules": self.ordered(
                {name: self.stand_in(StandIn("Part", t, {}, {})) for name, t in inner.items()}
            ),
            "_init_args": (),
            "_init_kwargs": self.value(network.kwargs),
            **self.value(network.attributes),
        }
        source = self.sources["training.published"]
        meta = dict(type="class", version=6, module_src=source, class_name=network.class_name)
        rebuild = self.named("torch_utils.persistence", "_reconstruct_persistent_obj")
        return Call(rebuild, ({**meta, "state": state},))

    def argument(self, name: str, value: Any) -> Any:
        """A constructor argument: some dicts are EasyDicts."""
        if name in _ATTRIBUTE_DICTS and value is not None:
            return Call(self.named("dnnlib.util", "EasyDict"), (), new=True, items=dict(value))
        return self.value(value)

    def fields(self, module: torch.nn.Module) -> dict[str, Any]:
        """What torch 1.x keeps in every module, in its order."""
        own = module.__dict__
        parameters = {
            k: p if p is None else self.parameter(p) for k, p in own["_parameters"].items()
        }
        buffers = {k: b if b is None else self.tensor(b) for k, b in own["_buffers"].items()}
        return {
            "training": module.training,
            "_parameters": self.ordered(parameters),
            "_buffers": self.ordered(buffers),
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": self.ordered(),
            "_is_full_backward_hook": None,
            "_forward_hooks": self.ordered(),
            "_forward_pre_hooks": self.ordered(),
            "_state_dict_hooks": self.ordered(),
            "_load_state_dict_pre_hooks": self.ordered(),
            "_modules": self.ordered({k: self.value(m) for k, m in own["_modules"].items()}),
        }

    def attributes(self, module: torch.nn.Module) -> dict[str, Any]:
        """The attributes of the table; KeyError where ours lacks one."""
        own = module.__dict__
        name = type(module).__name__
        values = {key: self.value(own[key]) for key in ATTRIBUTES[name]}
        if own.get("bias", 0) is None:  # built without: an entry of its own, and forward reads it
            values["bias"] = None
        for key in ("weight_gain", "act_gain"):
            if key in values:
                values[key] = Call(self.scalar, (self.float64, struct.pack("<d", values[key])))
        if "plane_axes" in values:
            values["plane_axes"] = self.tensor(own["plane_axes"], self.device)
        if "_last_planes" in values and self.stale_planes is not None:
            values["_last_planes"] = self.tensor(self.stale_planes, self.device)
        return values


def _home(class_name: str) -> str:
    """The published module of a persistent class."""
    for prefix, module in _HOMES.items():
        if class_name.startswith(prefix):
            return module
    return "training.networks_stylegan2"


_HOMES = {
    "TriPlaneGenerator": "training.triplane",
    "AugmentPipe": "training.augment",
    "Superresolution": "training.superresolution",
    "SynthesisBlockNoUp": "training.superresolution",
    "DualDiscriminator": "training.dual_discriminator",
    "SingleDiscriminator": "training.dual_discriminator",
    "DummyDualDiscriminator": "training.dual_discriminator",
}
