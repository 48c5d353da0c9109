"""Dry/wet and feedback, against closed forms."""

import pytest
import torch

from engine.images.blend import feedback, mix

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def noise(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(seed)) * 2 - 1).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_the_ends_are_exact(dtype: torch.dtype, as_tensor: bool) -> None:
    dry, wet = noise(1, dtype), noise(2, dtype)
    zero, one = (torch.tensor(0.0), torch.tensor(1.0)) if as_tensor else (0.0, 1.0)
    assert torch.equal(mix(dry, wet, zero), dry)
    assert torch.equal(mix(dry, wet, one), wet)


@pytest.mark.parametrize("amount", [0.1, 0.5, 0.77])
def test_the_middle_is_the_weighted_mean(amount: float) -> None:
    dry, wet = noise(1), noise(2)
    expected = (1 - amount) * dry.double() + amount * wet.double()
    torch.testing.assert_close(mix(dry, wet, amount).double(), expected, atol=1e-6, rtol=0)
    assert torch.equal(mix(dry, wet, torch.tensor(amount)), mix(dry, wet, amount))


def test_feedback_fades_as_a_geometric_series() -> None:
    incoming, amount = torch.full((1, 3, 4, 4), 0.5), 0.8
    last = torch.full_like(incoming, -1.0)
    for step in range(1, 20):
        last = feedback(incoming, last, amount)
        torch.testing.assert_close(last, torch.full_like(last, 0.5 - 1.5 * amount**step), atol=1e-5, rtol=0)


def test_feedback_forgets_broken_and_runaway_pixels() -> None:
    incoming, last = noise(1), noise(2)
    last[0, 0, 0, 0], last[0, 1, 2, 3], last[0, 2, 4, 5] = float("nan"), 90.0, float("-inf")
    fed = feedback(incoming, last, 0.9)
    assert torch.isfinite(fed).all()
    assert float(fed.abs().max()) <= 1.0
    assert float(fed[0, 0, 0, 0]) == pytest.approx(float(incoming[0, 0, 0, 0]))
    assert float(fed[0, 1, 2, 3]) == pytest.approx(0.1 * float(incoming[0, 1, 2, 3]) + 0.9, abs=1e-6)


def test_nothing_is_read_back_from_the_device() -> None:
    """A meta tensor has no values: reading one, or deciding by one, would raise."""
    picture = torch.empty(1, 3, 4, 4, device="meta", dtype=torch.float16)
    assert feedback(picture, picture, torch.empty((), device="meta")).shape == picture.shape
