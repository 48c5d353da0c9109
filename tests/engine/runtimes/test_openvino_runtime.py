"""OpenVINO gives torch's answers and leaves to torch what it cannot do. How a live run changes over is in test_openvino_live.py."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("openvino")

from engine.models.autoencoder import Autoencoder
from engine.models.catalogue import resolve
from engine.models.image_denoiser import ImageDenoiser
from engine.models.text_encoder import TextEncoder
from engine.models.weights import load
from engine.runtimes.openvino_network import OpenVinoCompiler
from engine.runtimes.openvino_runtime import OpenVinoRuntime
from engine.runtimes.runtime import CannotRun, TorchRuntime

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
CPU = torch.device("cpu")


class Convolution(nn.Module):
    """One layer; `failing` adds an operation that OpenVINO does not know."""

    def __init__(self, *, dtype: torch.dtype = torch.float32, failing: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 8, 3, padding=1, dtype=dtype).requires_grad_(False)
        self.failing = failing

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        y = self.layer(x.to(self.layer.weight.dtype)).float() * scale
        return y + torch.linalg.svdvals(y).sum() if self.failing else y


def runtime() -> OpenVinoRuntime:
    return OpenVinoRuntime(torch_name="torch f32", threads=1, wait=True)


def picture(side: int = 16, rows: int = 1) -> Tensor:
    return torch.randn(rows, 3, side, side, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "ip2p", "flow", "lcm"])
@torch.inference_mode()
def test_denoiser_and_autoencoder_of_every_kind_answer_as_in_torch(tiny_model: Callable[[str], Path], kind: str) -> None:
    loaded = load(resolve(str(tiny_model(kind))), device=CPU, dtype=torch.float32)
    encoder = TextEncoder(loaded, device=CPU, dtype=torch.float32)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    answers = []
    for each in (TorchRuntime(), ours := runtime()):
        denoiser = ImageDenoiser(loaded, device=CPU, dtype=torch.float32, runtime=each)
        autoencoder = Autoencoder.of(loaded, runtime=each)
        for prompts in (["a cat", "oil"], ["oil", "oil"]):
            told = denoiser.condition([encoder.encode(text) for text in prompts], height=64, width=64)
            image = latents.flip(0) if loaded.image_conditioned else None
            answers.append(denoiser(latents, torch.tensor([999.0, 259.0]), told, image_latents=image))
        answers += [autoencoder.encode(picture(64).clamp(-1, 1)), autoencoder.decode(latents)]
    assert ours.name == "OpenVINO f32"
    for theirs, own in zip(answers[:4], answers[4:], strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-3, rtol=1e-3)
    assert not torch.equal(answers[4], answers[5])  # another prompt, the same compiled network


@torch.inference_mode()
def test_a_folded_autoencoder_answers_as_diffusers_own_at_every_size() -> None:
    from diffusers import AutoencoderTiny

    torch.manual_seed(1)
    vae = AutoencoderTiny(num_encoder_blocks=(0, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 0), latent_channels=8).eval()
    autoencoder = Autoencoder(vae, dtype=torch.float32, runtime=(ours := runtime()))
    for rgb in (picture(64), picture(64)[..., :40], picture(32, rows=3)):
        latents = vae.encode(rgb).latents
        torch.testing.assert_close(autoencoder.encode(rgb), latents, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(autoencoder.decode(latents), vae.decode(latents).sample.clamp(-1, 1), atol=1e-3, rtol=1e-3)
    assert ours.name == "OpenVINO f32"


@torch.inference_mode()
def test_bfloat16_stays_near_torch() -> None:
    network, ours = Convolution(dtype=torch.bfloat16), runtime()
    expected = network(picture())
    own = ours("encoder", network, (picture(),))
    assert own.dtype == torch.float32
    assert float((own - expected).norm() / expected.norm()) < 0.02
    assert ours.name in ("OpenVINO bf16", "OpenVINO f32")  # the latter on a CPU without the instructions


@torch.inference_mode()
def test_an_answer_is_not_overwritten_by_the_next() -> None:
    network, ours = Convolution(), runtime()
    first = ours("encoder", network, (picture(),))
    kept = first.clone()
    ours("encoder", network, (picture() + 1.0,))
    assert torch.equal(first, kept)


@torch.inference_mode()
def test_what_cannot_be_converted_runs_in_torch_after_one_line(caplog: pytest.LogCaptureFixture) -> None:
    good, bad, ours = Convolution(), Convolution(failing=True), runtime()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert torch.equal(ours("denoiser", bad, (picture(),)), bad(picture()))
            ours("decoder", good, (picture(),))
    assert len(caplog.records) == 1 and "does not run the denoiser" in caplog.text and "torch runs it" in caplog.text
    assert ours.name == "OpenVINO f32 (denoiser in torch f32)"


def test_a_network_that_branches_on_its_input_is_found_out() -> None:
    """A trace keeps the branch it took: the answer to other numbers is wrong, and compared before it is shown."""

    class Branching(Convolution):
        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            return super().forward(x) * (3.0 if float(x.sum()) > 0.0 else -1.0)

    # The sums of the two inputs that a network is tried with have opposite signs at one of these sizes.
    wanted = {("encoder", ((1, 3, side, side),)): Branching() for side in range(8, 16)}
    outcomes = OpenVinoCompiler(threads=1, trace_here=True).compiled(wanted)
    assert any(isinstance(each, CannotRun) and "differs from torch's" in str(each) for each in outcomes.values())


def test_a_trial_that_fails_in_its_own_process_fails_here_in_words() -> None:
    key = ("encoder", ((1, 3, 8, 8),))
    outcome = OpenVinoCompiler(threads=-5, trace_here=True).compiled({key: Convolution()})[key]
    assert isinstance(outcome, CannotRun) and str(outcome).startswith("a trial failed (")


@torch.inference_mode()
def test_options_that_are_no_tensors_are_torchs(caplog: pytest.LogCaptureFixture) -> None:
    network, ours = Convolution(), runtime()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(ours("denoiser", network, (picture(),), {"scale": 2.0}), network(picture(), scale=2.0))
    assert [record.getMessage() for record in caplog.records] == ["with scale the denoiser runs in torch: OpenVINO does not take that"]
