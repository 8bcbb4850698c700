"""Checkpoint files: whatever happens to the newest one, a good one is read, and what is wrong is
said."""

import errno
import os
import random
import resource

import pytest
import torch

from training import checkpoints
from training.checkpoints import (
    CheckpointError,
    Clock,
    Progress,
    is_intact,
    list_checkpoints,
    read_newest,
    remove_leftovers,
    write_checkpoint,
)


class Part:
    """A part of a run: one tensor."""

    def __init__(self, size=100):
        self.value = torch.randn(size)

    def state_dict(self):
        return dict(value=self.value)

    def load_state_dict(self, state):
        self.value = state["value"]


def progress(nimg=0, **parts):
    result = Progress(parts or dict(net=Part()))
    result.nimg = nimg
    return result


def write(folder, *counts, keep=2):
    return [write_checkpoint(folder, progress(nimg).state_dict(), keep) for nimg in counts]


def test_what_is_written_is_read(tmp_path):
    before = progress(nimg=12, a=Part(), b=Part(7))
    before.tick, before.tick_nimg, before.batch_idx = 2, 8, 3
    path = write_checkpoint(tmp_path, before.state_dict())
    after = progress(a=Part(), b=Part(7))
    found = read_newest(tmp_path)
    after.load_state_dict(found.state)
    assert found.path == path and path.name.startswith("checkpoint-000000000012-")
    assert (after.nimg, after.tick, after.tick_nimg, after.batch_idx) == (12, 2, 8, 3)
    for name in ("a", "b"):
        assert torch.equal(after.parts[name].value, before.parts[name].value)
    assert torch.load(path, weights_only=True)["format"] == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_ticks():
    now = progress()
    assert not now.tick_is_over(0)  # Nothing has been shown.
    now.nimg = 4
    assert now.tick_is_over(100)  # The first tick is one iteration.
    now.end_tick()
    for nimg, over in ((8, False), (103, False), (104, True)):
        now.nimg = nimg
        assert now.tick_is_over(100) is over


def test_the_newest_are_kept(tmp_path):
    write(tmp_path, 0, 4, 8, 1000000000004)
    assert [p.name[:23] for p in list_checkpoints(tmp_path)] == [
        "checkpoint-100000000000",
        "checkpoint-000000000008",
    ]
    write(tmp_path, 1000000000008, keep=1)
    (only,) = list_checkpoints(tmp_path)
    assert "1000000000008-" in only.name
    assert read_newest(tmp_path).state["counters"]["nimg"] == 1000000000008


def test_what_is_ahead_goes(tmp_path):
    """A damaged checkpoint does not push out the good ones that are written after it."""
    older, damaged = write(tmp_path, 4, 8)
    damaged.write_bytes(b"")
    (newer,) = write(tmp_path, 6)
    assert set(list_checkpoints(tmp_path)) == {older, newer}


def test_two_of_one_moment(tmp_path):
    """As a run writes them that was killed after its last iteration and repeats it."""
    first, second = write(tmp_path, 4, 4)
    os.utime(first, ns=(1, 1))
    assert read_newest(tmp_path).path == second and first.exists()


def assert_older_is_used(folder, older, broken, capsys, *words):
    assert read_newest(folder).path == older
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and broken.name in lines[0], lines
    assert not [word for word in words if word not in lines[0]], lines


def test_truncated(tmp_path, capsys):
    older, newer = write(tmp_path, 4, 8)
    content = newer.read_bytes()
    lengths = {0, 1, 2, len(content) - 1, len(content) // 2}
    lengths |= {len(content) * i // 50 for i in range(50)}
    for length in sorted(lengths):
        newer.write_bytes(content[:length])
        assert not is_intact(newer)
        assert_older_is_used(tmp_path, older, newer, capsys, "damaged", f"{length} bytes", "before")
    newer.write_bytes(content)
    assert read_newest(tmp_path).path == newer and is_intact(newer)


def test_a_flipped_bit(tmp_path, capsys):
    older, newer = write(tmp_path, 4, 8)
    content = bytearray(newer.read_bytes())
    for position in random.Random(0).sample(range(len(content) * 8), 300):
        content[position // 8] ^= 1 << position % 8
        newer.write_bytes(content)
        assert_older_is_used(tmp_path, older, newer, capsys, "damaged", "hash in its name")
        content[position // 8] ^= 1 << position % 8


def test_wrong_names(tmp_path, capsys):
    older, newer = write(tmp_path, 4, 8)
    renamed = newer.rename(tmp_path / f"checkpoint-000000000012-{'0' * 16}.pt")
    assert_older_is_used(tmp_path, older, renamed, capsys, "damaged")
    renamed.rename(tmp_path / "checkpoint-mine.pt")  # No name of ours at all.
    assert read_newest(tmp_path).path == older and not capsys.readouterr().err


def test_intact_but_not_ours(tmp_path, capsys):
    """Files that match their names and are something else, or of another version."""
    (older,) = write(tmp_path, 4)
    for content, words in (([], ["opened"]), ({}, ["opened"]), ({"format": 0}, ["format 0"])):
        other = tmp_path / "other"
        torch.save(content, other)
        digest = checkpoints._sha256(other)
        other = other.rename(tmp_path / f"checkpoint-000000000008-{digest[:16]}.pt")
        assert_older_is_used(tmp_path, older, other, capsys, *words)
        other.unlink()


def test_none_is_left(tmp_path, capsys):
    assert read_newest(tmp_path) is None and not capsys.readouterr().err
    (path,) = write(tmp_path, 4)
    path.write_bytes(b"x")
    assert read_newest(tmp_path) is None and path.name in capsys.readouterr().err


def test_other_parts_are_refused():
    with pytest.raises(CheckpointError, match=r"other parts \(ada, net\)"):
        progress(ada=Part()).load_state_dict(progress(net=Part()).state_dict())


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_full_disk_leaves_the_older_ones(tmp_path, share):
    """Full at any byte of the file, as far as a limit on the size of files is like a full disk."""
    big = progress(nimg=12, net=Part(100_000)).state_dict()
    whole = write_checkpoint(tmp_path, big)
    size = whole.stat().st_size
    whole.unlink()
    write(tmp_path, 4, 8)
    before = sorted(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), limits[1]))
    try:
        with pytest.raises(OSError) as error:
            write_checkpoint(tmp_path, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.errno == errno.EFBIG and ".checkpoint-000000000012." in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_disk_that_changes_bytes(tmp_path, monkeypatch):
    write(tmp_path, 4)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(checkpoints, "_sha256", lambda path: "0" * 64)
    with pytest.raises(OSError, match="other bytes"):
        write(tmp_path, 8)
    assert sorted(tmp_path.iterdir()) == before


def test_leftovers_of_killed_processes(tmp_path):
    (path,) = write(tmp_path, 4)
    for name in (".checkpoint-000000000008.123.part", ".network-snapshot-000000.pkl.123.part"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_when_one_is_due(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    clock, always = Clock(minutes=2), Clock(minutes=0)
    assert always.due() and always.due()
    for seconds, due in ((219, False), (220, True), (221, False), (339, False), (341, True)):
        now[0] = seconds
        assert clock.due() is due
