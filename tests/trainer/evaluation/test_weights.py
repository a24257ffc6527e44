"""Published networks: found by path, checked by hash, measured as their authors measure."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from store.errors import ChatPainterError
from tests.support.pickles import Hostile
from trainer.evaluation import weights
from trainer.evaluation.weights import Missing


def save(folder: Path, name: str, state: dict) -> str:
    """A weight file named after its hash, as published ones are."""
    path = folder / "new.pth"
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(folder / f"{name}-{digest[:8]}.pth")
    return f"{name}-{digest[:8]}.pth"


def test_a_missing_file_is_a_reason_and_not_an_error(tmp_path):
    with pytest.raises(Missing, match=r"docs/metrics\.md"):
        weights.find(tmp_path, "inception_v3_google-0cc3c7bd.pth")


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path):
    (tmp_path / "net-01234567.pth").write_bytes(b"something else")
    with pytest.raises(ChatPainterError, match="fetch the file again"):
        weights.find(tmp_path, "net-01234567.pth")
    (tmp_path / "net.pth").write_bytes(b"x")
    with pytest.raises(ChatPainterError, match="sha256"):
        weights.find(tmp_path, "net.pth")


def test_a_file_that_would_run_something_is_refused(tmp_path):
    pytest.importorskip("torchvision")
    hostile = Hostile(tmp_path / "ran")
    name = save(tmp_path, "net", {"weight": hostile})
    for load in (weights.torchvision_inception, weights.fidelity_vgg16):
        with pytest.raises(ChatPainterError, match="plain tensors"):
            load(tmp_path, name, "cpu")
    assert not hostile.ran


def test_torchvision_inception_sees_pictures_in_minus_one_to_one(tmp_path):
    """With transform_input, torchvision's loader's default, the same network would see something else."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.inception_v3(weights=None, transform_input=False, init_weights=False, aux_logits=True).eval()
    name = save(tmp_path, "inception", model.state_dict())
    judge = weights.torchvision_inception(tmp_path, name, "cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    found = judge.measure(pictures)["log_posteriors"]
    # The normalisation that transform_input undoes, done by hand first.
    mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    values = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    values = torch.nn.functional.interpolate(values, size=299, mode="bilinear", align_corners=False)
    model.transform_input = True
    with torch.inference_mode():
        expected = model((values - mean[:, None, None]) / sd[:, None, None]).log_softmax(1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    assert judge.sha256.startswith(name.split("-")[1][:8])
    name = save(tmp_path, "other", {"weight": torch.zeros(3)})
    with pytest.raises(ChatPainterError, match="not the weights of this network"):
        weights.torchvision_inception(tmp_path, name, "cpu")


def test_fidelity_inception_is_torch_fidelity_s(tmp_path, monkeypatch):
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3").FeatureExtractorInceptionV3
    torch.manual_seed(0)
    with monkeypatch.context() as patch:  # its constructor wants weights; these are random
        patch.setattr(torch, "load", lambda *a, **k: {})
        patch.setattr(extractor, "load_state_dict", lambda self, state: None)
        model = extractor("random", ["2048", "logits_unbiased"], feature_extractor_weights_path="none")
    name = save(tmp_path, "inception", model.state_dict())
    judge = weights.fidelity_inception(tmp_path, name, "cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    found = judge.measure(pictures)
    features, logits = model(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    np.testing.assert_allclose(found["features"], features.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["log_posteriors"], logits.log_softmax(1).numpy(), rtol=1e-4, atol=1e-4)
