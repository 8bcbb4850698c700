"""H.264 videos that play everywhere."""

from collections.abc import Generator, Iterable
from itertools import chain
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from dnnlib.util import replacing

# Constant quality, visually lossless; 4:2:0 in the BT.709 colours that players expect, declared;
# the index first, so that browsers start at once; no encoder version, so that files repeat.
_OUTPUT = ["-f", "mp4", "-crf", "16", "-preset", "medium", "-movflags", "+faststart"]
_OUTPUT += ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"]
_OUTPUT += ["-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
_OUTPUT += ["-fflags", "+bitexact", "-flags:v", "+bitexact"]


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float = 30) -> None:
    """Writes frames uint8 [H, W, 3] as an mp4 (H.264, yuv420p); it appears only when complete.

    Sides must be even for this format: an odd one gets its last row or column twice. Raises
    ValueError for wrong frames or none, OSError where the encoder fails.
    """
    if not fps > 0:
        raise ValueError(f"{path}: fps is {fps}, must be above 0")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: a video needs at least one frame")
    with replacing(path) as temporary:
        count = _encode(temporary, first, frames, fps)
        try:
            written, _ = imageio_ffmpeg.count_frames_and_secs(str(temporary))
        except RuntimeError:
            written = 0
        if written != count:
            raise OSError(f"{path}: the encoder wrote {written} of {count} frames")


def _encode(path: Path, first: np.ndarray, rest: Iterable[np.ndarray], fps: float) -> int:
    height, width = (side + side % 2 for side in first.shape[:2])
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (width, height),
        fps=fps,
        quality=None,
        codec="libx264",
        macro_block_size=1,
        ffmpeg_log_level="error",
        output_params=list(_OUTPUT),
    )
    count = 0
    try:
        writer.send(None)
        for frame in chain([first], rest):
            _send(writer, _even(frame, first.shape))
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


def _even(frame: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != shape:
        raise ValueError(
            f"frame of shape {frame.shape}, {frame.dtype}; all must be uint8 [H, W, 3] of one size"
        )
    odd = [(0, shape[0] % 2), (0, shape[1] % 2), (0, 0)]
    return np.ascontiguousarray(np.pad(frame, odd, mode="edge"))
