"""From options to the configuration: presets, derived values, names of runs, every refusal."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import train
from dataset_preprocessing import procedural
from training import config as configuration
from training.config import OptionError, build_config, idle_options, with_preset
from training.presets import PRESETS


class FakeData:
    """An opened dataset, as far as the configuration looks at it."""

    def __init__(self, resolution=512, label_dim=25, num_channels=3, name="FFHQ_512"):
        self.resolution, self.label_dim, self.num_channels = resolution, label_dim, num_channels
        self.has_labels = label_dim > 0
        self.name = name

    def __len__(self):
        return 70000


def options(*arguments, cfg="ffhq", outdir="runs"):
    """(options with the preset's, names that were given) of a command line."""
    needed = {"gpus": 1, "batch": 8, "gamma": 1} if cfg != "demo" else {}
    given = [a.split("=")[0] for a in arguments]
    needed = [f"--{k}={v}" for k, v in needed.items() if f"--{k}" not in given]
    line = [f"--cfg={cfg}", f"--outdir={outdir}", "--data=faces.zip", *needed, *arguments]
    context = train.main.make_context("train", line)
    sources = {name: context.get_parameter_source(name).name for name in context.params}
    given = {name for name, source in sources.items() if source == "COMMANDLINE"}
    return with_preset(context.params, given), given


def configure(*arguments, cfg="ffhq", outdir="runs", **data):
    return build_config(options(*arguments, cfg=cfg, outdir=outdir)[0], FakeData(**data))


COMMON = dict(
    disparity_space_sampling=False,
    clamp_mode="softplus",
    c_gen_conditioning_zero=True,
    gpc_reg_prob=None,
    c_scale=1.0,
    superresolution_noise_mode="none",
    density_reg=0.25,
    density_reg_p_dist=0.004,
    reg_type="l1",
    decoder_lr_mul=1.0,
    sr_antialias=True,
    plane_axes="legacy",
)
FACES = dict(
    depth_resolution=48,
    depth_resolution_importance=48,
    ray_start=2.25,
    ray_end=3.3,
    box_warp=1,
    avg_camera_radius=2.7,
    avg_camera_focal=4.2647,
)
RENDERING = {
    "ffhq": dict(FACES, avg_camera_pivot=[0, 0, 0.2]),
    "afhq": dict(FACES, avg_camera_pivot=[0, 0, -0.06]),
    "shapenet": dict(
        depth_resolution=64,
        depth_resolution_importance=64,
        ray_start=0.1,
        ray_end=2.6,
        box_warp=1.6,
        white_back=True,
        avg_camera_radius=1.7,
        avg_camera_pivot=[0, 0, 0],
        avg_camera_focal=1.025390625,
        camera_azimuth_degrees=[-180, 180],
    ),
}


@pytest.mark.parametrize(
    "cfg, resolution, module",
    [("ffhq", 512, "8XDC"), ("afhq", 512, "8XDC"), ("shapenet", 128, "2X"), ("ffhq", 256, "4X")],
)
def test_published_presets(cfg, resolution, module):
    rendering = configure(cfg=cfg, resolution=resolution).G_kwargs["rendering_kwargs"]
    module = f"training.superresolution.SuperresolutionHybrid{module}"
    expected = dict(
        COMMON, **RENDERING[cfg], image_resolution=resolution, superresolution_module=module
    )
    assert rendering == expected
    assert list(rendering)[:4] == [
        "image_resolution",
        "disparity_space_sampling",
        "clamp_mode",
        "superresolution_module",
    ]
    assert type(rendering["box_warp"]) is type(RENDERING[cfg]["box_warp"])


def test_derived_configuration_of_the_published_command():
    """Everything but the rendering, as it is written to training_options.json."""
    config = configure("--batch=32", "--gen_pose_cond=True")
    found = json.loads(json.dumps(asdict(config)))
    assert found["G_kwargs"].pop("rendering_kwargs")["gpc_reg_prob"] == 0.5
    channels = dict(channel_base=32768, channel_max=512)
    adam = dict(class_name="torch.optim.Adam", betas=[0, 0.99], eps=1e-8)
    fused = dict(fused_modconv_default="inference_only")
    assert found == dict(
        run_dir=str(Path("runs", "00000-ffhq-FFHQ_512-gpus1-batch32-gamma1")),
        training_set_kwargs=dict(
            class_name="training.dataset.ImageFolderDataset",
            path="faces.zip",
            use_labels=True,
            max_size=70000,
            xflip=False,
            resolution=512,
            random_seed=0,
        ),
        data_loader_kwargs=dict(pin_memory=True, prefetch_factor=2, num_workers=3),
        G_kwargs=dict(
            class_name="training.triplane.TriPlaneGenerator",
            z_dim=512,
            w_dim=512,
            mapping_kwargs=dict(num_layers=2),
            num_fp16_res=0,
            conv_clamp=None,
            sr_num_fp16_res=4,
            sr_kwargs=dict(**channels, **fused),
            **channels,
            **fused,
        ),
        D_kwargs=dict(
            class_name="training.dual_discriminator.DualDiscriminator",
            block_kwargs=dict(freeze_layers=0),
            mapping_kwargs={},
            epilogue_kwargs=dict(mbstd_group_size=4),
            disc_c_noise=0.0,
            num_fp16_res=4,
            conv_clamp=256,
            **channels,
        ),
        G_opt_kwargs=dict(adam, lr=0.0025),
        D_opt_kwargs=dict(adam, lr=0.002),
        loss_kwargs=dict(
            class_name="training.loss.StyleGAN2Loss",
            r1_gamma=1.0,
            style_mixing_prob=0.0,
            blur_init_sigma=10,
            blur_fade_kimg=200.0,
            neural_rendering_resolution_initial=64,
            neural_rendering_resolution_final=None,
            neural_rendering_resolution_fade_kimg=1000,
            gpc_reg_fade_kimg=1000,
            gpc_reg_prob=0.5,
            dual_discrimination=True,
            filter_mode="antialiased",
            conditional=True,
            recompute="none",
        ),
        metrics=["fid50k_full"],
        metric_networks=None,
        random_seed=0,
        num_gpus=1,
        batch_size=32,
        batch_gpu=32,
        ema_kimg=10.0,
        ema_rampup=0.05,
        G_reg_interval=4.0,
        D_reg_interval=16,
        augment_kwargs=None,
        augment_p=0,
        ada_target=None,
        ada_interval=4,
        ada_kimg=500,
        resume_pkl=None,
        total_kimg=25000,
        kimg_per_tick=4,
        image_snapshot_ticks=50,
        network_snapshot_ticks=50,
        cudnn_benchmark=True,
        cache="none",
        tf32=False,
        deterministic=False,
        compile="none",
        cuda_graphs=False,
        ops="auto",
        wandb=None,
        checkpoint_minutes=10.0,
        nan_limit=100,
        image_grid=None,
        rebalance=None,
        method="eg3d",
        extra_networks={},
    )
    assert (
        type(found["G_reg_interval"]) is float and type(found["loss_kwargs"]["r1_gamma"]) is float
    )


@pytest.mark.parametrize(
    "option, path, value",
    [
        ("--gen_pose_cond=True", "G_kwargs.rendering_kwargs.c_gen_conditioning_zero", False),
        ("--c-scale=2", "G_kwargs.rendering_kwargs.c_scale", 2.0),
        (
            "--sr_noise_mode=random",
            "G_kwargs.rendering_kwargs.superresolution_noise_mode",
            "random",
        ),
        ("--density_reg=2", "G_kwargs.rendering_kwargs.density_reg", 2.0),
        ("--density_reg=0", "G_reg_interval", None),
        ("--density_reg_every=8", "G_reg_interval", 8.0),
        ("--density_reg_p_dist=0.1", "G_kwargs.rendering_kwargs.density_reg_p_dist", 0.1),
        ("--reg_type=monotonic-fixed", "G_kwargs.rendering_kwargs.reg_type", "monotonic-fixed"),
        ("--decoder_lr_mul=0.5", "G_kwargs.rendering_kwargs.decoder_lr_mul", 0.5),
        ("--plane_axes=orthogonal", "G_kwargs.rendering_kwargs.plane_axes", "orthogonal"),
        ("--map-depth=8", "G_kwargs.mapping_kwargs.num_layers", 8),
        ("--cbase=16384", "D_kwargs.channel_base", 16384),
        ("--cbase=16384", "G_kwargs.sr_kwargs.channel_base", 16384),
        ("--cmax=256", "G_kwargs.channel_max", 256),
        ("--g_num_fp16_res=4", "G_kwargs.num_fp16_res", 4),
        ("--g_num_fp16_res=4", "G_kwargs.conv_clamp", 256),
        ("--sr_num_fp16_res=0", "G_kwargs.sr_num_fp16_res", 0),
        ("--d_num_fp16_res=0", "D_kwargs.num_fp16_res", 0),
        ("--d_num_fp16_res=0", "D_kwargs.conv_clamp", None),
        ("--freezed=10", "D_kwargs.block_kwargs.freeze_layers", 10),
        ("--mbstd-group=2", "D_kwargs.epilogue_kwargs.mbstd_group_size", 2),
        ("--disc_c_noise=1", "D_kwargs.disc_c_noise", 1.0),
        ("--glr=0.1", "G_opt_kwargs.lr", 0.1),
        ("--dlr=0.1", "D_opt_kwargs.lr", 0.1),
        ("--gamma=5", "loss_kwargs.r1_gamma", 5.0),
        ("--style_mixing_prob=0.9", "loss_kwargs.style_mixing_prob", 0.9),
        ("--blur_fade_kimg=400", "loss_kwargs.blur_fade_kimg", 100.0),  # 400 * 8 / 32
        ("--gpc_reg_fade_kimg=0", "loss_kwargs.gpc_reg_fade_kimg", 0),
        (
            "--neural_rendering_resolution_final=128",
            "loss_kwargs.neural_rendering_resolution_final",
            128,
        ),
        ("--mirror=True", "training_set_kwargs.xflip", True),
        ("--seed=7", "training_set_kwargs.random_seed", 7),
        ("--seed=7", "random_seed", 7),
        ("--workers=1", "data_loader_kwargs.num_workers", 1),
        ("--batch-gpu=4", "batch_gpu", 4),
        ("--batch=64", "ema_kimg", 20.0),
        ("--kimg=2", "total_kimg", 2),
        ("--tick=1", "kimg_per_tick", 1),
        ("--snap=3", "image_snapshot_ticks", 3),
        ("--snap=3", "network_snapshot_ticks", 3),
        ("--nobench=True", "cudnn_benchmark", False),
        ("--checkpoint-minutes=0", "checkpoint_minutes", 0.0),
        ("--nan-limit=0", "nan_limit", 0),
        ("--aug=ada", "ada_target", 0.6),
        ("--aug=ada", "augment_kwargs.saturation", 1),
        ("--aug=fixed", "augment_p", 0.2),
        ("--aug=fixed", "augment_kwargs.class_name", "training.augment.AugmentPipe"),
        ("--resume=a.pkl", "resume_pkl", "a.pkl"),
        ("--resume=a.pkl", "ada_kimg", 100),
        ("--resume=a.pkl", "ema_rampup", None),
        ("--resume=a.pkl", "loss_kwargs.blur_init_sigma", 0),
        ("--resume=a.pkl", "loss_kwargs.gpc_reg_fade_kimg", 0),
        (
            "--sr-module=training.superresolution.SuperresolutionHybrid8X",
            "G_kwargs.rendering_kwargs.superresolution_module",
            "training.superresolution.SuperresolutionHybrid8X",
        ),
    ],
)
def test_every_option_arrives(option, path, value):
    def read(config):
        found = asdict(config)
        for key in path.split("."):
            found = None if found is None else found[key]
        return found

    changed = read(configure(option))
    assert changed == value and type(changed) is type(value)
    assert read(configure()) != value


def test_strength_of_augmentation():
    """--p and --target count for one kind each; the published set of operations."""
    ada = configure("--aug=ada", "--p=0.9", "--target=0.3")
    fixed = configure("--aug=fixed", "--p=0.9", "--target=0.3")
    assert (ada.augment_p, ada.ada_target) == (0, 0.3)
    assert (fixed.augment_p, fixed.ada_target) == (0.9, None)
    blit, geometry = ("xflip", "rotate90", "xint"), ("scale", "rotate", "aniso", "xfrac")
    colour = ("brightness", "contrast", "lumaflip", "hue", "saturation")
    operations = dict.fromkeys([*blit, *geometry, *colour], 1)
    assert ada.augment_kwargs == dict(operations, class_name="training.augment.AugmentPipe")


def test_fades_of_a_run_that_starts_from_a_snapshot():
    loss = configure("--gpc_reg_fade_kimg=7").loss_kwargs
    kept = configure("--gpc_reg_fade_kimg=7", "--resume=a.pkl", "--resume_blur=True")
    assert kept.loss_kwargs == loss and (loss["blur_init_sigma"], kept.ada_kimg) == (10, 100)
    for word in ("latest", "none"):
        assert configure(f"--resume={word}") == configure()


def test_other_sizes_take_the_general_superresolution():
    for side in (64, 32):
        rendering = configure(resolution=side).G_kwargs["rendering_kwargs"]
        assert rendering["superresolution_module"] == "training.superresolution.Superresolution"
    named = configure(
        "--sr-module=training.superresolution.SuperresolutionHybrid16XDC", resolution=1024
    )
    assert named.G_kwargs == configure(resolution=1024).G_kwargs


# -- The demo preset ------------------------------------------------------------------------------


def test_demo_fits_the_procedural_dataset():
    rendering = configure(cfg="demo", resolution=64).G_kwargs["rendering_kwargs"]
    assert procedural.PRESET.items() <= rendering.items()
    assert rendering["avg_camera_radius"] == procedural.RADIUS
    assert rendering["avg_camera_focal"] == procedural.FOCAL
    assert rendering["camera_elevation_degrees"] == list(procedural.ELEVATION_DEGREES)
    assert rendering["camera_azimuth_degrees"] == [-180, 180]


def test_demo_needs_no_further_options():
    opts, given = options(cfg="demo")
    assert given == {"cfg", "outdir", "data"}
    assert {name: opts[name] for name in PRESETS["demo"].options} == PRESETS["demo"].options
    configure(cfg="demo", resolution=64)


def test_the_demo_has_no_metrics_unless_asked_for():
    assert options(cfg="demo")[0].metrics == []
    for names in ("fid50k_full", "fid2k_full,is50k"):
        assert options(f"--metrics={names}", cfg="demo")[0].metrics == names.split(",")


@pytest.mark.parametrize("name", [n for n in PRESETS["demo"].options if n != "metrics"])
def test_demo_values_give_way_to_the_user(name):
    """Also where the user asks for what is the general default."""
    value = PRESETS["demo"].options[name]
    other = value * 2
    assert options(f"--{name}={other}", cfg="demo")[0][name] == other
    general = {p.name: p.default for p in train.main.params}[name]
    if general is not None:
        assert options(f"--{name}={general}", cfg="demo")[0][name] == general


def test_preset_options_have_the_types_of_the_command_line():
    kinds = {p.name: p.type for p in train.main.params}
    for preset in PRESETS.values():
        for name, value in preset.options.items():
            if name == "metrics":  # a callback makes a list of it
                continue
            converted = kinds[name].convert(value, None, None)
            assert converted == value and type(converted) is type(value)


# -- Names of runs --------------------------------------------------------------------------------


def test_runs_are_numbered(tmp_path):
    assert Path(configure(outdir=tmp_path / "none").run_dir).name.startswith("00000-ffhq-FFHQ_512-")
    for name in ("00003-a", "12-b", "notes", "x00099"):
        (tmp_path / name).mkdir()
    (tmp_path / "00077-a-file").touch()
    config = configure("--desc=try", "--gamma=0.30", "--batch=16", outdir=tmp_path, cfg="afhq")
    expected = tmp_path / "00013-afhq-FFHQ_512-gpus1-batch16-gamma0.3-try"
    assert config.run_dir == str(expected) and not expected.exists()
    (tmp_path / "123456-long").mkdir()
    assert Path(configure(outdir=tmp_path).run_dir).name.startswith("123457-ffhq-")


@pytest.mark.parametrize(
    "gamma, text", [("1", "1"), ("0.3", "0.3"), ("10.0", "10"), ("0.00001", "1e-05")]
)
def test_gamma_in_names_is_short(gamma, text):
    assert configure(f"--gamma={gamma}").run_dir.endswith(f"-gamma{text}")


# -- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--checkpoint-minutes=inf"], ["--checkpoint_minutes=inf", "finite"]),
        (["--reg_type=l1-alt"], ["--reg_type=l1-alt", "l1, monotonic-detach"]),
        (["--reg_type=total-variation"], ["--reg_type=total-variation"]),
        (["--gpc_reg_prob=1.5"], ["--gpc_reg_prob=1.5", "from 0 to 1"]),
        (["--decoder_lr_mul=0"], ["--decoder_lr_mul=0.0", "above 0"]),
        (["--cond=False", "--gen_pose_cond=True"], ["--gen_pose_cond=True", "--cond=False"]),
        (["--density_reg_every=2.5"], ["--density_reg_every=2.5", "whole number"]),
        (["--gamma=inf"], ["--gamma=inf", "finite"]),
        (["--dlr=nan"], ["--dlr=nan", "finite"]),
        (["--desc=a/b"], ["--desc=a/b", "slashes"]),
        (["--batch-gpu=3"], ["--batch=8", "--gpus=1 x --batch-gpu=3"]),
        (["--batch=2"], ["--batch-gpu=2", "--mbstd-group=4"]),
        (["--mbstd-group=3"], ["--batch-gpu=8", "--mbstd-group=3"]),
        (["--cbase=255"], ["--cbase=255", "512"]),
        (["--sr-module=no.such"], ["--sr-module=no.such", "training.superresolution.Super"]),
        (["--sr-module=training.superresolution.No"], ["--sr-module", "No"]),
        (
            ["--sr-module=training.superresolution.SuperresolutionHybrid4X"],
            ["--sr-module", "256", "512", "any size"],
        ),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_options_that_cannot_be_used(arguments, words):
    with pytest.raises(OptionError) as error:
        configure(*arguments)
    assert "\n" not in str(error.value)
    assert not [word for word in words if word not in str(error.value)], error.value


def test_operators_that_cannot_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(OptionError, match="^--ops=triton: needs a CUDA device, .* has none; --ops"):
        configure("--ops=triton")
    assert configure("--ops=triton", "--launch=slurm").ops == "triton"
    monkeypatch.setenv("EG3D_OPS", "fast")
    with pytest.raises(OptionError, match="^EG3D_OPS must be one of auto, torch, triton, not"):
        configure()


@pytest.mark.parametrize(
    "data, words",
    [
        (dict(label_dim=0), ["no cameras", "dataset.json"]),
        (dict(label_dim=10), ["10 numbers", "25"]),
        (dict(num_channels=1), ["3 channels"]),
        (dict(num_channels=4), ["3 channels"]),
        (dict(resolution=96), ["96 pixels", "power of two"]),
        (dict(resolution=16), ["16 pixels", "from 32 to 1024"]),
        (dict(resolution=2048), ["2048 pixels", "from 32 to 1024"]),
    ],
    ids=str,
)
def test_data_that_cannot_be_used(data, words):
    with pytest.raises(OptionError, match="--data=faces.zip") as error:
        configure(**data)
    assert not [word for word in words if word not in str(error.value)], error.value


def test_batch_must_divide_by_gpus():
    opts, _ = options("--gpus=3", "--batch=8")
    with pytest.raises(OptionError, match="--batch=8: must be a multiple of --gpus=3"):
        configuration.check_batch(opts)
    opts, _ = options("--gpus=2", "--batch=16")
    assert configuration.check_batch(opts) == 8


@pytest.mark.parametrize("name", ["gpus", "batch", "gamma"])
def test_required_options(name):
    values = dict(method="eg3d", cfg="ffhq", gpus=1, batch=8, gamma=1.0)
    with pytest.raises(OptionError, match=f"--{name} is required with --cfg=ffhq"):
        with_preset(dict(values, **{name: None}), set())


def test_outdir_must_be_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="--outdir=.*file: is a file"):
        configure(outdir=tmp_path / "file")


@pytest.mark.parametrize(
    "idle, partners",
    [
        ("--p=0.5", ["--aug=fixed"]),
        ("--target=0.5", ["--aug=ada"]),
        ("--resume_blur=True", ["--resume=a.pkl"]),
        ("--gpc_reg_prob=0.8", ["--gen_pose_cond=True"]),
        ("--gpc_reg_fade_kimg=8", ["--gen_pose_cond=True"]),
        ("--c-scale=0.5", ["--gen_pose_cond=True"]),
        (
            "--neural_rendering_resolution_fade_kimg=8",
            ["--neural_rendering_resolution_final=128"],
        ),
        ("--density_reg_p_dist=1", []),
        ("--c-noise=1", None),
        ("--sr_first_cutoff=3", None),
        ("--sr_first_stopband=5", None),
    ],
)
def test_options_without_effect_are_named(idle, partners):
    """Alone where they need another option; partners None: always."""
    name = idle.split("=")[0].replace("c-", "c_")
    if partners != []:
        (line,) = idle_options(*options(idle))
        assert line.startswith(f"{name}: has no effect")
    if partners is not None:
        assert idle_options(*options(idle, *partners)) == []


def test_regulariser_options_without_a_regulariser_are_named():
    given = ["--density_reg_every=8", "--reg_type=l1", "--density_reg_p_dist=1"]
    assert idle_options(*options(*given)) == []
    assert len(idle_options(*options("--density_reg=0", *given))) == 3
    other = options("--reg_type=monotonic-fixed", "--density_reg_p_dist=1")
    assert len(idle_options(*other)) == 1
    assert idle_options(*options()) == []


def test_description_is_complete():
    config = replace(configure("--mirror=True"), run_dir="here")
    text = configuration.describe(config)
    start, end = text.index("{"), text.rindex("}") + 1
    assert json.loads(text[start:end]) == json.loads(json.dumps(asdict(config)))
    for words in ("here", "8 images", "25000 kimg", "faces.zip", "70000 images", "512", "True"):
        assert words in text[end:]
