"""Every option of train.py that all methods know reaches the configuration and then the training:
tests/option_effects.py has a row for each, docs/options_effects.md shows them."""

import pytest

import train
from dataset_preprocessing.procedural import make_dataset
from tests.classes import add_classes
from tests.option_effects import OTHER_DATA, ROWS, SNAPSHOT, changed_fields
from tests.tiny_runs import Workshop
from tests.write_options_table import PAGE, table


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for seed in range(2):
        make_dataset(folder / f"cars{seed}.zip", num_images=12, resolution=32, seed=seed)
        add_classes(folder / f"cars{seed}.zip")
    return Workshop(tmp_path_factory.mktemp("runs"), folder / "cars0.zip")


def named(workshop, argument):
    """The argument with files in place of their stand-ins."""
    if SNAPSHOT in argument:
        run_dir = workshop.trial().run.run_dir
        argument = argument.replace(SNAPSHOT, str(run_dir / "network-snapshot-000000.pkl"))
    return argument.replace(OTHER_DATA, str(workshop.data.with_name("cars1.zip")))


def test_every_option_has_a_row():
    """Of those that methods share; the others, and --method itself, have tests of their own."""
    elsewhere = {"--method", *(row[0] for row in train.OF_METHODS)}
    options = [p.opts[-1] for p in train.main.params if p.opts[-1] not in elsewhere]
    assert sorted(row.option for row in ROWS) == sorted(options)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # of NaN, for --nan-limit
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.argument)
def test_option_has_an_effect(row, workshop):
    partners = [named(workshop, partner) for partner in row.partners]
    plain = workshop.trial(*partners)
    changed = workshop.trial(*partners, named(workshop, row.argument))
    assert bool(changed_fields(row)) == row.fields
    assert row.proof.look(plain) != row.proof.look(changed)


def test_nothing_differs_without_an_option(workshop):
    """Else the rows would prove nothing: two trainings of one command look alike in every proof."""
    arguments = ["--kimg=3", "--aug=ada", "--gen_pose_cond=True", "--sr_noise_mode=random"]
    again = Workshop(workshop.folder, workshop.data)
    one, other = workshop.trial(*arguments), again.trial(*arguments)
    for proof in {row.proof.words: row.proof for row in ROWS}.values():
        assert proof.look(one) == proof.look(other), proof.words


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == table(), "python -m tests.write_options_table"
