"""Products by oneDNN against PyTorch's own: values, gradients, in place, in any number of dimensions."""

import pytest
import torch
from torch import Tensor, nn

from prefrec_ray import acceleration as linear
from prefrec_ray.acceleration import Linear

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="PyTorch without oneDNN's product",
)


@pytest.fixture(autouse=True)
def faster(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """oneDNN on any processor, and for any size; how often it was asked."""
    calls: list[int] = []
    product = linear._product

    def counted(*arguments: Tensor) -> Tensor:
        calls.append(1)
        return product(*arguments)

    monkeypatch.setattr(linear, "_is_faster", lambda: True)
    monkeypatch.setattr(linear, "_LEAST", 1)
    monkeypatch.setattr(linear, "_product", counted)
    return calls


def pair(inputs: int, outputs: int) -> tuple[nn.Linear, Linear]:
    torch.manual_seed(0)
    plain, own = nn.Linear(inputs, outputs), Linear(inputs, outputs)
    own.load_state_dict(plain.state_dict())
    return plain, own


def values_and_gradients(layer: nn.Linear, inputs: Tensor) -> list[Tensor]:
    inputs = inputs.clone().requires_grad_()
    after = torch.relu_(layer(inputs))  # in place, as the networks have it
    gradients = torch.autograd.grad((after * torch.arange(after.shape[-1])).sum(), [inputs, *layer.parameters()])
    return [after.detach(), *gradients]


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (2, 2, 2, 7), (1, 7)])
def test_values_and_gradients_are_those_of_pytorch(shape: tuple[int, ...], faster: list[int]) -> None:
    plain, own = pair(7, 4)
    inputs = torch.randn(shape)
    for expected, found in zip(values_and_gradients(plain, inputs), values_and_gradients(own, inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert len(faster) == 3  # forward, by the inputs, by the weight


def test_rows_that_lie_apart_in_memory_and_gradients_that_nobody_wants(faster: list[int]) -> None:
    plain, own = pair(7, 4)
    apart = torch.randn(7, 12).T[::2]
    torch.testing.assert_close(own(apart), plain(apart))
    own.requires_grad_(False)
    inputs = apart.clone().requires_grad_()
    faster.clear()
    (gradient,) = torch.autograd.grad(own(inputs).sum(), [inputs])
    torch.testing.assert_close(gradient, plain.weight.sum(0).expand(6, 7))
    assert len(faster) == 2
    with torch.inference_mode():
        torch.testing.assert_close(own(apart), plain(apart))


def test_other_numbers_and_nothing_at_all_go_the_usual_way(faster: list[int]) -> None:
    plain, own = pair(7, 4)
    assert own(torch.empty(0, 7)).shape == (0, 4)
    torch.testing.assert_close(own.double()(torch.ones(2, 7).double()), plain.double()(torch.ones(2, 7).double()))
    plain, own = pair(7, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert own(torch.ones(2, 7)).dtype == torch.bfloat16
    assert not faster


def test_a_small_product_goes_the_usual_way(faster: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    _, own = pair(7, 4)
    monkeypatch.setattr(linear, "_LEAST", 2 * 7 * 4 + 1)
    own(torch.ones(2, 7))
    assert not faster
    own(torch.ones(3, 7))
    assert len(faster) == 1
