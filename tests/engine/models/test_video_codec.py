"""Streaming codecs: bit for bit what the whole clip gives, per session, the same for hours; against the golden dump and an
independent reading of the tiny one."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.autoencoder import Autoencoder
from engine.models.catalogue import resolve
from engine.models.taehv import SoftClamp, Taehv, fitted
from engine.models.video_codec import FeatureCache, FrameCodec, StreamVae, VideoCodec, check_picture_count, picture_count, to_channels_last
from engine.models.video_codec_tiny import StreamTaehv
from engine.models.weights import load

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "video_stream" / "batch_2steps.pt"
CUTS = ((1, 4, 4, 4), (5, 8), (9, 4), (13,))
"""Ways to cut 13 pictures into chunks."""


def wan_vae(seed: int = 0, *, base: int = 8) -> Any:
    from diffusers import AutoencoderKLWan

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderKLWan(base_dim=base, num_res_blocks=1).eval()


def taehv(seed: int = 0) -> Taehv:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Taehv().eval().requires_grad_(False)


def clip(pictures: int = 13, *, seed: int = 0, batch: int = 1, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(batch, pictures, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def encoded(codec: VideoCodec, pictures: Tensor, cuts: tuple[int, ...]) -> Tensor:
    return torch.cat([codec.encode(part) for part in pictures.split(list(cuts), dim=1)], dim=1)


def decoded(codec: VideoCodec, latents: Tensor, cuts: tuple[int, ...]) -> Tensor:
    return torch.cat([codec.decode(part) for part in latents.split(list(cuts), dim=1)], dim=1)


def mean_and_std(vae: Any) -> tuple[Tensor, Tensor]:
    return torch.tensor(vae.config.latents_mean).view(1, 1, -1, 1, 1), torch.tensor(vae.config.latents_std).view(1, 1, -1, 1, 1)


# The Wan autoencoder


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("fixed", [False, True])
def test_streamed_latents_are_those_of_the_whole_clip_bit_for_bit(cuts: tuple[int, ...], fixed: bool) -> None:
    vae, x = wan_vae(), clip(batch=2, height=32, width=48)
    with torch.no_grad():
        mu = vae.encode(x.transpose(1, 2)).latent_dist.mode().transpose(1, 2)
    assert torch.equal(encoded(StreamVae(vae, input_latents="raw", fixed_caches=fixed), x, cuts), mu)
    mean, std = mean_and_std(vae)
    assert torch.equal(encoded(StreamVae(vae, fixed_caches=fixed), x, cuts), (mu - mean) / std)


@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1), (2, 3), (5,)])
@pytest.mark.parametrize("fixed", [False, True])
def test_streamed_pictures_are_those_of_the_whole_clip_bit_for_bit(cuts: tuple[int, ...], fixed: bool) -> None:
    vae = wan_vae()
    z = torch.randn(2, 5, 16, 4, 6, generator=torch.Generator().manual_seed(1))
    mean, std = mean_and_std(vae)
    with torch.no_grad():
        whole = vae.decode((z * std + mean).transpose(1, 2)).sample.transpose(1, 2)
    for convention in ("normalised", "raw"):  # the way out is the same for both
        codec = StreamVae(vae, input_latents=convention, fixed_caches=fixed)
        assert torch.equal(decoded(codec, z, cuts), whole)
        assert whole.shape == (2, picture_count(5, first=True), 3, 32, 48)


@pytest.mark.skipif(not GOLDEN.is_file(), reason="the reference dumps (shared/golden/video_stream) are not beside the checkout")
def test_the_reference_autoencoders_numbers_are_reproduced() -> None:
    from diffusers import AutoencoderKLWan

    dump = torch.load(GOLDEN, weights_only=True)["vae"]
    vae = AutoencoderKLWan(base_dim=16, num_res_blocks=1).eval()
    vae.load_state_dict({diffusers_name(key, res_blocks=1): tensor for key, tensor in dump["state"].items()})
    codec = StreamVae(vae, input_latents="raw")
    z = encoded(codec, dump["x"].transpose(1, 2), (1, 4, 4, 4))
    assert (z - dump["z"].transpose(1, 2)).abs().max() < 1e-5
    mean, std = mean_and_std(vae)
    y = decoded(codec, (z - mean) / std, (1, 1, 1, 1))
    assert (y - dump["y"].transpose(1, 2).clamp(-1, 1)).abs().max() < 1e-4
    assert dump["y"].abs().max() > 1  # the clamp does something


def test_sessions_share_weights_and_nothing_else() -> None:
    vae = wan_vae()
    one, two, alone = clip(seed=1), clip(seed=2), StreamVae(vae)
    wanted = encoded(alone, one, (1, 4, 4, 4))
    a, b = StreamVae(vae), StreamVae(vae)
    found = []
    for first, second in zip(one.split([1, 4, 4, 4], dim=1), two.split([1, 4, 4, 4], dim=1), strict=True):
        found.append(a.encode(first))
        b.encode(second)
        vae.encode(second.transpose(1, 2)[:, :, :1])  # the module's own caches are nobody's
    assert torch.equal(torch.cat(found, dim=1), wanted)


def test_channels_last_is_another_layout_and_the_same_pictures() -> None:
    x, vae = clip(9, height=32, width=48), wan_vae()
    plain = StreamVae(vae, fixed_caches=True)
    latents = encoded(plain, x, (1, 4, 4))
    pictures = decoded(plain, latents, (1, 1, 1))
    to_channels_last(vae)
    codec = StreamVae(vae, fixed_caches=True)
    assert torch.allclose(encoded(codec, x, (1, 4, 4)), latents, atol=1e-5)
    assert torch.allclose(decoded(codec, latents, (1, 1, 1)), pictures, atol=1e-4)
    assert any(memory.stride(1) == 1 for memory in codec.memory)


@pytest.mark.parametrize("make", [lambda: StreamVae(wan_vae()), lambda: StreamTaehv(taehv())], ids=["wan", "taehv"])
def test_after_a_reset_a_session_is_a_new_one(make: Callable[[], Any]) -> None:
    codec, x = make(), clip(seed=3)
    z = encoded(codec, x, (1, 4, 4, 4))
    y = decoded(codec, z, (2, 2))
    encoded(codec, clip(8, seed=4), (8,))
    codec.reset()
    assert not codec.is_steady
    assert torch.equal(encoded(codec, x, (5, 8)), z)
    assert torch.equal(decoded(codec, z, (4,)), y)
    assert y.shape == x.shape and y.abs().max() <= 1


@pytest.mark.parametrize("make", [lambda: StreamVae(wan_vae()), lambda: StreamTaehv(taehv())], ids=["wan", "taehv"])
def test_a_picture_encoded_alone_is_a_first_latent_and_leaves_the_session_as_it_was(make: Callable[[], Any]) -> None:
    codec, x = make(), clip(seed=5)
    wanted = encoded(codec, x, (1, 4, 4, 4))
    codec.reset()
    parts = [codec.encode(x[:, :5])]
    assert torch.equal(codec.encode_alone(x[:, :1]), wanted[:, :1])
    parts.append(codec.encode(x[:, 5:]))
    assert torch.equal(torch.cat(parts, dim=1), wanted)


@pytest.mark.parametrize(
    "make",
    [lambda: StreamVae(wan_vae(base=4)), lambda: StreamVae(wan_vae(base=4), fixed_caches=True), lambda: StreamTaehv(taehv())],
    ids=["wan", "wan, fixed caches", "taehv"],
)
def test_hundreds_of_chunks_take_no_more_memory_than_two(make: Callable[[], Any]) -> None:
    codec, x = make(), clip(9, height=8, width=8)

    def chunk(pictures: Tensor) -> None:
        codec.decode(codec.encode(pictures))

    def tensors() -> int:
        gc.collect()
        return sum(1 for found in gc.get_objects() if issubclass(type(found), Tensor))

    chunk(x[:, :1])
    chunk(x[:, 1:5])
    held, before = sum(part.nbytes for part in codec.memory), tensors()
    for number in range(200):
        chunk(x[:, 1 + number % 4 : 5 + number % 4])
    assert held > 0 and (sum(part.nbytes for part in codec.memory), tensors()) == (held, before)


@pytest.mark.parametrize(
    "make", [lambda: StreamVae(wan_vae(), fixed_caches=True), lambda: StreamTaehv(taehv())], ids=["wan", "taehv"]
)  # fmt: skip
def test_once_steady_what_is_remembered_stays_where_it_is_after_a_reset_too(make: Callable[[], Any]) -> None:
    codec, x = make(), clip(17)
    steady: list[list[int]] = []
    for _ in range(2):
        assert not codec.is_steady
        for part in x.split([1, 4, 4, 4, 4], dim=1):
            codec.decode(codec.encode(part))
            steady += [[place.data_ptr() for place in codec.memory]] if codec.is_steady else []
        codec.reset()
    assert len(steady) >= 8 and all(places == steady[0] for places in steady)


@pytest.mark.parametrize(
    "make", [lambda: StreamVae(wan_vae(), fixed_caches=True), lambda: StreamTaehv(taehv())], ids=["wan", "taehv"]
)  # fmt: skip
def test_calls_that_must_not_count_are_undone_by_putting_the_memory_back(make: Callable[[], Any]) -> None:
    codec, x = make(), clip(13)
    wanted = encoded(codec, x, (1, 4, 4, 4))
    pictures = decoded(codec, wanted, (1, 1, 1, 1))
    codec.reset()
    for part in (x[:, :1], x[:, 1:5]):
        codec.decode(codec.encode(part))
    saved = [place.clone() for place in codec.memory]
    for seed in (8, 9):
        codec.decode(codec.encode(clip(4, seed=seed)))
    for place, before in zip(codec.memory, saved, strict=True):
        place.copy_(before)
    z = codec.encode(x[:, 5:])
    assert torch.equal(z, wanted[:, 2:]) and torch.equal(codec.decode(z), pictures[:, 5:])


@pytest.mark.parametrize(
    "make", [lambda: StreamVae(wan_vae(), fixed_caches=True), lambda: StreamTaehv(taehv())], ids=["wan", "taehv"]
)  # fmt: skip
def test_a_session_may_start_at_another_size(make: Callable[[], Any]) -> None:
    used, fresh = make(), make()
    used.decode(encoded(used, clip(9), (1, 4, 4)))
    used.reset()
    x = clip(9, batch=2, height=24, width=16)
    z = encoded(used, x, (1, 4, 4))
    assert torch.equal(z, encoded(fresh, x, (1, 4, 4))) and torch.equal(used.decode(z), fresh.decode(z))


def test_a_session_at_832x480_takes_what_is_published_and_the_tiny_one_a_25th() -> None:
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):  # shapes only
        large = StreamVae(AutoencoderKLWan().to(torch.bfloat16))
        tiny = StreamTaehv(Taehv().to(torch.float16))
        chunks = [torch.empty(1, pictures, 3, 480, 832) for pictures in (1, 4, 4)]
    for codec in (large, tiny):
        for part in chunks:
            assert codec.decode(codec.encode(part)).shape == part.shape
    halves = [sum(entry.nbytes for entry in cache.tensors) / 1e9 for cache in (large._encoder_cache, large._decoder_cache)]
    assert halves == pytest.approx([1.12, 1.89], abs=0.005)
    assert sum(place.nbytes for place in tiny.memory) / 1e9 == pytest.approx(0.1174, abs=0.0001)


def test_half_precision_weights_give_float32_latents() -> None:
    codec = StreamVae(wan_vae().to(torch.bfloat16))
    z = codec.encode(clip(1))
    assert z.dtype == torch.float32 and torch.isfinite(codec.decode(z)).all()


def test_an_autoencoder_of_another_shape_is_refused() -> None:
    from diffusers import AutoencoderKLWan

    with pytest.raises(ValueError, match="4 pictures a latent"):
        StreamVae(AutoencoderKLWan(base_dim=4, num_res_blocks=1, patch_size=2, in_channels=12, out_channels=12))


# The tiny one


def test_the_key_layout_and_size_are_the_published_ones() -> None:
    network = taehv()
    state = network.state_dict()
    assert sum(p.numel() for p in network.encoder.parameters()) == 1_470_928
    assert sum(p.numel() for p in network.decoder.parameters()) == 9_844_611
    shapes = {
        "encoder.0.weight": (64, 3, 3, 3), "encoder.2.conv.weight": (64, 128, 1, 1), "encoder.7.conv.weight": (64, 128, 1, 1),
        "encoder.12.conv.weight": (64, 64, 1, 1), "encoder.3.weight": (64, 64, 3, 3), "encoder.16.conv.4.bias": (64,),
        "encoder.17.weight": (16, 64, 3, 3), "decoder.1.weight": (256, 16, 3, 3), "decoder.3.conv.0.weight": (256, 512, 3, 3),
        "decoder.7.conv.weight": (256, 256, 1, 1), "decoder.8.weight": (128, 256, 3, 3), "decoder.13.conv.weight": (256, 128, 1, 1),
        "decoder.19.conv.weight": (128, 64, 1, 1), "decoder.20.weight": (64, 64, 3, 3), "decoder.22.weight": (3, 64, 3, 3),
    }  # fmt: skip
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert "encoder.3.bias" not in state and "decoder.8.bias" not in state and "encoder.4.skip.weight" not in state


@pytest.mark.parametrize("cuts", CUTS)
def test_the_tiny_codec_gives_the_same_bits_however_the_clip_is_cut(cuts: tuple[int, ...]) -> None:
    network, x = taehv(), clip(batch=2)
    z = StreamTaehv(network).encode(x)
    assert z.shape == (2, 4, 16, 2, 3)
    assert torch.equal(encoded(StreamTaehv(network), x, cuts), z)
    latents = tuple((pictures + 3) // 4 for pictures in cuts)
    y = StreamTaehv(network).decode(z)
    assert y.shape == x.shape and torch.equal(decoded(StreamTaehv(network), z, latents), y)


def test_the_tiny_codec_is_an_independent_offline_reading_of_its_weights() -> None:
    network, x = taehv().double(), clip(9, batch=2).double()
    weights = network.state_dict()
    padded = torch.cat([x[:, :1], x[:, :1], x[:, :1], x], dim=1)
    z = offline(weights, "encoder", (padded + 1) / 2)
    codec = StreamTaehv(network)
    assert (encoded(codec, x, (1, 4, 4)) - z).abs().max() < 1e-6  # latents leave as float32
    y = offline(weights, "decoder", z)[:, 3:].clamp(0, 1) * 2 - 1
    assert y.std() > 0.01
    assert (decoded(codec, z, (1, 2)) - y).abs().max() < 1e-12


def test_raw_latents_are_the_tiny_ones_on_wans_scale() -> None:
    vae, x = wan_vae(), clip(5)
    mean, std = mean_and_std(vae)
    raw = StreamTaehv(
        taehv(), input_latents="raw", latents_mean=tuple(vae.config.latents_mean), latents_std=tuple(vae.config.latents_std)
    )
    assert torch.allclose(raw.encode(x), StreamTaehv(taehv()).encode(x) * std + mean)
    with pytest.raises(ValueError, match="means and deviations"):
        StreamTaehv(taehv(), input_latents="raw")


def test_time_layers_that_were_published_for_more_frames_are_cut_to_the_last() -> None:
    state = taehv().state_dict()
    longer = dict(state) | {"decoder.7.conv.weight": torch.cat([torch.zeros(256, 256, 1, 1), state["decoder.7.conv.weight"]])}
    cut = fitted(longer)
    assert all(torch.equal(cut[name], state[name]) for name in state)
    assert fitted(state).keys() == state.keys()


def test_latents_are_pulled_into_minus_three_to_three() -> None:
    x = torch.tensor([-1000.0, 0.0, 0.003, 1000.0])
    assert torch.allclose(SoftClamp()(x), torch.tensor([-3.0, 0.0, 0.003, 3.0]), atol=1e-6)


# One picture a latent


def test_an_image_autoencoder_works_frame_by_frame(tiny_model: Callable[[str], Path]) -> None:
    image = Autoencoder.of(load(resolve(str(tiny_model("flow"))), device=torch.device("cpu"), dtype=torch.float32))
    codec, x = FrameCodec(image), clip(3, batch=2)
    z = codec.encode(x)
    assert z.shape == (2, 3, codec.latent_channels, 2, 3) and codec.pictures_per_latent == 1
    y = codec.decode(z)
    for row in range(2):
        assert torch.allclose(z[row], image.encode(x[row]), atol=1e-6)
        assert torch.allclose(y[row], image.decode(z[row]), atol=1e-6)
    assert torch.equal(codec.encode_alone(x[:, :1]), codec.encode(x[:, :1]))


# Counting


@pytest.mark.parametrize(
    ("latents", "first", "each", "pictures"), [(1, True, 4, 1), (2, True, 4, 5), (1, False, 4, 4), (3, False, 4, 12), (3, True, 1, 3)]
)
def test_how_many_pictures_a_chunk_holds(latents: int, first: bool, each: int, pictures: int) -> None:
    assert picture_count(latents, first=first, pictures_per_latent=each) == pictures
    check_picture_count(pictures, first=first, pictures_per_latent=each)


@pytest.mark.parametrize(("pictures", "first"), [(0, True), (0, False), (4, True), (5, False), (2, True)])
def test_pictures_that_fill_no_whole_latent_are_refused(pictures: int, first: bool) -> None:
    with pytest.raises(ValueError, match="pictures, not"):
        check_picture_count(pictures, first=first, pictures_per_latent=4)


def test_a_codec_refuses_them_and_goes_on() -> None:
    for codec in (StreamVae(wan_vae()), StreamTaehv(taehv())):
        with pytest.raises(ValueError, match="1 \\+ 4k"):
            codec.encode(clip(4))
        codec.encode(clip(1))
        with pytest.raises(ValueError, match="a multiple of 4"):
            codec.encode(clip(5))
        assert codec.encode(clip(4)).shape[1] == 1


def test_a_cache_that_nothing_ran_through_is_new_and_not_steady() -> None:
    cache = FeatureCache(3)
    assert cache.is_new and not cache.is_steady and cache.tensors == []


def offline(weights: dict[str, Tensor], half: str, x: Tensor) -> Tensor:
    """The tiny autoencoder over a whole clip [B, T, C, H, W], from the weights' names and numbers alone."""
    places = sorted({int(name.split(".")[1]) for name in weights if name.startswith(half)})
    batch = len(x)
    if half == "decoder":
        x = 3 * torch.tanh(x / 3)
    for place in places:
        own = {name.split(".", 2)[2]: weight for name, weight in weights.items() if name.startswith(f"{half}.{place}.")}
        frames = x.shape[1]
        if "conv.0.weight" in own:
            h = torch.cat([x, torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)], dim=2).flatten(0, 1)
            for step in (0, 2, 4):
                h = F.conv2d(h, own[f"conv.{step}.weight"], own[f"conv.{step}.bias"], padding=1)
                h = h.relu() if step < 4 else h
            x = (h.unflatten(0, (batch, frames)) + x).relu()
        elif "conv.weight" in own:
            kernel = own["conv.weight"][:, :, 0, 0]
            if half == "encoder":
                stride = kernel.shape[1] // x.shape[2]
                x = torch.einsum("oc,btchw->btohw", kernel, x.reshape(batch, frames // stride, -1, *x.shape[3:]))
            else:
                x = x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
                grown = torch.einsum("oc,btchw->btohw", kernel, x)
                x = grown.reshape(batch, -1, *x.shape[2:])
        else:
            stride = 2 if half == "encoder" and "bias" not in own else 1
            h = F.conv2d(x.flatten(0, 1), own["weight"], own.get("bias"), padding=1, stride=stride)
            x = h.unflatten(0, (batch, -1))
            if place in ((0,) if half == "encoder" else (1, 20)):
                x = x.relu()
    return x


_RENAMED = {
    "encoder.conv1.": "encoder.conv_in.", "decoder.conv1.": "decoder.conv_in.", "head.0.gamma": "norm_out.gamma",
    "head.2.": "conv_out.", "middle.0.": "mid_block.resnets.0.", "middle.1.": "mid_block.attentions.0.",
    "middle.2.": "mid_block.resnets.1.", "encoder.downsamples.": "encoder.down_blocks.", "residual.0.gamma": "norm1.gamma",
    "residual.2.": "conv1.", "residual.3.gamma": "norm2.gamma", "residual.6.": "conv2.", "shortcut.": "conv_shortcut.",
}  # fmt: skip


def diffusers_name(key: str, *, res_blocks: int) -> str:
    """The Wan autoencoder's original name of a weight as diffusers has it; diffusers' own converter knows two blocks only."""
    for old, new in {"conv1.": "quant_conv.", "conv2.": "post_quant_conv."}.items():
        if key.startswith(old):
            return key.replace(old, new)
    up = re.match(r"decoder\.upsamples\.(\d+)\.(.*)", key)
    if up:
        block, place = divmod(int(up[1]), res_blocks + 2)
        key = f"decoder.up_blocks.{block}.{f'resnets.{place}' if place <= res_blocks else 'upsamplers.0'}.{up[2]}"
    for old, new in _RENAMED.items():
        key = key.replace(old, new)
    return key
