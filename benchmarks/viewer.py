"""How fluid the viewer is: frames a second, time from a camera's change to its frame, bytes.

python -m benchmarks.viewer --network=SNAPSHOT [--seconds=10] [--repeats=40] [--mbit=20]
    [--delay=0.02] [--device=cpu] [--threads=2] [--json=out/viewer.json]

The receiver is a program that speaks the protocol of the browser's page and draws nothing, in the
same process: what is measured is what the viewer can do, and what a browser adds depends on its
machine. `moving` turns the camera steadily; `first frame` moves it once after a rest, and waits;
`still` is the time until the picture at full quality. With --mbit and --delay (seconds) frames
take the time that such a way to the browser would need.
"""

import math
import time
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.common import machine, table, write_json
from benchmarks.viewer_robot import Robot
from eg3d.viewer.app import Options, Viewer
from eg3d.viewer.client import Client
from eg3d.viewer.delivery import Encoding
from eg3d.viewer.session import Frame
from eg3d.viewer.studio import Studio


def moving(robot: Robot, client: Client, seconds: float) -> dict[str, float]:
    """Frames a second, latency and bytes while the camera turns."""
    robot.wait_for_rest()  # so that frames and what was sent are counted alike
    shown = watch(client)
    robot.frames.clear()
    robot.sent.clear()
    start = time.perf_counter()
    robot.drag(seconds)
    frames = [frame for frame in robot.frames if frame.time > start]
    poses = {round(pose, 4): when for when, pose in robot.sent}
    latencies = []
    for frame, azimuth in zip(robot.frames, shown, strict=False):
        when = poses.get(round(azimuth % (2 * math.pi), 4))
        if when is not None:
            latencies.append(frame.time - when)
    sizes = [len(frame.jpeg) for frame in frames]
    rate = (len(frames) - 1) / (frames[-1].time - frames[0].time)
    return dict(frames_per_second=rate, **_milliseconds(latencies), kilobytes=_mean(sizes) / 1024)


def first_frames(robot: Robot, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Time from a move after a rest to its first frame, and to the one at full quality."""
    first, still = [], []
    for index in range(repeats):
        robot.wait_for_rest()
        count, start = len(robot.frames), time.perf_counter()
        robot.look(0.3 + 0.1 * index)
        robot.wait_for(lambda: len(robot.frames) > count)  # noqa: B023
        first.append(robot.frames[count].time - start)
        robot.wait_for_rest()
        still.append(robot.frames[-1].time - start)
        sizes = [len(robot.frames[-1].jpeg)]
    nothing = dict(frames_per_second=math.nan)
    return (
        {**nothing, **_milliseconds(first), "kilobytes": math.nan},
        {**nothing, **_milliseconds(still), "kilobytes": _mean(sizes) / 1024},
    )


def watch(client: Client) -> list[float]:
    """A list that gets the azimuth of each frame that the client sends from now on."""
    shown: list[float] = []
    send = client.delivery._send

    def noted(frame: Frame, encoding: Encoding) -> None:
        pose = np.array(frame.state.camera).reshape(4, 4)
        shown.append(math.atan2(pose[0, 3], pose[2, 3]))
        send(frame, encoding)

    client.delivery._send = noted
    return shown


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return dict(median_ms=math.nan, p95_ms=math.nan)
    median, p95 = 1000 * np.quantile(seconds, [0.5, 0.95])
    return dict(median_ms=float(median), p95_ms=float(p95))


def _mean(values: list[int]) -> float:
    return float(np.mean(values)) if values else math.nan


@click.command()
@click.option("--network", required=True, help="Snapshot.")
@click.option("--seconds", default=10.0, show_default=True, help="Of turning.")
@click.option("--repeats", default=40, show_default=True, help="Moves after a rest.")
@click.option("--mbit", type=float, help="Megabits a second to the browser.  [default: no limit]")
@click.option("--delay", default=0.0, show_default=True, help="Seconds to the browser and back.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write results there.")
def main(network, seconds, repeats, mbit, delay, device, threads, json_path):
    """Print a table of frames a second, latencies and sizes."""
    torch.set_num_threads(threads)
    viewer = Viewer(Options((network,), port=0), Studio(device))
    robot = Robot(viewer.port, mbit=mbit or math.inf, delay=delay)
    try:
        robot.look(0.0)
        robot.wait_for(lambda: len(viewer.clients()) == 1)
        robot.wait_for_rest()
        (client,) = viewer.clients().values()
        moving(robot, client, 1.0)  # finds its pace
        rows = [dict(what="moving", **moving(robot, client, seconds))]
        rung = client.session.pace.detail
        for what, numbers in zip(
            ("first frame", "still"), first_frames(robot, repeats), strict=True
        ):
            rows.append(dict(what=what, **numbers))
    finally:
        robot.close()
        viewer.stop()
    print(table(rows))
    print(f"\nmoving: {rung.resolution:g} of the resolution, {rung.samples:g} of the samples")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    if json_path:
        write_json(json_path, rows=rows)


if __name__ == "__main__":
    main()
