"""docs/options.md names every option that methods share with its default, and every key of
rendering_kwargs that they share. What one method alone has is on the method's page."""

import json
import re
from dataclasses import MISSING, fields

import pytest

import train
from tests.markdown_tables import read_page, tables
from training import config as configuration
from training import methods
from training.presets import PRESETS
from training.volumetric_rendering.options import RenderingOptions

PAGE = read_page("options.md")


class AnyData:
    """As much of a dataset as a configuration needs."""

    name, resolution, label_dim, num_channels, has_labels = "data", 512, 25, 3, True

    def __len__(self):
        return 1


ROWS = tables(PAGE)
OF_METHODS = {row[0] for row in train.OF_METHODS}
OPTIONS = {p.opts[-1]: p for p in train.main.params if p.opts[-1] not in OF_METHODS}
# Names of other methods, and of their presets, are on their own pages.
CHOICES = {"--method": {methods.DEFAULT}, "--cfg": set(PRESETS)}


def parse(*arguments):
    line = ["--outdir=o", "--data=d", "--gpus=1", "--batch=8", "--gamma=1", *arguments]
    return train.main.make_context("train", line).params


def rendering(cfg):
    """rendering_kwargs of a preset, all options at their general defaults."""
    params = parse(f"--cfg={cfg}")
    config = configuration.build_config(configuration.with_preset(params, set(params)), AnyData())
    return config.G_kwargs["rendering_kwargs"]


def test_options_and_no_others_have_rows():
    assert {name for name in ROWS if name.startswith("--")} == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_default_of_an_option(name):
    option, text = OPTIONS[name], ROWS[name]["default"]
    special = {"--batch-gpu": "batch / gpus", "--dry-run": "off"}
    special["--ada-kimg"] = "500"
    if name in special:
        assert text == special[name]
    elif option.required or name in ("--gpus", "--batch", "--gamma"):
        assert text == "required"
    elif isinstance(option.default, float):
        assert float(text) == pytest.approx(option.default, abs=1e-4)
    else:
        assert text == ("" if option.default is None else str(option.default))
    assert len(ROWS[name]["meaning"]) > 5


@pytest.mark.parametrize("name", [n for n, p in OPTIONS.items() if hasattr(p.type, "choices")])
def test_choices_of_an_option(name):
    choices = CHOICES.get(name, OPTIONS[name].type.choices)
    missing = [choice for choice in choices if f"`{choice}`" not in PAGE]
    assert not missing


@pytest.mark.parametrize("cfg", PRESETS)
def test_keys_of_a_preset(cfg):
    """The published presets with their values; the demo's are in the code alone."""
    found = rendering(cfg)
    assert set(found) <= set(ROWS)
    varies = {"by size", "of the data"}
    for key in [key for key, row in ROWS.items() if cfg in row]:
        text = ROWS[key][cfg]
        if key not in found:
            assert text == "", key
        elif text not in varies:
            value = found[key]
            shown = json.dumps(value) if isinstance(value, list) else f"{value}"
            shown = f"{value:.10g}" if isinstance(value, float) else shown
            assert text == shown, key


def test_defaults_of_the_renderer():
    for field in fields(RenderingOptions):
        text = ROWS[field.name]["default"]
        if field.default is MISSING:
            assert text == "required", field.name
        else:
            assert text == (f"{field.default:g}" if field.type is float else str(field.default))


def test_recipes_are_commands():
    recipes = re.findall(r"^\|.*`(--cfg=.*)` \|$", PAGE, flags=re.MULTILINE)
    assert len(recipes) == 6
    for recipe in recipes:
        params = parse("--gpus=8", "--batch=32", *recipe.split())
        assert f"--cfg={params['cfg']}" in recipe and f"--gamma={params['gamma']:g}" in recipe
