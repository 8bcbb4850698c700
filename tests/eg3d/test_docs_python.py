"""The code blocks of docs/python.md run, one after the other."""

import re
import shutil
from pathlib import Path

import PIL.Image
import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_code_blocks_run(snapshot, tmp_path, monkeypatch):
    shutil.copy(snapshot, tmp_path / "network-snapshot.pkl")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 17
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["around"].image.shape == (8, 3, 64, 64)
    assert names["fine"].raw.shape == (1, 3, 32, 32)
    assert len(names["crowd"]) == 4 and len(names["same"]) == 3
    assert names["arc_degrees"].item() == pytest.approx(21.5, abs=0.05)
    assert [len(names[name]) for name in ("arc", "near_front", "anywhere", "path")] == [3, 5, 5, 12]
    assert torch.equal(names["pair"].planes, names["same_pair"].planes)
    assert len(names["row"]) == 6 and torch.equal(names["again"].ws, names["mixed"])
    assert len(names["mesh"].faces) > 100 and names["volume"].density.shape == (64, 64, 64)
    assert Path("volume.mrc").stat().st_size > 64**3 and Path("mesh.glb").stat().st_size > 1000
    assert names["ws"].grad.norm() > 0 and names["img"].shape == (1, 3, 64, 64)
    assert PIL.Image.open("around.png").size == (256, 128)
    assert PIL.Image.open("depth.png").size == (16, 16) and Path("around.mp4").stat().st_size > 0
