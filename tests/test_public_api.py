"""The names and signatures that published checkpoints and programs rely on.

A call with exactly the published arguments, by position or by name, means the same here. Ours may
have more optional parameters after the published ones, and a default where a value was required;
defaults that cannot be changed by accident stand for mutable ones: None for {}, a tuple for a list.
"""

import importlib
import importlib.util
import inspect
import math
import sys
from pathlib import Path

import pytest
import torch

from tests.tiny import outputs, tiny_discriminator, tiny_generator
from torch_utils import misc

ROOT = Path(__file__).parent.parent

# One signature a line; a line that starts with white space belongs to the one before. `self` is
# left out, and so are classes whose construction is a matter of this project.
_SUPERRESOLUTION = """(channels, img_resolution, sr_num_fp16_res, sr_antialias, num_fp16_res=4,
    conv_clamp=None, channel_base=None, channel_max=None, **block_kwargs)"""
_SAMPLER = """horizontal_stddev=0, vertical_stddev=0, radius=1, batch_size=1, device='cpu')"""
_DISCRIMINATOR = """(c_dim, img_resolution, img_channels, architecture='resnet', channel_base=32768,
    channel_max=512, num_fp16_res=4, conv_clamp=256, cmap_dim=None, block_kwargs={},
    mapping_kwargs={}, epilogue_kwargs={}"""

SIGNATURES = {
    "training.triplane": """
TriPlaneGenerator(z_dim, c_dim, w_dim, img_resolution, img_channels, sr_num_fp16_res=0,
    mapping_kwargs={}, rendering_kwargs={}, sr_kwargs={}, **synthesis_kwargs)
TriPlaneGenerator.mapping(z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False)
TriPlaneGenerator.synthesis(ws, c, neural_rendering_resolution=None, update_emas=False,
    cache_backbone=False, use_cached_backbone=False, **synthesis_kwargs)
TriPlaneGenerator.sample(coordinates, directions, z, c, truncation_psi=1, truncation_cutoff=None,
    update_emas=False, **synthesis_kwargs)
TriPlaneGenerator.sample_mixed(coordinates, directions, ws, truncation_psi=1,
    truncation_cutoff=None, update_emas=False, **synthesis_kwargs)
TriPlaneGenerator.forward(z, c, truncation_psi=1, truncation_cutoff=None,
    neural_rendering_resolution=None, update_emas=False, cache_backbone=False,
    use_cached_backbone=False, **synthesis_kwargs)
OSGDecoder(n_features, options)
OSGDecoder.forward(sampled_features, ray_directions)
""",
    "training.networks_stylegan2": f"""
modulated_conv2d(x, weight, styles, noise=None, up=1, down=1, padding=0, resample_filter=None,
    demodulate=True, flip_weight=True, fused_modconv=True)
normalize_2nd_moment(x, dim=1, eps=1e-8)
FullyConnectedLayer(in_features, out_features, bias=True, activation='linear', lr_multiplier=1,
    bias_init=0)
FullyConnectedLayer.forward(x)
Conv2dLayer(in_channels, out_channels, kernel_size, bias=True, activation='linear', up=1, down=1,
    resample_filter=[1, 3, 3, 1], conv_clamp=None, channels_last=False, trainable=True)
Conv2dLayer.forward(x, gain=1)
MappingNetwork(z_dim, c_dim, w_dim, num_ws, num_layers=8, embed_features=None,
    layer_features=None, activation='lrelu', lr_multiplier=0.01, w_avg_beta=0.998)
MappingNetwork.forward(z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False)
SynthesisLayer(in_channels, out_channels, w_dim, resolution, kernel_size=3, up=1, use_noise=True,
    activation='lrelu', resample_filter=[1, 3, 3, 1], conv_clamp=None, channels_last=False)
SynthesisLayer.forward(x, w, noise_mode='random', fused_modconv=True, gain=1)
ToRGBLayer(in_channels, out_channels, w_dim, kernel_size=1, conv_clamp=None, channels_last=False)
ToRGBLayer.forward(x, w, fused_modconv=True)
SynthesisBlock(in_channels, out_channels, w_dim, resolution, img_channels, is_last,
    architecture='skip', resample_filter=[1, 3, 3, 1], conv_clamp=256, use_fp16=False,
    fp16_channels_last=False, fused_modconv_default=True, **layer_kwargs)
SynthesisBlock.forward(x, img, ws, force_fp32=False, fused_modconv=None, update_emas=False,
    **layer_kwargs)
SynthesisNetwork(w_dim, img_resolution, img_channels, channel_base=32768, channel_max=512,
    num_fp16_res=4, **block_kwargs)
SynthesisNetwork.forward(ws, **block_kwargs)
Generator(z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs={{}},
    **synthesis_kwargs)
Generator.forward(z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False,
    **synthesis_kwargs)
DiscriminatorBlock(in_channels, tmp_channels, out_channels, resolution, img_channels,
    first_layer_idx, architecture='resnet', activation='lrelu', resample_filter=[1, 3, 3, 1],
    conv_clamp=None, use_fp16=False, fp16_channels_last=False, freeze_layers=0)
DiscriminatorBlock.forward(x, img, force_fp32=False)
MinibatchStdLayer(group_size, num_channels=1)
MinibatchStdLayer.forward(x)
DiscriminatorEpilogue(in_channels, cmap_dim, resolution, img_channels, architecture='resnet',
    mbstd_group_size=4, mbstd_num_channels=1, activation='lrelu', conv_clamp=None)
DiscriminatorEpilogue.forward(x, img, cmap, force_fp32=False)
Discriminator{_DISCRIMINATOR})
Discriminator.forward(img, c, update_emas=False, **block_kwargs)
""",
    "training.networks_stylegan3": """
modulated_conv2d(x, w, s, demodulate=True, padding=0, input_gain=None)
""",
    "training.superresolution": f"""
SuperresolutionHybrid8XDC{_SUPERRESOLUTION}
SuperresolutionHybrid8X{_SUPERRESOLUTION}
SuperresolutionHybrid4X{_SUPERRESOLUTION}
SuperresolutionHybrid2X{_SUPERRESOLUTION}
SuperresolutionHybridDeepfp32{_SUPERRESOLUTION}
SuperresolutionHybrid8XDC.forward(rgb, x, ws, **block_kwargs)
SynthesisBlockNoUp(in_channels, out_channels, w_dim, resolution, img_channels, is_last,
    architecture='skip', resample_filter=[1, 3, 3, 1], conv_clamp=256, use_fp16=False,
    fp16_channels_last=False, fused_modconv_default=True, **layer_kwargs)
SynthesisBlockNoUp.forward(x, img, ws, force_fp32=False, fused_modconv=None, update_emas=False,
    **layer_kwargs)
""",
    "training.dual_discriminator": f"""
DualDiscriminator{_DISCRIMINATOR}, *, disc_c_noise=0)
DualDiscriminator.forward(img, c, update_emas=False, **block_kwargs)
DummyDualDiscriminator{_DISCRIMINATOR})
DummyDualDiscriminator.forward(img, c, update_emas=False, **block_kwargs)
SingleDiscriminator{_DISCRIMINATOR}, *, sr_upsample_factor=1)
SingleDiscriminator.forward(img, c, update_emas=False, **block_kwargs)
filtered_resizing(image_orig_tensor, size, f, filter_mode='antialiased')
""",
    "training.volumetric_rendering.renderer": """
generate_planes()
project_onto_planes(planes, coordinates)
sample_from_planes(plane_axes, plane_features, coordinates, mode='bilinear',
    padding_mode='zeros', box_warp=None)
sample_from_3dgrid(grid, coordinates)
ImportanceRenderer()
ImportanceRenderer.forward(planes, decoder, ray_origins, ray_directions, rendering_options)
ImportanceRenderer.run_model(planes, decoder, sample_coordinates, sample_directions, options)
ImportanceRenderer.sort_samples(all_depths, all_colors, all_densities)
ImportanceRenderer.unify_samples(depths1, colors1, densities1, depths2, colors2, densities2)
ImportanceRenderer.sample_stratified(ray_origins, ray_start, ray_end, depth_resolution,
    disparity_space_sampling=False)
ImportanceRenderer.sample_importance(z_vals, weights, N_importance)
ImportanceRenderer.sample_pdf(bins, weights, N_importance, det=False, eps=1e-5)
""",
    "training.volumetric_rendering.ray_sampler": """
RaySampler()
RaySampler.forward(cam2world_matrix, intrinsics, resolution)
""",
    "training.volumetric_rendering.ray_marcher": """
MipRayMarcher2()
MipRayMarcher2.run_forward(colors, densities, depths, rendering_options)
MipRayMarcher2.forward(colors, densities, depths, rendering_options)
""",
    "training.volumetric_rendering.math_utils": """
transform_vectors(matrix, vectors4)
normalize_vecs(vectors)
torch_dot(x, y)
get_ray_limits_box(rays_o, rays_d, box_side_length)
linspace(start, stop, num)
""",
    "training.dataset": """
Dataset(name, raw_shape, max_size=None, use_labels=False, xflip=False, random_seed=0)
Dataset.get_label(idx)
Dataset.get_details(idx)
Dataset.get_label_std()
ImageFolderDataset(path, resolution=None, **super_kwargs)
""",
    "training.augment": """
AugmentPipe(xflip=0, rotate90=0, xint=0, xint_max=0.125, scale=0, rotate=0, aniso=0, xfrac=0,
    scale_std=0.2, rotate_max=1, aniso_std=0.2, xfrac_std=0.125, brightness=0, contrast=0,
    lumaflip=0, hue=0, saturation=0, brightness_std=0.2, contrast_std=0.5, hue_max=1,
    saturation_std=1, imgfilter=0, imgfilter_bands=[1, 1, 1, 1], imgfilter_std=1, noise=0,
    cutout=0, noise_std=0.1, cutout_size=0.5)
""",
    "torch_utils.misc": """
constant(value, shape=None, dtype=None, device=None, memory_format=None)
nan_to_num(input, nan=0.0, posinf=None, neginf=None, *, out=None)
suppress_tracer_warnings()
assert_shape(tensor, ref_shape)
profiled_function(fn)
InfiniteSampler(dataset, rank=0, num_replicas=1, shuffle=True, seed=0, window_size=0.5)
params_and_buffers(module)
named_params_and_buffers(module)
copy_params_and_buffers(src_module, dst_module, require_all=False)
ddp_sync(module, sync)
check_ddp_consistency(module, ignore_regex=None)
print_module_summary(module, inputs, max_nesting=3, skip_redundant=True)
""",
    "torch_utils.persistence": """
persistent_class(orig_class)
is_persistent(obj)
import_hook(hook)
_reconstruct_persistent_obj(meta)
""",
    "torch_utils.training_stats": """
init_multiprocessing(rank, sync_device)
report(name, value)
report0(name, value)
Collector(regex='.*', keep_previous=True)
Collector.names()
Collector.update()
Collector.num(name)
Collector.mean(name)
Collector.std(name)
Collector.as_dict()
Collector.__getitem__(name)
""",
    "torch_utils.custom_ops": """
get_plugin(module_name, sources, headers=None, source_dir=None, **build_kwargs)
""",
    "torch_utils.ops.upfirdn2d": """
setup_filter(f, device='cpu', normalize=True, flip_filter=False, gain=1, separable=None)
upfirdn2d(x, f, up=1, down=1, padding=0, flip_filter=False, gain=1, impl='cuda')
filter2d(x, f, padding=0, flip_filter=False, gain=1, impl='cuda')
upsample2d(x, f, up=2, padding=0, flip_filter=False, gain=1, impl='cuda')
downsample2d(x, f, down=2, padding=0, flip_filter=False, gain=1, impl='cuda')
_parse_scaling(scaling)
_parse_padding(padding)
_get_filter_size(f)
""",
    "torch_utils.ops.bias_act": """
bias_act(x, b=None, dim=1, act='linear', alpha=None, gain=None, clamp=None, impl='cuda')
""",
    "torch_utils.ops.conv2d_resample": """
conv2d_resample(x, w, f=None, up=1, down=1, padding=0, groups=1, flip_weight=True,
    flip_filter=False)
""",
    "torch_utils.ops.conv2d_gradfix": """
conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)
conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1,
    dilation=1)
no_weight_gradients(disable=True)
""",
    "torch_utils.ops.grid_sample_gradfix": """
grid_sample(input, grid)
""",
    "torch_utils.ops.fma": """
fma(a, b, c)
""",
    "torch_utils.ops.filtered_lrelu": f"""
filtered_lrelu(x, fu=None, fd=None, b=None, up=1, down=1, padding=0, gain={math.sqrt(2)!r},
    slope=0.2, clamp=None, flip_filter=False, impl='cuda')
""",
    "dnnlib": """
make_cache_dir_path(*paths)
""",
    "dnnlib.util": """
Logger(file_name=None, file_mode='w', should_flush=True)
set_cache_dir(path)
make_cache_dir_path(*paths)
format_time(seconds)
format_time_brief(seconds)
ask_yes_no(question)
tuple_product(t)
get_dtype_and_ctype(type_obj)
is_pickleable(obj)
get_module_from_obj_name(obj_name)
get_obj_from_module(module, obj_name)
get_obj_by_name(name)
call_func_by_name(*args, func_name=None, **kwargs)
construct_class_by_name(*args, class_name=None, **kwargs)
get_module_dir_by_obj_name(obj_name)
is_top_level_function(obj)
get_top_level_function_name(obj)
list_dir_recursively_with_ignore(dir_path, ignores=None, add_base_to_relative=False)
copy_files_and_create_dirs(files)
is_url(obj, allow_file_urls=False)
open_url(url, cache_dir=None, num_attempts=10, verbose=True, return_filename=False, cache=True)
""",
    "compat.camera_utils": f"""
GaussianCameraPoseSampler.sample(horizontal_mean, vertical_mean, {_SAMPLER}
LookAtPoseSampler.sample(horizontal_mean, vertical_mean, lookat_position, {_SAMPLER}
UniformCameraPoseSampler.sample(horizontal_mean, vertical_mean, {_SAMPLER}
create_cam2world_matrix(forward_vector, origin)
FOV_to_intrinsics(fov_degrees, device='cpu')
""",
    "compat.shape_utils": """
convert_sdf_samples_to_ply(numpy_3d_sdf_tensor, voxel_grid_origin, voxel_size, ply_filename_out,
    offset=None, scale=None, level=0.0)
convert_mrc(input_filename, output_filename, isosurface_level=1)
""",
    "compat.legacy": """
load_network_pkl(f, force_fp16=False)
""",
}

# Names without a published signature. `StyleGAN2Loss` and `training_loop` are built otherwise here:
# a loss yields terms, the loop takes one configuration (docs/architecture.md).
OTHER_NAMES = {
    "training.loss": ["StyleGAN2Loss"],
    "training.training_loop": ["training_loop"],
    "training.networks_stylegan3": [
        "FullyConnectedLayer",
        "Generator",
        "MappingNetwork",
        "SynthesisInput",
        "SynthesisLayer",
        "SynthesisNetwork",
    ],
    "torch_utils.misc": ["symbolic_assert"],
    "dnnlib": ["EasyDict", "util"],
    "dnnlib.util": ["EasyDict"],
}

VALUES = {
    "torch_utils.persistence": {"_version": 6},
    "torch_utils.custom_ops": {"verbosity": "brief"},
    "torch_utils.ops.conv2d_gradfix": {"enabled": False, "weight_gradients_disabled": False},
    "torch_utils.ops.grid_sample_gradfix": {"enabled": False},
}

PROPERTIES = {
    "training.triplane.TriPlaneGenerator": ["init_args", "init_kwargs"],
    "training.dataset.Dataset": [
        "has_labels",
        "has_onehot_labels",
        "image_shape",
        "label_dim",
        "label_shape",
        "name",
        "num_channels",
        "resolution",
    ],
}


def entries(text):
    """{name: inspect.Signature} of a table of signatures."""
    table = {}
    for line in text.replace("\n    ", " ").strip().splitlines():
        name, _, arguments = line.partition("(")
        table[name] = inspect.signature(eval(f"lambda {arguments.removesuffix(')')}: None"))
    return table


def load(module):
    """The module; those of compat/ as if their folder were on the path."""
    if not module.startswith("compat."):
        return importlib.import_module(module)
    path = ROOT / "compat" / f"{module.partition('.')[2]}.py"
    spec = importlib.util.spec_from_file_location(module, path)
    loaded = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(loaded)
    finally:
        sys.path[:] = before
    return loaded


def constructor(classes):
    """Parameters of the first class of an MRO; `*args, **kwargs` are those of the next."""
    own = next((i for i, cls in enumerate(classes) if "__init__" in vars(cls)), None)
    if own is None or classes[own] is object:
        return []
    params = list(inspect.signature(classes[own].__init__).parameters.values())[1:]
    kinds = [p.kind for p in params]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return params
    rest = [p for p in params if p.kind is p.KEYWORD_ONLY]
    first = params[: kinds.index(inspect.Parameter.VAR_POSITIONAL)]
    base = constructor(classes[own + 1 :])[len(first) :]
    middle = [p for p in base if p.kind is not p.VAR_KEYWORD]
    return first + middle + rest + [p for p in base if p.kind is p.VAR_KEYWORD]


def parameters(module, name):
    """Of a function, method (without self) or constructor."""
    found = module
    for part in name.split("."):
        owner, found = found, inspect.getattr_static(found, part)
    if isinstance(found, type):
        return constructor(found.__mro__)
    is_method = isinstance(owner, type) and not isinstance(found, staticmethod)
    found = found.__func__ if isinstance(found, staticmethod) else found
    return list(inspect.signature(found).parameters.values())[1 if is_method else 0 :]


def unchangeable(default):
    """What stands for a default value here."""
    if isinstance(default, list):
        return tuple(default)
    return None if default == {} else default


def mismatch(published, ours):
    """In what `ours` does not take what `published` takes, or None; lists of parameters."""
    by_position = [p for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    by_name = {p.name: p for p in ours if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    kinds = {p.kind for p in ours}
    for index, p in enumerate(published):
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            if p.kind not in kinds:
                return f"{p} is missing"
            continue
        if p.kind is p.KEYWORD_ONLY:
            own = by_name.get(p.name)
        else:
            own = by_position[index] if index < len(by_position) else None
        if own is None or own.name != p.name:
            return f"{p.name} is not where it was published"
        if p.default is not p.empty and unchangeable(p.default) != unchangeable(own.default):
            return f"default of {p.name} is {own.default!r}, published {p.default!r}"
    names = {p.name for p in published}
    new = [p for n, p in by_name.items() if n not in names and p.default is p.empty]
    return f"{new[0].name} is required, and not published" if new else None


CASES = [(module, name) for module in SIGNATURES for name in entries(SIGNATURES[module])]


@pytest.mark.parametrize(("module", "name"), CASES, ids=[".".join(case) for case in CASES])
def test_published_signature(module, name):
    published = entries(SIGNATURES[module])[name].parameters.values()
    ours = parameters(load(module), name)
    assert mismatch(list(published), ours) is None, f"ours: ({', '.join(map(str, ours))})"


@pytest.mark.parametrize("module", sorted({*OTHER_NAMES, *VALUES}))
def test_other_published_names(module):
    found = load(module)
    assert [name for name in OTHER_NAMES.get(module, []) if not hasattr(found, name)] == []
    for name, value in VALUES.get(module, {}).items():
        assert getattr(found, name) == value, name


@pytest.mark.parametrize("path", PROPERTIES)
def test_published_properties(path):
    module, _, name = path.rpartition(".")
    cls = getattr(load(module), name)
    found = [p for p in PROPERTIES[path] if isinstance(inspect.getattr_static(cls, p), property)]
    assert found == PROPERTIES[path]


@pytest.mark.parametrize(
    ("ours", "complaint"),
    [
        ("a, b=1, *, c=2, **kw", None),
        ("a=0, b=1, d=3, *, c=2, e=4, **kw", None),
        ("a, b=1, c=2, **kw", None),
        ("a, d=3, b=1, *, c=2, **kw", "b is not where it was published"),
        ("a, *, b=1, c=2, **kw", "b is not where it was published"),
        ("x, b=1, *, c=2, **kw", "a is not where it was published"),
        ("a, b=1, **kw", "c is not where it was published"),
        ("a, b=2, *, c=2, **kw", "default of b is 2, published 1"),
        ("a, b=1, *, c=2, d, **kw", "d is required, and not published"),
        ("a, b=1, *, c=2", "**kw is missing"),
    ],
)
def test_mismatch_is_found(ours, complaint):
    table = entries(f"published(a, b=1, *, c=2, **kw)\nours({ours})")
    lists = [list(table[name].parameters.values()) for name in ("published", "ours")]
    assert mismatch(*lists) == complaint


def test_passed_on_arguments_are_followed():
    class Base:
        def __init__(self, a, b, c=1, **kw):
            pass

    class Sub(Base):
        def __init__(self, a, *args, d=2, **kw):
            pass

    class Leaf(Sub):
        pass

    assert [str(p) for p in constructor(Leaf.__mro__)] == ["a", "b", "c=1", "d=2", "**kw"]


def test_reload_idiom():
    """Programs rebuild a loaded network with the code that is installed."""
    G = tiny_generator()
    G2 = type(G)(*G.init_args, **G.init_kwargs).eval().requires_grad_(False)
    misc.copy_params_and_buffers(G, G2, require_all=True)
    G2.neural_rendering_resolution = G.neural_rendering_resolution
    G2.rendering_kwargs = G.rendering_kwargs
    expected, found = outputs({"G_ema": G}), outputs({"G_ema": G2})
    assert all((expected[name] == found[name]).all() for name in expected)
    D = tiny_discriminator()
    D2 = type(D)(*D.init_args, **D.init_kwargs).eval().requires_grad_(False)
    misc.copy_params_and_buffers(D, D2, require_all=True)
    pair = {"image": torch.randn(2, 3, 32, 32), "image_raw": torch.randn(2, 3, 8, 8)}
    c = torch.randn(2, 25)
    assert torch.equal(D(pair, c), D2(pair, c))


def test_arguments_of_forward_by_position():
    G = tiny_generator()
    z, c = torch.randn(1, G.z_dim), torch.eye(4).flatten().repeat(2)[None, :25]
    assert G(z, c, 1, None, 4, False, True)["image_raw"].shape == (1, 3, 4, 4)
    assert G._last_planes is not None  # the seventh asks to keep the planes
    assert G.neural_rendering_resolution == 8
