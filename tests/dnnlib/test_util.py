"""dnnlib: attribute dictionaries, names, logging, files, downloads from a local server."""

import copy
import ctypes
import hashlib
import http.server
import os
import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import dnnlib
from dnnlib import util


def test_package_exports():
    assert dnnlib.EasyDict is util.EasyDict
    assert dnnlib.make_cache_dir_path is util.make_cache_dir_path
    assert dnnlib.util is util


def test_easy_dict():
    d = util.EasyDict(a=1)
    d.b = 2
    d["c"] = 3
    assert (d.a, d["b"], d.c) == (1, 2, 3) and dict(d) == {"a": 1, "b": 2, "c": 3}
    del d.a
    with pytest.raises(AttributeError, match="'a'"):
        _ = d.a
    with pytest.raises(AttributeError, match="'a'"):
        del d.a
    assert getattr(d, "a", 5) == 5 and not hasattr(d, "x")
    for twin in (copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
        assert type(twin) is util.EasyDict and twin == d
    assert util.EasyDict.__module__ == "dnnlib.util"  # pickles of checkpoints name it so


def test_logger(tmp_path, capsys):
    path = tmp_path / "log.txt"
    path.write_text("before\n")
    stdout, stderr = sys.stdout, sys.stderr
    with util.Logger(str(path), file_mode="a") as logger:
        print("out")
        print("err", file=sys.stderr)
        logger.write(b"bytes\n")
        assert path.read_text() == "before\nout\nerr\nbytes\n"  # flushed already
        assert isinstance(sys.stdout.isatty(), bool)
    assert (sys.stdout, sys.stderr) == (stdout, stderr)
    print("after")
    logger.close()
    captured = capsys.readouterr()
    assert captured.out == "out\nerr\nbytes\nafter\n" and captured.err == ""
    assert "after" not in path.read_text()


def test_logger_without_file_and_after_an_error(capsys):
    stdout = sys.stdout
    with pytest.raises(KeyError), util.Logger(should_flush=False):
        print("x")
        raise KeyError
    assert sys.stdout is stdout and capsys.readouterr().out == "x\n"


@pytest.mark.parametrize(
    ("seconds", "text", "brief"),
    [
        (5, "5s", "5s"),
        (59.6, "1m 00s", "1m 00s"),
        (65, "1m 05s", "1m 05s"),
        (3725, "1h 02m 05s", "1h 02m"),
        (90065, "1d 01h 01m", "1d 01h"),
        (0, "0s", "0s"),
    ],
)
def test_format_time(seconds, text, brief):
    assert util.format_time(seconds) == text
    assert util.format_time_brief(seconds) == brief


def test_ask_yes_no(monkeypatch):
    answers = iter(["what", "", "Yes ", "0"])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    assert util.ask_yes_no("sure?") is True
    assert util.ask_yes_no("sure?") is False


def test_small_helpers():
    assert util.tuple_product((2, 3, 4)) == 24 and util.tuple_product(()) == 1
    assert util.get_dtype_and_ctype("float32") == (np.dtype("float32"), ctypes.c_float)
    assert util.get_dtype_and_ctype(np.uint8) == (np.dtype("uint8"), ctypes.c_uint8)
    assert util.get_dtype_and_ctype(ctypes.c_double) == (np.dtype("float64"), ctypes.c_double)
    with pytest.raises(ValueError, match="nonsense"):
        util.get_dtype_and_ctype("nonsense")
    assert util.is_pickleable({"a": 1}) and not util.is_pickleable(lambda: 0)


def test_names():
    assert util.get_obj_by_name("os.path.join") is os.path.join
    assert util.get_obj_by_name("collections.OrderedDict.fromkeys")("a") == {"a": None}
    assert util.get_obj_by_name("os.path") is os.path
    assert util.get_module_from_obj_name("os.path.join") == (os.path, "join")
    assert util.get_obj_from_module(os, "path.join") is os.path.join
    assert util.get_obj_from_module(os, "") is os
    assert util.call_func_by_name("7", func_name="builtins.int", base=8) == 7
    assert util.construct_class_by_name(class_name="dnnlib.EasyDict", a=1).a == 1
    folder = util.get_module_dir_by_obj_name("dnnlib.util.EasyDict")
    assert Path(folder) == Path(util.__file__).parent
    assert util.is_top_level_function(os.path.join)
    assert not util.is_top_level_function(lambda: 0) and not util.is_top_level_function(3)
    assert util.get_top_level_function_name(util.format_time) == "dnnlib.util.format_time"


def test_names_that_lead_nowhere(tmp_path, monkeypatch):
    with pytest.raises(ImportError, match="no_such_package"):
        util.get_obj_by_name("no_such_package.thing")
    with pytest.raises(AttributeError, match="nothing_here"):
        util.get_obj_by_name("os.path.nothing_here")
    with pytest.raises(ImportError, match="dotted"):
        util.get_obj_by_name("os..path")
    with pytest.raises(ValueError, match="func_name"):
        util.call_func_by_name(1)
    with pytest.raises(ValueError, match="class_name"):
        util.construct_class_by_name(a=1)
    with pytest.raises(TypeError, match="os.sep"):
        util.call_func_by_name(func_name="os.sep")
    with pytest.raises(ValueError, match="top-level"):
        util.get_top_level_function_name(lambda: 0)
    # An error inside a module is not disguised as a missing module.
    (tmp_path / "broken_module_for_test.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        util.get_obj_by_name("broken_module_for_test.thing")


def test_list_and_copy(tmp_path):
    for name in ("b.py", "a.py", "sub/c.py", "sub/c.pyc", "__pycache__/d.py"):
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    src = str(tmp_path / "src")
    found = util.list_dir_recursively_with_ignore(src, ["*.pyc", "__pycache__"])
    relative = [os.path.join(*p) for p in (["a.py"], ["b.py"], ["sub", "c.py"])]
    assert found == [(os.path.join(src, r), r) for r in relative]
    based = util.list_dir_recursively_with_ignore(src, ["sub", "__*"], add_base_to_relative=True)
    assert [r for _, r in based] == [os.path.join("src", n) for n in ("a.py", "b.py")]
    util.copy_files_and_create_dirs((p, str(tmp_path / "new" / r)) for p, r in found)
    assert (tmp_path / "new" / "sub" / "c.py").read_text() == "sub/c.py"
    with pytest.raises(NotADirectoryError, match="nowhere"):
        util.list_dir_recursively_with_ignore(str(tmp_path / "nowhere"))


def test_is_url():
    assert util.is_url("https://example.com/a.pkl") and util.is_url("http://localhost:80/x")
    for text in ("a.pkl", "/tmp/a.pkl", "C:\\a.pkl", "https://", "file:///a.pkl", "", None, 3):
        assert not util.is_url(text)
    assert util.is_url("file:///a.pkl", allow_file_urls=True)


def test_cache_dir(tmp_path, monkeypatch):
    monkeypatch.delenv("DNNLIB_CACHE_DIR", raising=False)
    expected = Path.home() / ".cache" / "dnnlib" / "a" / "b"
    assert Path(util.make_cache_dir_path("a", "b")) == expected
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "env"))
    assert Path(util.make_cache_dir_path("a")) == tmp_path / "env" / "a"
    util.set_cache_dir(str(tmp_path / "set"))
    try:
        assert Path(util.make_cache_dir_path("a")) == tmp_path / "set" / "a"
    finally:
        util.set_cache_dir(None)
    assert Path(util.make_cache_dir_path()) == tmp_path / "env"


@pytest.fixture
def server():
    """A local web server: /file.pkl works, /flaky at the third try, /short breaks off, else 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            flaky = self.path == "/flaky" and len(seen) < 3
            if flaky or self.path not in ("/file.pkl?v=1", "/flaky", "/short", "/named"):
                self.send_error(503 if flaky else 404)
                return
            self.send_response(200)
            self.send_header("Content-Length", "9" if self.path == "/short" else "5")
            if self.path == "/named":
                self.send_header("Content-Disposition", 'attachment; filename="../real name.pkl"')
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args):
            pass

    seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", seen
        httpd.shutdown()


def test_open_url_caches(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    url = server[0] + "/file.pkl?v=1"
    for _ in range(2):
        with util.open_url(url) as file:
            assert file.read() == b"hello"
    assert server[1] == ["/file.pkl?v=1"]
    assert capsys.readouterr().out == f"Downloading {url} ... done\n"
    expected = tmp_path / "downloads" / f"{hashlib.md5(url.encode()).hexdigest()}_file.pkl"
    assert list((tmp_path / "downloads").iterdir()) == [expected]
    assert Path(util.open_url(url, return_filename=True)) == expected
    elsewhere = util.open_url(url, cache_dir=str(tmp_path / "x"), return_filename=True)
    assert Path(elsewhere) == tmp_path / "x" / expected.name


def test_open_url_names_stay_in_the_folder(server, tmp_path):
    path = util.open_url(
        server[0] + "/named", cache_dir=str(tmp_path), return_filename=True, verbose=False
    )
    assert Path(path).parent == tmp_path and path.endswith("_real_name.pkl")


def test_open_url_without_cache(server, tmp_path, capsys):
    url = server[0] + "/file.pkl?v=1"
    for _ in range(2):
        with util.open_url(url, cache_dir=str(tmp_path), cache=False, verbose=False) as file:
            assert file.read() == b"hello"
    assert len(server[1]) == 2 and not list(tmp_path.iterdir()) and not capsys.readouterr().out
    with pytest.raises(ValueError, match="cache=True"):
        util.open_url(url, cache=False, return_filename=True)
    with pytest.raises(ValueError, match="num_attempts"):
        util.open_url(url, num_attempts=0)


def test_open_url_errors(server, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    options = dict(cache_dir=str(tmp_path), verbose=False)
    with util.open_url(server[0] + "/flaky", **options) as file:
        assert file.read() == b"hello" and len(server[1]) == 3
    with pytest.raises(OSError, match="/missing: HTTP Error 404"):
        util.open_url(server[0] + "/missing", **options)
    assert server[1].count("/missing") == 1  # asking again would not help
    with pytest.raises(OSError, match="/short"):
        util.open_url(server[0] + "/short", num_attempts=2, **options)
    assert server[1].count("/short") == 2
    assert [path.name.partition("_")[2] for path in tmp_path.iterdir()] == ["flaky"]


def test_open_url_local(tmp_path):
    path = tmp_path / "a b.bin"
    path.write_bytes(b"local")
    for url in (str(path), path, path.as_uri()):
        with util.open_url(url) as file:
            assert file.read() == b"local"
        assert util.open_url(url, return_filename=True) == str(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        util.open_url(str(tmp_path / "nowhere"))


def test_one_line():
    assert util.one_line(ValueError("a \n\t b\n")) == "a b"
    assert util.one_line(KeyError()) == "KeyError"
