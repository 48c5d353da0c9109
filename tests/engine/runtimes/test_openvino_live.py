"""A live run starts in torch, changes over to OpenVINO when that is ready, and back for good if it is slower."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("openvino")

from engine.runtimes.comparison import COUNTED
from engine.runtimes.openvino_runtime import SEEN_BEFORE_COMPILING, OpenVinoRuntime

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
Unpacking = tuple[Callable[..., object], tuple[object, ...]]
PREPARED = "torch f32 (OpenVINO is being prepared)"


class WhenPickled:
    """Does something when the module it hangs on is packed for the trial, or when it is unpacked there."""

    def __init__(self, here: Callable[[], object] = lambda: None, there: Unpacking = (str, ())) -> None:
        self._here, self._there = here, there

    def __reduce__(self) -> Unpacking:
        self._here()
        return self._there


def convolution(told: WhenPickled | None = None) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()).requires_grad_(False)
    network.told = told  # type: ignore[assignment]
    return network


def picture(side: int = 16) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(3))


def close(own: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(own, theirs, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_while_openvino_is_being_prepared_torch_answers_and_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    packing, may_go_on = threading.Event(), threading.Event()

    def hold() -> None:
        packing.set()
        may_go_on.wait()

    network = convolution(WhenPickled(here=hold))
    expected = network(picture())
    ours = OpenVinoRuntime(torch_name="torch f32", threads=1, wait=False)
    assert ours.name == PREPARED
    with caplog.at_level(logging.INFO, logger="engine"):
        for call in range(SEEN_BEFORE_COMPILING + 10):  # the thread beside is held from the fourth call on
            assert torch.equal(ours("encoder", network, (picture(),)), expected), call  # to the bit: it is torch's own
            assert ours.name == PREPARED
        assert packing.wait(60.0)
        may_go_on.set()
        ours.settle()
        assert ours.name == "OpenVINO f32"
        assert close(ours("encoder", network, (picture(),)), expected)
        other = picture(24)
        assert torch.equal(ours("encoder", network, (other,)), network(other))  # a new size, not compiled yet
    assert [record.getMessage() for record in caplog.records] == ["the model runs in OpenVINO f32"]


class StreamClock:
    """Seconds that pass with every look: one before the change to OpenVINO, `slow` after it."""

    def __init__(self, slow: float) -> None:
        self._slow, self._now = slow, 0.0
        self.runtime: OpenVinoRuntime | None = None

    def __call__(self) -> float:
        assert self.runtime is not None
        self._now += self._slow if self.runtime.name.startswith("OpenVINO") else 1.0
        return self._now


@pytest.mark.parametrize(("slow", "final"), [(2.0, "torch f32"), (0.7, "OpenVINO f32")])
@torch.inference_mode()
def test_auto_changes_over_counts_and_goes_back_if_slower(slow: float, final: str, caplog: pytest.LogCaptureFixture) -> None:
    clock, network = StreamClock(slow), convolution()
    ours = OpenVinoRuntime(torch_name="torch f32", threads=1, wait=False, compare=True, clock=clock)
    clock.runtime = ours
    expected = network(picture())
    with caplog.at_level(logging.INFO, logger="engine"):
        for _ in range(SEEN_BEFORE_COMPILING):
            ours("encoder", network, (picture(),))
        ours.settle()
        for call in range(COUNTED):  # ready, but torch is counted first
            assert ours.name == PREPARED, call
            assert torch.equal(ours("encoder", network, (picture(),)), expected)
        for call in range(COUNTED):
            assert ours.name == "OpenVINO f32", call
            assert close(ours("encoder", network, (picture(),)), expected)
        for _ in range(3 * COUNTED):
            assert ours.name == final
            assert close(ours("encoder", network, (picture(),)), expected)
    back = ["the model runs in torch f32 again: OpenVINO takes 2.00 of its time here"]
    assert [record.getMessage() for record in caplog.records] == ["the model runs in OpenVINO f32"] + (back if final == "torch f32" else [])
    assert torch.equal(ours("encoder", network, (picture(24),)), network(picture(24))) and ours.name.startswith(final)


@torch.inference_mode()
def test_a_part_that_ends_the_trial_stays_in_torch_and_the_others_change_over(caplog: pytest.LogCaptureFixture) -> None:
    crashing, good = convolution(WhenPickled(there=(os._exit, (9,)))), convolution()
    ours = OpenVinoRuntime(torch_name="torch f32", threads=1, wait=False)
    with caplog.at_level(logging.WARNING, logger="engine"):
        for _ in range(SEEN_BEFORE_COMPILING):
            for part, network in (("denoiser", crashing), ("decoder", good)):
                ours(part, network, (picture(),))
        ours.settle()
    assert [record.getMessage() for record in caplog.records] == [
        "OpenVINO does not run the denoiser: a trial ended with 9 (no word); torch runs it"
    ]
    assert ours.name == "OpenVINO f32 (denoiser in torch f32)"
    assert torch.equal(ours("denoiser", crashing, (picture(),)), crashing(picture()))
    assert close(ours("decoder", good, (picture(),)), good(picture()))
