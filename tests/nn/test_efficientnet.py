"""The bundled network that compares pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ugatit_cli.errors import ModelError
from ugatit_cli.nn import efficientnet
from ugatit_cli.nn.efficientnet import SHA256, Features, bundled_features, distance

# Of the package's float32 file.
RECORDED = [6.93945, 7.05415, 5.07555, 2.24872]


@pytest.fixture(scope="module")
def features() -> Features:
    return bundled_features()


def test_features_tell_how_far_pictures_are_apart(features: Features) -> None:
    x = torch.rand(2, 3, 35, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert [tuple(one.shape[1:]) for one in features(x)] == [(24, 9, 8), (40, 5, 4), (112, 3, 2), (320, 2, 1)]
    near, far = (x + step for step in (0.01, 0.5))
    wanted = features(x)
    assert 0 == distance(wanted, wanted) < distance(features(near), wanted) < distance(features(far), wanted)
    near.requires_grad_()
    torch.autograd.backward(distance(features(near), wanted))
    assert near.grad is not None
    assert near.grad.count_nonzero() > near.numel() / 2


def test_its_features_are_those_of_the_original(features: Features) -> None:
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    picture = torch.stack([rows, columns, rows * columns])[None]
    means = [one.abs().mean().item() for one in features(picture)]
    assert means == pytest.approx(RECORDED, rel=0.01)


def test_a_damaged_file_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(efficientnet.WEIGHTS.read_bytes())
    data[-1] ^= 1
    (tmp_path / "lite").write_bytes(data)
    monkeypatch.setattr(efficientnet, "WEIGHTS", tmp_path / "lite")
    with pytest.raises(ModelError, match="damaged"):
        bundled_features()


def test_the_notice_names_it() -> None:
    notice = (Path(__file__).parents[2] / "NOTICE").read_text()
    assert SHA256 in notice
    assert "Apache" in notice
