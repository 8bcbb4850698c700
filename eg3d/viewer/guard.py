"""What keeps a viewer's server to its users: no other web pages, no tunnels, bounded uploads."""

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

import viser
from viser import _messages

# Names of this machine that a browser may know it by, when only this machine is listened to.
_LOOPBACK_NAMES = ("localhost",)


def protect(server: viser.ViserServer, host: str) -> None:
    """Lets no web page of another origin connect, and takes away viser's tunnels to the internet.

    A browser lets every page open a connection to this machine; the page of an attacker could so
    command the viewer of whoever visits it. What viser has no options for is done on its parts.
    """
    websockets = server._websock_server
    websockets.unregister_handler(_messages.ShareUrlRequest)
    websockets.unregister_handler(_messages.ShareUrlDisconnect)

    @websockets.on_client_connect
    async def _(connection: object) -> None:
        socket = websockets._live_connections[connection.client_id]
        headers = socket.request.headers
        if not is_ours(headers.get("Origin"), headers.get("Host", ""), host):
            await socket.close(1008, "not from this page")


def is_ours(origin: str | None, requested: str, listening: str) -> bool:
    """Whether a connection comes from our own page, or from no page at all.

    origin: the header of this name, which browsers always send. requested: the Host header, which
    must be a name of this machine where only that is listened to, lest another name was made to
    point here.
    """
    name = urlsplit(f"//{requested}").hostname or ""
    if _is_loopback(listening) and not _is_loopback(name):
        return False
    return origin is None or urlsplit(origin).netloc == requested


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name in _LOOPBACK_NAMES


def bound_uploads(
    client: viser.ClientHandle, most_bytes: int, refused: Callable[[str], None]
) -> None:
    """Uploads of a client above so many bytes, all together, are dropped; `refused(name)` is told.

    viser keeps the parts of an upload until it is complete, however many there are.
    """
    uploads = client.gui._current_file_upload_states
    connection = client._websock_connection

    def drop(transfer: str) -> None:
        refused(uploads.pop(transfer)["filename"])

    def started(_: int, message: _messages.FileTransferStartUpload) -> None:
        declared = sum(upload["total_bytes"] for upload in uploads.values())
        if message.transfer_uuid in uploads and declared > most_bytes:
            drop(message.transfer_uuid)

    def continued(_: int, message: _messages.FileTransferPart) -> None:
        upload = uploads.get(message.transfer_uuid)
        if upload is not None and upload["transferred_bytes"] > upload["total_bytes"]:
            drop(message.transfer_uuid)

    connection.register_handler(_messages.FileTransferStartUpload, started)
    connection.register_handler(_messages.FileTransferPart, continued)
