"""Videos are decoded again and compared with what went in; nothing is left of interrupted ones."""

import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import PIL.Image
import pytest

from eg3d.errors import InputError
from eg3d.video import write_video

ENDINGS = [".mp4", ".gif", ".webp", ""]


def decode(path):
    """(what ffmpeg says about the file, frames uint8 [T, H, W, 3])."""
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    frames = [np.frombuffer(f, dtype=np.uint8).reshape(height, width, 3) for f in reader]
    return about, np.stack(frames)


def movie(count, height, width):
    """A bright patch that moves over colour gradients: smooth, so that compression keeps it."""
    y, x = np.mgrid[:height, :width]
    base = np.stack([60 + 100 * x / width, 60 + 100 * y / height, np.full(x.shape, 120.0)], -1)
    for t in range(count):
        near = np.exp(-((x - width * t / count) ** 2 + (y - height / 2) ** 2) / 50)
        yield (base + 60 * near[..., None]).astype(np.uint8)


def test_video_plays_everywhere_and_looks_right(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, movie(11, 48, 64), fps=24)
    about, frames = decode(path)
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p(tv, bt709")
    assert about["fps"] == 24 and about["size"] == (64, 48)
    expected = np.stack(list(movie(11, 48, 64))).astype(int)
    assert frames.shape == expected.shape
    assert np.abs(frames - expected).mean() < 3 and np.abs(frames - expected).max() < 30
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert list(tmp_path.iterdir()) == [path]


def test_odd_sizes_are_padded_not_resized(tmp_path):
    write_video(tmp_path / "a.mp4", movie(2, 33, 47), fps=10)
    about, frames = decode(tmp_path / "a.mp4")
    assert about["size"] == (48, 34)
    expected = np.stack(list(movie(2, 33, 47))).astype(int)
    assert np.abs(frames[:, :33, :47] - expected).mean() < 4
    assert np.abs(frames[:, 33].astype(int) - frames[:, 32]).mean() < 6


def pictures_of(path):
    """(frames uint8 [T, H, W, 3], milliseconds of each) of a .gif or .webp file."""
    frames, times = [], []
    with PIL.Image.open(path) as file:
        for index in range(file.n_frames):
            file.seek(index)
            frames.append(np.asarray(file.convert("RGB")))
            times.append(file.info["duration"])
    return np.stack(frames), times


@pytest.mark.parametrize("ending, error", [(".gif", 6), (".webp", 3)])
def test_animated_pictures(tmp_path, ending, error):
    path = tmp_path / f"a{ending}"
    write_video(path, movie(7, 33, 47), fps=25)
    frames, times = pictures_of(path)
    expected = np.stack(list(movie(7, 33, 47))).astype(int)
    assert frames.shape == expected.shape and times == [40] * 7
    assert np.abs(frames - expected).mean() < error
    with PIL.Image.open(path) as file:
        assert file.format == ending[1:].upper() and file.info["loop"] == 0  # for ever
    assert list(tmp_path.iterdir()) == [path]


def test_webp_merges_frames_that_are_the_same(tmp_path):
    first, second = movie(2, 16, 16)
    write_video(tmp_path / "a.webp", [first, first, first, second], fps=10)
    frames, times = pictures_of(tmp_path / "a.webp")
    assert len(frames) == 2 and times == [300, 100]


def test_folder_of_frames(tmp_path):
    folder = tmp_path / "a"
    for count in (12, 4):  # the second one replaces the first
        write_video(folder, movie(count, 9, 13))
        names = sorted(path.name for path in folder.iterdir())
        assert names == [f"{index:04d}.png" for index in range(count)]
        for name, frame in zip(names, movie(count, 9, 13), strict=True):
            assert np.array_equal(PIL.Image.open(folder / name), frame)
    assert list(tmp_path.iterdir()) == [folder]


def test_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OSError, match=r"no folder of frames only, notes\.txt is there"):
        write_video(tmp_path, movie(2, 8, 8))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        write_video(tmp_path / "file", movie(2, 8, 8))


@pytest.mark.parametrize("ending", ENDINGS)
def test_same_frames_give_the_same_bytes(tmp_path, ending):
    for name in "ab":
        write_video(tmp_path / (name + ending), movie(4, 32, 32))
    one, two = ([p for p in sorted(tmp_path.rglob(f"{name}*"))] for name in "ab")
    one, two = (sorted(p.rglob("*")) if p.is_dir() else [p] for p in (one[0], two[0]))
    assert len(one) == len(two) == (1 if ending else 4)
    for path, other in zip(one, two, strict=True):
        assert path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_frames_are_not_kept(tmp_path, ending):
    """However long the video: of the frames that were given, at most three are still there."""
    alive, most = weakref.WeakSet(), 0

    class Frame(np.ndarray):
        __hash__ = object.__hash__

    def counted():
        nonlocal most
        for frame in movie(20, 16, 16):
            frame = frame.view(Frame)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    write_video(tmp_path / f"a{ending}", counted())
    assert most <= 3


SLOW = """
import sys, time, numpy as np
from eg3d.video import write_video

def frames():
    for _ in range(1000):
        yield np.zeros((16, 16, 3), dtype=np.uint8)
        time.sleep(0.02)

write_video(sys.argv[1], frames())
"""


@pytest.mark.parametrize("ending", [".mp4", ""])
@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_killed_program_leaves_nothing(tmp_path, ending, number, status):
    command = [sys.executable, "-c", SLOW, tmp_path / f"a{ending}"]
    running = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    for _ in range(600):
        if list(tmp_path.iterdir()):
            break
        time.sleep(0.05)
    assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
    running.send_signal(number)
    assert running.wait(60) == status and list(tmp_path.iterdir()) == []


def broken_frames():
    yield from movie(3, 32, 32)
    raise KeyboardInterrupt


def changing_frames():
    yield from movie(2, 32, 32)
    yield from movie(2, 32, 34)


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
@pytest.mark.parametrize(
    "frames, error",
    [
        (broken_frames, KeyboardInterrupt),
        (changing_frames, ValueError),
        (lambda: iter([]), ValueError),
        (lambda: [np.zeros((8, 8, 3))], ValueError),
        (lambda: [np.zeros((8, 8), dtype=np.uint8)], ValueError),
    ],
)
def test_after_an_error_the_old_file_stays(tmp_path, frames, error, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"old")
    with pytest.raises(error):
        write_video(path, frames())
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"old"


def test_after_an_error_the_old_folder_stays(tmp_path):
    write_video(tmp_path / "a", movie(2, 8, 8))
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a", broken_frames())
    assert len(list((tmp_path / "a").iterdir())) == 2 and len(list(tmp_path.iterdir())) == 1


def test_failing_encoder_is_an_error(tmp_path):
    with pytest.raises(OSError, match="encoder"):
        write_video(tmp_path / "a.mp4", movie(3, 32, 40000), fps=10)  # wider than H.264 allows
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, fps, words",
    [
        ("a.mp4", 0, "fps is 0, must be above 0"),
        ("a.mp4", -1, "fps"),
        ("a", float("nan"), "fps"),
        ("a.gif", 60, "fps is 60, must be above 0 and at most 50"),
        ("a.avi", 30, r"a\.avi: must end in \.mp4, \.gif, \.webp"),
    ],
)
def test_bad_name_or_fps(tmp_path, name, fps, words):
    with pytest.raises(InputError, match=words):
        write_video(tmp_path / name, movie(1, 8, 8), fps)
