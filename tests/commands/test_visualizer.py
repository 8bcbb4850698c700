"""The viewer's command: what it says, and bad input in one line before there is a page."""

import pytest
from click.testing import CliRunner

pytest.importorskip("viser")

import visualizer  # noqa: E402
from eg3d.viewer.state import ViewState  # noqa: E402


def run(*arguments):
    return CliRunner().invoke(visualizer.main, list(map(str, arguments)))


@pytest.fixture
def started(monkeypatch):
    """The viewers that were started; each ends at once."""
    viewers = []

    def interrupted(_):
        raise KeyboardInterrupt

    def start(opts):
        viewers.append(visualizer_start(opts))
        return viewers[-1]

    visualizer_start = visualizer._start
    monkeypatch.setattr(visualizer, "_start", start)
    monkeypatch.setattr(visualizer.time, "sleep", interrupted)
    return viewers


def test_it_says_where_and_how_to_reach_it(started, snapshot, tmp_path):
    session = tmp_path / "session.json"
    session.write_text(ViewState(seed=9).to_json())
    options = [f"--session={session}", f"--capture-dir={tmp_path / 'shots'}", "--most-upload-mb=3"]
    result = run(snapshot, "other.pkl", "--port=0", "--device=cpu", *options)
    assert result.exit_code == 0, result.output
    (viewer,) = started
    assert f"http://localhost:{viewer.port}" in result.output
    assert f"ssh -L {viewer.port}:localhost:{viewer.port} " in result.output
    assert viewer.first_state() == ViewState(seed=9, network=str(snapshot))
    assert viewer.recent == [str(snapshot), "other.pkl"]
    assert viewer.most_upload_bytes == 3 * 2**20
    viewer.keep_capture("seed0000.png", b"x")
    assert (tmp_path / "shots" / "00001.png").read_bytes() == b"x"


def test_it_warns_where_everybody_may_come(started, snapshot):
    result = run("--network", snapshot, "--host=0.0.0.0", "--port=0", "--device=cpu")
    assert result.exit_code == 0 and "Everybody who can reach" in result.output


def test_it_follows_a_run_that_has_no_snapshot_yet(started, tmp_path, snapshot):
    result = run(f"--run={tmp_path}", "--port=0", "--device=cpu", f"--browse-dir={tmp_path}")
    assert result.exit_code == 0, result.output
    (viewer,) = started
    assert viewer.first_state().follow and viewer.first_state().network == ""
    path = tmp_path / "a" / "network-snapshot-000001.pkl"
    path.parent.mkdir()
    path.write_bytes(snapshot.read_bytes())
    assert viewer.browse() == [str(path)]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["gone.pkl"], "gone.pkl"),
        (["--network=gone.pkl"], "gone.pkl"),
        (["--run=gone"], "gone"),
        (["--browse-dir=gone"], "gone"),
        (["--session=gone.json"], "gone.json"),
        (["--port=99999"], "99999"),
        (["--device=tpu9"], "tpu9"),
        (["--most-upload-mb=0"], "0"),
    ],
)
def test_bad_input_is_one_line(arguments, words):
    result = run(*arguments)
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert result.exit_code in (1, 2) and len(errors) == 1 and words in errors[0], result.output


def test_a_session_that_is_none_is_one_line(tmp_path):
    (tmp_path / "s.json").write_text('{"version": 1, "sed": 3}')
    result = run(f"--session={tmp_path / 's.json'}")
    assert result.exit_code == 1 and "s.json: session: has no setting 'sed'" in result.output
