"""Who may connect to a viewer, and how much may be uploaded: asked without a browser."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

viser = pytest.importorskip("viser")

from eg3d.viewer import guard  # noqa: E402
from eg3d.viewer.app import Options, Viewer  # noqa: E402


@pytest.mark.parametrize(
    "origin, requested, listening, ours",
    [
        ("http://localhost:8080", "localhost:8080", "127.0.0.1", True),
        ("http://127.0.0.1:9000", "127.0.0.1:9000", "127.0.0.1", True),  # forwarded by ssh
        ("http://[::1]:8080", "[::1]:8080", "127.0.0.1", True),
        (None, "localhost:8080", "127.0.0.1", True),  # a program
        ("http://evil.org", "localhost:8080", "127.0.0.1", False),
        ("http://localhost:3000", "localhost:8080", "127.0.0.1", False),
        ("null", "localhost:8080", "127.0.0.1", False),
        ("http://evil.org:8080", "evil.org:8080", "127.0.0.1", False),  # its name points here
        ("http://gpu7:8080", "gpu7:8080", "0.0.0.0", True),
        ("http://evil.org", "gpu7:8080", "0.0.0.0", False),
    ],
)
def test_whose_page_it_is(origin, requested, listening, ours):
    assert guard.is_ours(origin, requested, listening) is ours


@pytest.fixture
def viewer(snapshot, studio):
    viewer = Viewer(Options(networks=(str(snapshot),), port=0), studio)
    yield viewer
    viewer.stop()


def connect(viewer, **headers):
    """Whether the server keeps a connection with these headers."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    async def attempt():
        address = f"ws://localhost:{viewer.port}"
        protocols = [f"viser-v{viser.__version__}"]
        async with connect(address, subprotocols=protocols, **headers) as socket:
            try:
                await asyncio.wait_for(socket.recv(), 2)
            except ConnectionClosed:
                return False
            return True

    return asyncio.run(attempt())


def test_other_pages_cannot_connect(viewer):
    assert connect(viewer, origin=f"http://localhost:{viewer.port}")
    assert connect(viewer)
    assert not connect(viewer, origin="http://evil.org")


def test_it_listens_to_this_machine_and_has_no_tunnel(viewer):
    from viser import _messages

    assert viewer.server.get_host() == "127.0.0.1"
    handlers = viewer.server._websock_server._incoming_handlers
    assert _messages.ShareUrlRequest not in handlers
    assert _messages.FileTransferPart in handlers  # the names are still those of viser


def test_stopping_ends_all_threads(snapshot, studio):
    before = threading.active_count()
    viewer = Viewer(Options(networks=(str(snapshot),), port=0, run=snapshot.parent), studio)
    assert viewer.upload_dir.is_dir()
    viewer.stop()
    assert not viewer.upload_dir.exists()
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_uploads_are_bounded_all_together():
    uploads, handlers, refused = {}, {}, []
    client = SimpleNamespace(
        gui=SimpleNamespace(_current_file_upload_states=uploads),
        _websock_connection=SimpleNamespace(register_handler=handlers.__setitem__),
    )
    guard.bound_uploads(client, 100, refused.append)
    started, continued = handlers.values()

    def upload(name, size):
        uploads[name] = {"filename": name, "total_bytes": size, "transferred_bytes": 0}
        started(0, SimpleNamespace(transfer_uuid=name))

    upload("a", 60)
    upload("b", 50)
    assert list(uploads) == ["a"] and refused == ["b"]
    upload("c", 40)
    assert list(uploads) == ["a", "c"]
    uploads["c"]["transferred_bytes"] = 41  # more than was declared
    continued(0, SimpleNamespace(transfer_uuid="c"))
    assert list(uploads) == ["a"] and refused == ["b", "c"]
