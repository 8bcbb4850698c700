"""A browser without a screen: speaks viser's protocol, turns the camera, and receives frames."""

import asyncio
import io
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import PIL.Image
import torch
import viser
import zstandard
from scipy.spatial.transform import Rotation
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from training.cameras import look_at

_FPS = 50  # camera messages a second of a browser in which the mouse moves


@dataclass(frozen=True, eq=False)
class Received:
    """A frame: when it was there, its bytes, and its JPEG file."""

    time: float
    jpeg: bytes

    @property
    def pixels(self) -> np.ndarray:
        """The picture, uint8 [H, W, 3]."""
        return np.asarray(PIL.Image.open(io.BytesIO(self.jpeg)))


class Robot:
    """Connects to a viewer's port, in a thread of its own, until `close`.

    mbit, delay: megabits a second that the way to it carries, and seconds that it adds; default
    none. Like a browser it answers questions in the order of messages, so that the viewer knows
    what has arrived.
    """

    def __init__(
        self,
        port: int,
        canvas: tuple[int, int] = (960, 720),
        mbit: float = math.inf,
        delay: float = 0.0,
    ):
        self._address, self._canvas = f"ws://localhost:{port}", canvas
        self._mbit, self._delay = mbit, delay
        self.frames: list[Received] = []
        self.messages: list[dict] = []
        self.sent: list[tuple[float, float]] = []  # time, azimuth
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError(f"no viewer at {self._address}")

    def close(self) -> None:
        """Leaves, as a browser whose tab is closed."""
        asyncio.run_coroutine_threadsafe(self._socket.close(), self._loop).result(10)
        self._thread.join(10)

    def look(self, azimuth: float, elevation: float = 0.3, radius: float = 2.0) -> None:
        """Tells the viewer that the camera is there now."""
        ring = math.cos(elevation)
        direction = [ring * math.sin(azimuth), math.sin(elevation), ring * math.cos(azimuth)]
        position = radius * torch.tensor([direction], dtype=torch.float64)
        rotation = look_at(position, (0.0, 0.0, 0.0))[0, :3, :3].numpy()
        self.tell(
            type="ViewerCameraMessage",
            wxyz=np.roll(Rotation.from_matrix(rotation).as_quat(), 1).tolist(),
            position=position[0].tolist(),
            fov=0.6,
            near=0.01,
            far=1000.0,
            image_height=self._canvas[1],
            image_width=self._canvas[0],
            look_at=[0.0, 0.0, 0.0],
            up_direction=[0.0, 1.0, 0.0],
        )
        self.sent.append((time.perf_counter(), azimuth))

    def drag(self, seconds: float, speed: float = 1.0) -> None:
        """Turns the camera steadily, in radians a second, as often as a browser tells it."""
        start = time.perf_counter()
        while (now := time.perf_counter() - start) < seconds:
            self.look(speed * now)
            time.sleep(1 / _FPS)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Returns when something is so. Raises TimeoutError where it is not in time."""
        end = time.perf_counter() + seconds
        while not condition():
            if time.perf_counter() > end:
                raise TimeoutError("waited too long")
            time.sleep(0.002)

    def wait_for_rest(self, seconds: float = 0.8) -> None:
        """Returns when there was a frame and no new one came for so long."""
        self.wait_for(lambda: self.frames and time.perf_counter() - self.frames[-1].time > seconds)

    def tell(self, **message: object) -> None:
        """Sends a message of viser's protocol."""
        content = msgspec.msgpack.encode(message)
        asyncio.run_coroutine_threadsafe(self._socket.send(content), self._loop).result(10)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        protocols = [f"viser-v{viser.__version__}"]
        async with connect(self._address, subprotocols=protocols, max_size=None) as socket:
            self._socket = socket
            self._ready.set()
            on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
            carrier = asyncio.create_task(self._carry(on_the_way))
            free = 0.0  # when the way has carried all that came before
            try:
                async for content in socket:
                    free = max(free, time.perf_counter()) + len(content) * 8e-6 / self._mbit
                    on_the_way.put_nowait((free + self._delay, content))
            except ConnectionClosed:
                pass
            carrier.cancel()

    async def _carry(self, on_the_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        while True:
            due, content = await on_the_way.get()
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            try:
                await self._received(content)
            except ConnectionClosed:
                return

    async def _received(self, content: bytes) -> None:
        length = int.from_bytes(content[8:16], "little")
        inner = zstandard.ZstdDecompressor().decompress(content[16 : 16 + length])
        for message in msgspec.msgpack.decode(inner)["messages"]:
            if message["type"] == "BackgroundImageMessage" and message["rgb_data"]:
                self.frames.append(Received(time.perf_counter(), message["rgb_data"]))
            elif message["type"] == "LocalStorageGetItemRequestMessage":
                answer = {
                    "type": "LocalStorageGetItemResponseMessage",
                    "request_uuid": message["request_uuid"],
                    "value": None,
                    "error": None,
                }
                await self._socket.send(msgspec.msgpack.encode(answer))
            else:
                self.messages.append(message)
