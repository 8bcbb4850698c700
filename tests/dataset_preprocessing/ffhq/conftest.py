"""A small FFHQ: pictures with dots for landmarks, and the list of them."""

import hashlib
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dataset_preprocessing.ffhq.__main__ import main
from tests.dataset_preprocessing.faces.heads import MODEL, draw, seen_from

COUNT = 3
SIZE = (160, 140)


def face(number):
    """Pixels, five landmarks and 68 of them: all points of an eye at its middle."""
    angles = (0.1 * number, 0.2 - 0.2 * number, 0.15 * number)
    points = seen_from(MODEL, 55 + 5 * number, angles, (82, 66), height=SIZE[1])
    many = np.random.RandomState(number).rand(68, 2) * 100
    many[36:42], many[42:48] = points[0], points[1]
    many[30], many[48], many[54] = points[2:]
    return draw(points, SIZE, radius=2.0), points, many


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def entry(path, pixels, content, url, **further):
    return dict(
        file_url=url,
        file_path=path,
        file_size=len(content),
        file_md5=hashlib.md5(content).hexdigest(),
        pixel_size=[pixels.shape[1], pixels.shape[0]],
        pixel_md5=hashlib.md5(pixels.tobytes()).hexdigest(),
        **further,
    )


@pytest.fixture
def listing(tmp_path):
    """`listing(base)` -> ({path: bytes}, the list's file), with addresses below `base`."""

    def make(base="http://nowhere"):
        files, content = {}, {}
        for number in range(COUNT):
            pixels, _, many = face(number)
            wild = f"in-the-wild-images/00000/{number:05d}.png"
            thumb = f"thumbnails128x128/00000/{number:05d}.png"
            files[wild], files[thumb] = png(pixels), png(pixels[:20, :20])
            content[str(number)] = dict(
                category="training",
                in_the_wild=entry(
                    wild, pixels, files[wild], f"{base}/{wild}", face_landmarks=many.tolist()
                ),
                thumbnail=entry(thumb, pixels[:20, :20], files[thumb], f"{base}/{thumb}"),
            )
        path = tmp_path / "ffhq-dataset-v2.json"
        path.write_text(json.dumps(content))
        return files, path

    return make


@pytest.fixture
def ffhq(listing, tmp_path):
    """Folder with the pictures and the list."""
    files, _ = listing()
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path


@pytest.fixture
def run():
    """`run(*arguments)` -> what a command says; it succeeds."""

    def invoke(*arguments):
        done = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    return invoke


@pytest.fixture
def refused():
    """`refused(*arguments)` -> the lines of a command that fails."""

    def invoke(*arguments):
        done = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert isinstance(done.exception, SystemExit) and done.exit_code in (1, 2), done.exception
        return done.output

    return invoke
