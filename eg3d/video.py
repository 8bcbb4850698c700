"""Files of videos: frames go to the encoder as they come; a file appears when it is complete."""

import re
import shutil
import signal
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import PIL.Image

from dnnlib.util import replacing
from eg3d.errors import InputError

FORMATS = ("mp4", "gif", "webp", "png")
_FRAME_NAME = re.compile(r"\d+\.png")


@dataclass(frozen=True)
class _Encoder:
    """What ffmpeg is told: codec, pixel format, further options; and whether sides must be even."""

    codec: str
    pixels: str
    options: str
    even: bool = False


# No encoder version in any file, so that files repeat.
_ENCODERS = {
    # Constant quality, visually lossless; 4:2:0 in the BT.709 colours that players expect,
    # declared; the index first, so that browsers start at once.
    ".mp4": _Encoder(
        "libx264",
        "yuv420p",
        "-f mp4 -crf 16 -preset medium -movflags +faststart "
        "-vf scale=out_color_matrix=bt709:out_range=tv -colorspace bt709 "
        "-color_primaries bt709 -color_trc bt709 -color_range tv",
        even=True,
    ),
    # A palette for each frame: one for all would need all frames first.
    ".gif": _Encoder(
        "gif",
        "pal8",
        "-f gif -loop 0 -vf split[a][b];[a]palettegen=stats_mode=single[p];"
        "[b][p]paletteuse=new=1:dither=bayer:bayer_scale=4",
    ),
    ".webp": _Encoder("libwebp_anim", "yuv420p", "-f webp -loop 0 -quality 90"),
}
_MOST_FPS = {".gif": 50, ".webp": 1000}  # Faster ones, players slow down or files cannot say.


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float = 30) -> None:
    """Writes frames uint8 [H, W, 3]; what was at `path` is replaced when all are written.

    The ending says how: .mp4 (H.264, yuv420p), .gif, .webp (which merges frames that are the same),
    or none: a folder with 0000.png, 0001.png, ... Sides of an mp4 must be even: an odd one gets its
    last row or column twice. SIGTERM ends the program in order: nothing is left behind.

    Raises ValueError for an unknown ending, wrong frames or none, OSError where the encoder fails
    or the folder has other files.
    """
    path = Path(path)
    check(path, fps)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: a video needs at least one frame")
    frames = (_checked(frame, first.shape) for frame in chain([first], frames))
    with _ended_in_order(), replacing(path) as temporary:
        if path.suffix:
            count = _encode(temporary, first.shape, frames, fps, _ENCODERS[path.suffix])
            if not _holds(temporary, path.suffix, count):
                raise OSError(f"{path}: the encoder did not write all of the {count} frames")
        else:
            _write_pictures(path, temporary, frames)


def check(path: Path, fps: float) -> None:
    """Raises what `write_video` would raise before the first frame: InputError or OSError."""
    if path.suffix and path.suffix not in _ENCODERS:
        endings = ", ".join(_ENCODERS)
        raise InputError(f"{path}: must end in {endings}, or in nothing for a folder of PNG files")
    most = _MOST_FPS.get(path.suffix, float("inf"))
    if not 0 < fps <= most:
        limit = f" and at most {most}" if path.suffix in _MOST_FPS else ""
        raise InputError(f"{path}: fps is {fps:g}, must be above 0{limit}")
    if not path.suffix and path.exists():
        others = [p.name for p in path.iterdir() if not _FRAME_NAME.fullmatch(p.name)]
        if others:
            raise OSError(f"{path}: is no folder of frames only, {others[0]} is there; move it")


def _checked(frame: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != shape:
        raise ValueError(
            f"frame of shape {frame.shape}, {frame.dtype}; all must be uint8 [H, W, 3] of one size"
        )
    return frame


def _encode(
    path: Path, shape: tuple[int, ...], frames: Iterable[np.ndarray], fps: float, encoder: _Encoder
) -> int:
    """Returns the number of frames."""
    odd = [side % 2 if encoder.even else 0 for side in shape[:2]]
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (shape[1] + odd[1], shape[0] + odd[0]),
        fps=fps,
        quality=None,
        codec=encoder.codec,
        pix_fmt_out=encoder.pixels,
        macro_block_size=1,
        ffmpeg_log_level="error",
        output_params=f"{encoder.options} -fflags +bitexact -flags:v +bitexact".split(),
    )
    count = 0
    try:
        writer.send(None)
        for frame in frames:
            frame = np.pad(frame, [(0, odd[0]), (0, odd[1]), (0, 0)], mode="edge")
            _send(writer, np.ascontiguousarray(frame))
            count += 1
    finally:
        writer.close()
    return count


def _send(writer: Generator, frame: np.ndarray) -> None:
    try:
        writer.send(frame)
    except OSError as error:  # Its message holds the whole command, over several lines.
        reason = str(error).strip().splitlines()[0]
        raise OSError(f"the video encoder stopped: {reason}") from error


def _holds(path: Path, ending: str, count: int) -> bool:
    """Whether the file has the frames; WebP merges those that are the same."""
    try:
        if ending == ".mp4":
            return imageio_ffmpeg.count_frames_and_secs(str(path))[0] == count
        with PIL.Image.open(path) as picture:
            found = picture.n_frames
    except (RuntimeError, OSError):
        return False
    return found == count or (ending == ".webp" and 0 < found < count)


def _write_pictures(folder: Path, temporary: Path, frames: Iterable[np.ndarray]) -> None:
    """Fills `temporary`, then makes room for it at `folder`."""
    temporary.mkdir()
    try:
        for index, frame in enumerate(frames):
            PIL.Image.fromarray(frame).save(temporary / f"{index:04d}.png")
    except BaseException:
        shutil.rmtree(temporary)
        raise
    if folder.exists():
        shutil.rmtree(folder)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Within the block SIGTERM raises SystemExit, so that temporary files go away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
