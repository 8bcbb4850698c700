"""The code blocks of docs/python.md run, one after the other."""

import re
import shutil
from pathlib import Path

import PIL.Image

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_code_blocks_run(snapshot, tmp_path, monkeypatch):
    shutil.copy(snapshot, tmp_path / "network-snapshot.pkl")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 9
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["around"].image.shape == (8, 3, 64, 64)
    assert names["fine"].raw.shape == (1, 3, 32, 32)
    assert len(names["crowd"]) == 4 and len(names["same"]) == 3
    assert names["ws"].grad.norm() > 0 and names["img"].shape == (1, 3, 64, 64)
    assert PIL.Image.open("around.png").size == (256, 128)
    assert PIL.Image.open("depth.png").size == (16, 16) and Path("around.mp4").stat().st_size > 0
