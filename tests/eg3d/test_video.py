"""Videos are decoded again and compared with what went in."""

import imageio_ffmpeg
import numpy as np
import pytest

from eg3d.video import write_video


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


def test_same_frames_give_the_same_bytes(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, movie(4, 32, 32))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def broken_frames():
    yield from movie(3, 32, 32)
    raise KeyboardInterrupt


def changing_frames():
    yield from movie(2, 32, 32)
    yield from movie(2, 32, 34)


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
def test_after_an_error_the_old_file_stays(tmp_path, frames, error):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(error):
        write_video(path, frames())
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"old"


def test_failing_encoder_is_an_error(tmp_path):
    with pytest.raises(OSError, match="encoder"):
        write_video(tmp_path / "a.mp4", movie(3, 32, 40000), fps=10)  # wider than H.264 allows
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan")])
def test_bad_fps(tmp_path, fps):
    with pytest.raises(ValueError, match="fps"):
        write_video(tmp_path / "a.mp4", movie(1, 8, 8), fps)
