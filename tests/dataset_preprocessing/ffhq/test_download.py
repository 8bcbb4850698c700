"""Downloads by a list, from a server on this machine, and comparing files with the list."""

import hashlib
import http.server
import json
import shutil
import threading
from collections import Counter

import pytest
from PIL import Image

from dataset_preprocessing.ffhq.listing import is_published, read_listing


class Site:
    """A web server with files; how it fails is set from outside."""

    def __init__(self):
        self.files, self.asked, self.ranges = {}, Counter(), []
        self.pages = Counter()  # by path: answers that are a page instead
        self.cuts = Counter()  # by path: answers that break off in the middle

    def respond(self, handler):
        path = handler.path.lstrip("/")
        self.asked[path] += 1
        self.ranges.append(handler.headers.get("Range"))
        content = self.files.get(path)
        if content is None:
            handler.send_error(404)
            return
        if self.pages[path]:
            self.pages[path] -= 1
            content = b"<html>too many downloads today</html>"
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", '"one"')
        handler.send_header("Content-Length", str(len(content) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        end = len(content)
        if self.cuts[path]:
            self.cuts[path] -= 1
            end = len(content) // 2
        handler.wfile.write(content[start:end])


@pytest.fixture
def site():
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            site.respond(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        site.url = f"http://127.0.0.1:{server.server_port}"
        yield site
        server.shutdown()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("dnnlib.download.time.sleep", lambda _: None)
    monkeypatch.delenv("EG3D_OFFLINE", raising=False)


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "ffhq"


@pytest.fixture
def arguments(site, listing, dest):
    site.files, path = listing(site.url)
    return ["download", f"--dataset_json={path}", f"--dest={dest}", "--num_threads=2"]


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.png")}


def of_kind(site, kind):
    return {path: content for path, content in site.files.items() if path.startswith(kind)}


@pytest.mark.parametrize(
    "kinds, folders",
    [((), ["in-the-wild"]), (["-w"], ["in-the-wild"]), (["-w", "-t"], ["in-the-wild", "thumb"])],
)
def test_files_of_kinds(kinds, folders, arguments, site, run, dest):
    wanted = {k: v for folder in folders for k, v in of_kind(site, folder).items()}
    output = run(*arguments, *kinds)
    assert files_in(dest) == wanted and f"{len(wanted)} downloaded, 0 were there" in output
    assert [path.name for path in dest.iterdir() if path.name.startswith(".")] == []
    assert "is not the published list" in output


def test_what_is_there_is_not_fetched_again(arguments, site, run, dest):
    run(*arguments)
    first = site.asked.copy()
    path = next(iter(files_in(dest)))
    (dest / path).write_bytes(b"cut short")
    assert "1 downloaded, 2 were there" in run(*arguments)
    assert site.asked - first == Counter({path: 1}) and files_in(dest)[path] == site.files[path]


def test_stats_downloads_nothing(arguments, site, run, dest):
    assert "3 files, 0.00 GiB" in run(*arguments, "--stats")
    assert not site.asked and not dest.exists()


def test_start_index(arguments, run, dest):
    run(*arguments, "--start_index=2")
    assert list(files_in(dest)) == ["in-the-wild-images/00000/00002.png"]


def test_broken_transfers_go_on(arguments, site, run, dest):
    path = "in-the-wild-images/00000/00001.png"
    site.cuts[path] = 1
    run(*arguments)
    half = len(site.files[path]) // 2
    assert f"bytes={half}-" in site.ranges and files_in(dest)[path] == site.files[path]


def test_pages_are_tried_again(arguments, site, run, refused, dest):
    """A host that answers with a page has the attempts it may have; the others are kept."""
    path = "in-the-wild-images/00000/00001.png"
    site.pages[path] = 3
    message = refused(*arguments, "--num_attempts=2")
    assert "1 problem, of 3 files; the same command tries again" in message
    assert f"{path}: {site.url}/{path} has 37 bytes, must have" in message
    assert len(files_in(dest)) == 2
    assert "1 downloaded, 2 were there" in run(*arguments, "--num_attempts=2")
    assert files_in(dest) == of_kind(site, "in-the-wild")


def test_missing_files_are_told_all_at_once(arguments, site, refused, dest):
    for number in (0, 2):
        del site.files[f"in-the-wild-images/00000/{number:05d}.png"]
    message = refused(*arguments)
    assert "2 problems, of 3 files" in message and message.count("404") == 2
    assert len(files_in(dest)) == 1


def test_validate(ffhq, run, refused):
    arguments = ["validate", f"--dataset-json={ffhq / 'ffhq-dataset-v2.json'}", f"--source={ffhq}"]
    assert "3 files are right, 0 are not" in run(*arguments)
    broken = ffhq / "in-the-wild-images/00000/00001.png"
    content = bytearray(broken.read_bytes())
    content[-20] ^= 1
    broken.write_bytes(content)
    (ffhq / "in-the-wild-images/00000/00002.png").unlink()
    message = refused(*arguments)
    assert "00001.png: MD5 is" in message and "deleted" in message
    assert "00002.png: no such file" in message and "1 files are right, 2 are not" in message
    assert not broken.exists()


def test_validate_pixels(ffhq, run, refused):
    """A file that was written anew has other bytes and the same pixels."""
    arguments = ["validate", f"--dataset-json={ffhq / 'ffhq-dataset-v2.json'}", f"--source={ffhq}"]
    path = ffhq / "in-the-wild-images/00000/00001.png"
    with Image.open(path) as picture:
        picture.save(path, compress_level=0)
    assert "3 files are right" in run(*arguments, "--mode=pixel")
    with Image.open(path) as picture:
        picture.putpixel((3, 3), (1, 2, 3))
        picture.save(path)
    assert "MD5 of pixels is" in refused(*arguments, "--mode=pixel")
    with Image.open(ffhq / "in-the-wild-images/00000/00000.png") as picture:
        picture.crop((0, 0, 50, 40)).save(ffhq / "in-the-wild-images/00000/00000.png")
    assert "has 50 x 40 pixels, must have 160 x 140" in refused(*arguments, "--mode=pixel")


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(file_path="../x.png"), "must lie inside the folder"),
        (dict(file_url=__file__), "must be a web address"),
        (dict(file_url=f"file://{__file__}"), "must be a web address"),
        (dict(file_path="/x.png"), "must lie inside the folder"),
        (dict(file_size="many"), "many"),
        (dict(face_landmarks=[[1, 2]]), "must be 68 x 2 numbers"),
        (dict(pixel_size=[1]), "picture 1, in_the_wild: "),
        (None, "picture 1, in_the_wild: "),
    ],
)
def test_broken_lists(change, message, listing, refused):
    _, path = listing()
    content = json.loads(path.read_text())
    entry = content["1"]["in_the_wild"]
    content["1"]["in_the_wild"] = change and {**entry, **change}
    del content["2"]["in_the_wild"]["file_md5"]
    path.write_text(json.dumps(content))
    found = refused("download", f"--dataset-json={path}")
    assert message in found and "2 problems" in found and "has no 'file_md5'" in found


def test_no_list(tmp_path, refused):
    found = refused("align", f"--dataset-json={tmp_path / 'x.json'}")
    assert "x.json: no such file; get ffhq-dataset-v2.json as https://github.com/" in found
    (tmp_path / "x.json").write_text("[1]")
    assert "x.json: must be" in refused("align", f"--dataset-json={tmp_path / 'x.json'}")


def test_no_pictures_from_there_on(listing, refused):
    _, path = listing()
    message = refused("align", f"--dataset-json={path}", "--start-index=3")
    assert "lists no pictures from number 3 on" in message


def test_published_list_is_known_by_its_hash(listing, monkeypatch):
    _, path = listing()
    assert not is_published(path)
    shutil.copy(path, path.with_name("copy.json"))
    monkeypatch.setattr(
        "dataset_preprocessing.ffhq.listing.LIST_MD5",
        hashlib.md5(path.read_bytes()).hexdigest(),
    )
    assert is_published(path.with_name("copy.json"))


def test_order(listing):
    """By number, not as text: 10 comes after 9."""
    _, path = listing()
    content = json.loads(path.read_text())
    content["10"] = content.pop("0")
    path.write_text(json.dumps(content))
    assert [file.number for file in read_listing(path, ["wilds"])] == [1, 2, 10]
