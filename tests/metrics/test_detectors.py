"""Where networks come from, what a detector makes of them, and what is refused."""

import hashlib
import pickle
import sys
from types import ModuleType

import pytest
import torch

from metrics.detectors import FILES, OPTIONS, load_detector, load_network
from metrics.errors import MetricError, MetricUnavailable
from metrics.random_features import RandomConvFeatures
from tests.metrics.tiny_detectors import (
    FEATURES,
    TinyInception,
    TinyPlain,
    write_inception,
    write_plain,
    write_script,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and no variables."""
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for role in FILES:
        monkeypatch.delenv(f"EG3D_{role.upper()}", raising=False)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    return write_inception(tmp_path_factory.mktemp("files") / "tiny.inception.pt")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_plain(tmp_path_factory.mktemp("files") / "plain.pt")


@pytest.fixture
def pictures():
    return torch.randint(0, 256, [5, 3, 24, 20], dtype=torch.uint8)


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Script(torch.nn.Module):
    """Something else for given pictures."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, images: torch.Tensor, no_output_bias: bool = False) -> torch.Tensor:
        if self.kind == "one row":
            return images.float().mean((0, 2, 3))[None]
        if self.kind == "fails":
            return images.float() @ torch.zeros(7, 7)
        if self.kind == "half":
            return images.float().mean((2, 3)).half()
        return images.float().mean((2, 3))


def test_features_are_those_of_the_module(inception, pictures):
    detector, module = load_detector("inception", inception), TinyInception().eval()
    found = detector.features(pictures)
    torch.testing.assert_close(found, module(pictures, return_features=True).detach())
    assert found.dtype == torch.float32 and not found.requires_grad
    assert detector.size == FEATURES and detector.name == "tiny.inception"
    with open(inception, "rb") as file:
        assert detector.sha256 == hashlib.sha256(file.read()).hexdigest()


def test_probabilities_are_those_without_bias(inception, pictures):
    found = load_detector("inception", inception).probabilities(pictures)
    module = TinyInception().eval()
    torch.testing.assert_close(found, module(pictures, no_output_bias=True).detach())
    assert not torch.allclose(found, module(pictures), atol=1e-3)


def test_output_of_a_plain_module_is_features(plain, pictures):
    """Also for the role of VGG16, and of one that has no usual architecture."""
    for role in ("inception", "vgg16"):
        found = load_detector(role, plain).features(pictures)
        torch.testing.assert_close(found, TinyPlain()(pictures))
    assert load_network("face_embedder", plain).module(pictures).shape == (5, 6)


def test_half_precision_becomes_float32(tmp_path, pictures):
    path = write_script(tmp_path / "half.pt", Script("half"))
    assert load_detector("inception", path).features(pictures).dtype == torch.float32


def test_grey_pictures_are_those_with_three_equal_channels(inception, pictures):
    grey, detector = pictures[:, :1], load_detector("inception", inception)
    expected = torch.cat([grey, grey, grey], 1)
    torch.testing.assert_close(detector.features(grey), detector.features(expected))
    torch.testing.assert_close(detector.probabilities(grey), detector.probabilities(expected))


def test_results_repeat_and_do_not_depend_on_the_batch(inception, pictures):
    detector = load_detector("inception", inception)
    whole = detector.features(pictures)
    for _ in range(3):  # TorchScript optimizes itself in the first calls
        assert torch.equal(detector.features(pictures), whole)
    torch.testing.assert_close(torch.cat([detector.features(p[None]) for p in pictures]), whole)


def test_modules_are_in_evaluation_mode_without_gradients(inception):
    module = load_network("inception", inception).module
    assert not any(m.training for m in module.modules())
    assert not any(p.requires_grad for p in module.parameters())


def test_randconv112_is_built_in(pictures):
    detector = load_detector("inception", "randconv112")
    assert (detector.name, detector.sha256, detector.size) == ("randconv112", None, 112)
    assert torch.equal(detector.features(pictures), RandomConvFeatures()(pictures))
    with pytest.raises(MetricError, match="randconv112 has no probabilities"):
        detector.probabilities(pictures)
    with pytest.raises(MetricError, match="randconv112 cannot be the pose_estimator network"):
        load_network("pose_estimator", "randconv112")


@pytest.mark.parametrize("role", FILES)
def test_sources_have_an_order(role, inception, plain, cache, monkeypatch, tmp_path):
    """The argument comes before the variable, and that before the usual file."""
    usual = cache / "networks" / FILES[role]
    usual.parent.mkdir(parents=True)
    write_plain(usual)
    assert load_network(role).name == usual.stem
    monkeypatch.setenv(f"EG3D_{role.upper()}", plain)
    assert load_network(role).name == "plain"
    assert load_network(role, inception).name == "tiny.inception"


@pytest.mark.parametrize("role", FILES)
def test_absent_network_is_unavailable_and_the_line_says_where_to_put_it(role, cache):
    with pytest.raises(MetricUnavailable) as caught:
        load_network(role)
    line = one_line(caught)
    for hint in (OPTIONS[role], f"EG3D_{role.upper()}", f"{cache}/networks/{FILES[role]}"):
        assert hint in line


def test_address_is_fetched_and_its_hash_checked(plain, tmp_path):
    address = f"file://{plain}"
    with open(plain, "rb") as file:
        sha256 = hashlib.sha256(file.read()).hexdigest()
    network = load_network("vgg16", f"{address}#sha256={sha256}")
    assert (network.name, network.sha256) == ("plain", sha256)
    with pytest.raises(MetricError, match=f"SHA-256 is {sha256}, expected 0000"):
        load_network("vgg16", f"{address}#sha256={'0' * 64}")
    with pytest.raises(MetricError, match="64 hexadecimal digits"):
        load_network("vgg16", f"{address}#sha256=12")


def test_download_that_fails_is_one_line(monkeypatch):
    monkeypatch.setenv("EG3D_OFFLINE", "1")
    with pytest.raises(
        MetricError, match=r"inception network: cannot download .*offline"
    ) as caught:
        load_network("inception", "https://example.org/inception.pt")
    one_line(caught)


def test_file_is_loaded_once_until_it_changes(tmp_path):
    path = write_plain(tmp_path / "net.pt")
    first = load_network("vgg16", path)
    assert load_network("vgg16", path) is first
    assert load_detector("vgg16", path) is load_detector("vgg16", path)
    assert load_network("inception", path).role == "inception"
    write_inception(path)
    second = load_network("vgg16", path)
    assert second.sha256 != first.sha256
    assert load_detector("vgg16", path).size == FEATURES


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


class PackagedInception(TinyInception):
    """What the package torch-fidelity has, smaller: its constructor, and two outputs at once."""

    def __init__(self, name, features_list, feature_extractor_weights_path):
        super().__init__()
        assert features_list == ["2048", "logits_unbiased"]
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=False))
        self.eval().requires_grad_(False)

    def forward(self, images):
        features = super().forward(images, return_features=True)
        return features, features @ self.weight.T


@pytest.fixture
def package(monkeypatch):
    """The package torch-fidelity, in a small form."""
    inside = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    inside.FeatureExtractorInceptionV3 = PackagedInception
    inside.URL_INCEPTION_V3 = "https://example.org/weights-inception.pth"
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, inside.__name__, inside)


def test_torch_fidelity_is_called_as_the_published_one(package, tmp_path, pictures):
    module = TinyInception().eval()
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    detector = load_detector("inception", f"torch-fidelity:{tmp_path / 'weights.pth'}")
    features, probabilities = detector.features(pictures), detector.probabilities(pictures)
    torch.testing.assert_close(features, module(pictures, return_features=True).detach())
    torch.testing.assert_close(probabilities, module(pictures, no_output_bias=True).detach())
    sha256 = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    assert (detector.name, detector.sha256) == ("torch-fidelity", sha256)


def test_weights_that_torch_fidelity_has_fetched_are_found(package, tmp_path, monkeypatch):
    monkeypatch.setenv("EG3D_OFFLINE", "1")
    monkeypatch.setenv("EG3D_INCEPTION", "torch-fidelity")
    fetched = tmp_path / "torch" / "hub" / "checkpoints" / "weights-inception.pth"
    with pytest.raises(MetricUnavailable, match=f"offline.*put the weights at {fetched}") as caught:
        load_detector("inception")
    one_line(caught)
    fetched.parent.mkdir(parents=True)
    torch.save(TinyInception().state_dict(), fetched)
    assert load_detector("inception").size == FEATURES


def test_weights_of_torch_fidelity_are_not_unpickled(package, tmp_path):
    torch.save(Bomb(), tmp_path / "bomb.pth")
    torch.save({}, tmp_path / "other.pth")
    for name in ("bomb.pth", "other.pth"):
        with pytest.raises(MetricError, match=f"{name} does not hold the weights") as caught:
            load_detector("inception", f"torch-fidelity:{tmp_path / name}")
        one_line(caught)


def test_torch_fidelity_that_is_not_installed_is_unavailable(monkeypatch):
    for name in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MetricUnavailable, match="run `pip install torch-fidelity`") as caught:
        load_network("inception", "torch-fidelity")
    one_line(caught)
    with pytest.raises(MetricError, match="torch-fidelity cannot be the vgg16 network"):
        load_network("vgg16", "torch-fidelity")


@pytest.mark.parametrize(
    "content, complaint",
    [
        (pickle.dumps(Bomb()), r"is a pickle, which runs any code .* such as bad-2015-12-05\.pt"),
        (pickle.dumps(Bomb(), protocol=0), "cannot be opened as a TorchScript file"),
        (b"", "cannot be opened as a TorchScript file"),
        (b"<html>not found</html>", "cannot be opened as a TorchScript file"),
    ],
    ids=["pickle", "old pickle", "empty", "web page"],
)
def test_other_files_are_refused_unopened(tmp_path, content, complaint):
    path = tmp_path / "bad-2015-12-05.pkl"
    path.write_bytes(content)
    with pytest.raises(MetricError, match=complaint) as caught:
        load_network("inception", str(path))
    assert str(path) in one_line(caught)


def test_weights_alone_and_half_of_a_file_are_refused(tmp_path, inception):
    torch.save(TinyInception().state_dict(), tmp_path / "weights.pt")
    with open(inception, "rb") as file:
        content = file.read()
    (tmp_path / "half.pt").write_bytes(content[: len(content) // 2])
    for name in ("weights.pt", "half.pt"):
        with pytest.raises(MetricError, match=f"{name} cannot be opened as a Torch") as caught:
            load_network("inception", str(tmp_path / name))
        one_line(caught)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(MetricError, match="inception network.*absent.pt is no file"):
        load_network("inception", str(tmp_path / "absent.pt"))
    with pytest.raises(MetricError, match="is no file"):
        load_network("inception", str(tmp_path))


def test_unknown_role_is_named():
    with pytest.raises(MetricError, match="the role 'incepton'; roles are inception, vgg16"):
        load_network("incepton")


@pytest.mark.parametrize(
    "kind, complaint",
    [
        ("one row", r"returns \(1, 3\) for 2 pictures; must be \[n, F\]"),
        ("fails", r"cannot take pictures uint8 \[n, 3, H, W\] \(RuntimeError: "),
    ],
)
def test_module_that_is_no_detector_is_refused_at_once(tmp_path, kind, complaint):
    path = write_script(tmp_path / "other.pt", Script(kind))
    with pytest.raises(MetricError, match=f"inception network other {complaint}") as caught:
        load_detector("inception", path)
    one_line(caught)


def test_probabilities_are_not_made_up(plain, tmp_path, pictures):
    with pytest.raises(MetricError, match="plain has no probabilities .* no_output_bias"):
        load_detector("inception", plain).probabilities(pictures)
    path = write_script(tmp_path / "logits.pt", Script("logits"))
    with pytest.raises(MetricError, match="logits does not return probabilities"):
        load_detector("inception", path).probabilities(pictures)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 3, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 4, 8, 8, dtype=torch.uint8),
    ],
)
def test_bad_pictures_are_named(inception, wrong):
    with pytest.raises(MetricError, match=r"must be torch.uint8 \[n, 1 or 3, H, W\]"):
        load_detector("inception", inception).features(wrong)
