"""Loading video models: folders, original checkpoints however they were wrapped, adapters; what is wrong is told with whose fault it
is; and the catalogue's shapes against the published layout, without a byte of weights."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.models.catalogue import BY_NAME, CATALOGUE, ModelCard, ModelError, UnknownModel, resolve
from engine.models.model_card import NOT_PINNED
from engine.models.taehv import Taehv
from engine.models.video_catalogue import EMBEDDED_VIDEO
from engine.models.video_checkpoint import converted, empty_transformer, misfits, plain_names, read_checkpoint, shape_of
from engine.models.video_codec import FrameCodec, StreamVae
from engine.models.video_codec_tiny import StreamTaehv
from engine.models.video_files import base_folder, file_of
from engine.models.video_memory import cache_gb, held_gb, weights_gb
from engine.models.video_policies import SHAPES, VideoPolicies, WanShape, policies_from_json
from engine.models.video_weights import LoadedVideoModel, checked_shape, load_video
from engine.pipelines.video_parts import cache_policy, check
from engine.video.cache_memory import DeepSinks

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "video_stream" / "batch_2steps.pt"
CPU = torch.device("cpu")
TINY = WanShape(layers=2, heads=2, ffn_dim=64, text_dim=32, freq_dim=32)
VIDEO_ROWS = [card for card in CATALOGUE if card.video is not None and card.source != EMBEDDED_VIDEO]


def loaded(card: ModelCard, **asked: Any) -> LoadedVideoModel:
    return load_video(card, device=CPU, dtype=asked.pop("dtype", torch.float32), **asked)


def published_layout(shape: WanShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of Wan 2.1's text-to-video transformer as its authors publish it, from its sizes."""
    w, f = shape.width, shape.ffn_dim
    linear = {
        "text_embedding.0": (w, shape.text_dim), "text_embedding.2": (w, w), "time_embedding.0": (w, shape.freq_dim),
        "time_embedding.2": (w, w), "time_projection.1": (6 * w, w), "head.head": (4 * shape.channels, w),
    }  # fmt: skip
    layout: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (w, shape.channels, 1, 2, 2), "patch_embedding.bias": (w,), "head.modulation": (1, 2, w),
    }  # fmt: skip
    for layer in range(shape.layers):
        block = f"blocks.{layer}"
        layout |= {f"{block}.modulation": (1, 6, w), f"{block}.norm3.weight": (w,), f"{block}.norm3.bias": (w,)}
        for kind in ("self_attn", "cross_attn"):
            linear |= {f"{block}.{kind}.{part}": (w, w) for part in "qkvo"}
            layout |= {f"{block}.{kind}.norm_{part}.weight": (w,) for part in "qk"}
        linear |= {f"{block}.ffn.0": (f, w), f"{block}.ffn.2": (w, f)}
    for name, size in linear.items():
        layout |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return layout


def on_meta(shape: WanShape) -> dict[str, Tensor]:
    return {name: torch.empty(size, device="meta") for name, size in published_layout(shape).items()}


def original(folder: Path) -> dict[str, Tensor]:
    """The tiny model's weights under the original names."""
    from engine.models.video_weights import load_video

    transformer = load_video(resolve(str(folder)), device=CPU, dtype=torch.float32).transformer
    state = dict(transformer.state_dict())
    names = {name: next(iter(converted(marked(name), "layout"))) for name in published_layout(TINY)}
    return {name: state[new].clone() for name, new in names.items()}


def marked(name: str) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    new = next(iter(convert_wan_transformer_to_diffusers({name: torch.zeros(1)})))
    return {new: torch.zeros(1), "blocks.0.attn1.to_q.weight": torch.zeros(1)}


@pytest.fixture(scope="module")
def weights(tiny_wan: Path) -> dict[str, Tensor]:
    return original(tiny_wan)


# The catalogue against what is published


@pytest.mark.parametrize("card", VIDEO_ROWS, ids=lambda card: card.name)
def test_the_published_layout_of_a_row_fits_its_transformer_name_by_name(card: ModelCard) -> None:
    assert card.video is not None
    shape = SHAPES[card.video.shape]
    state = converted(on_meta(shape), card.name)
    assert shape_of(state, card.name) == shape
    transformer = empty_transformer(shape)
    assert misfits(state, transformer) == []
    assert all(weight.device.type == "meta" for weight in transformer.parameters())


def test_the_published_numbers_of_weights() -> None:
    counts = {name: sum(torch.Size(size).numel() for size in published_layout(shape).values()) for name, shape in SHAPES.items()}
    assert counts == {"wan-1.3b": 1_418_996_800, "wan-14b": 14_288_491_584}


@pytest.mark.skipif(not GOLDEN.is_file(), reason="the reference dumps (shared/golden/video_stream) are not beside the checkout")
def test_the_layout_is_that_of_the_references_own_weights() -> None:
    dump = torch.load(GOLDEN, weights_only=True, map_location="meta")
    sizes = dump["dims"]
    shape = WanShape(
        layers=sizes["num_layers"], heads=sizes["num_heads"], ffn_dim=sizes["ffn_dim"], text_dim=sizes["text_dim"],
        freq_dim=sizes["freq_dim"],
    )  # fmt: skip
    assert {name: tuple(weight.shape) for name, weight in dump["state_dict"].items()} == published_layout(shape)


def test_every_video_row_says_what_is_needed_to_run_it_and_what_was_checked() -> None:
    assert len(VIDEO_ROWS) == 9
    for card in VIDEO_ROWS:
        assert card.family == "video" and card.licence and card.memory_gb >= 7 and card.guidance == "none"
        assert card.video is not None and card.video.verified and card.video.base and card.video.weights
        assert card.steps <= len(card.video.timesteps)
        assert all(side % 16 == 0 for side in card.size)
        pinned = re.fullmatch(r"[0-9a-f]{40}", card.revision or "") is not None
        assert pinned or card.revision == NOT_PINNED == "not pinned: newest of the hub"
        assert card.hub_revision == (card.revision if pinned else None)
        assert re.fullmatch(r"[0-9a-f]{40}", card.video.base_revision)
        assert any(word in card.licence for word in ("weights", "not known here"))
    raw = {card.name for card in VIDEO_ROWS if card.video is not None and card.video.input_latents == "raw"}
    assert raw == {"streamdiffusion-v2", "streamdiffusion-v2-14b"}
    assert BY_NAME["sd-turbo"].family == "image" and BY_NAME[EMBEDDED_VIDEO].family == "video"


MEASURED = Path(__file__).resolve().parents[3] / "docs" / "benchmarks" / "gpu_video_1.3b_480x832.json"


@pytest.mark.parametrize(
    "run", json.loads(MEASURED.read_text())["rows"], ids=lambda run: f"{run['codec']} {run['scheduler']} {run['steps']}"
)  # fmt: skip
def test_the_memory_of_a_row_is_what_measured_runs_held(run: dict[str, Any]) -> None:
    policies = BY_NAME["streamdiffusion-v2"].video
    assert policies is not None
    reckoned = held_gb(policies, steps=run["steps"], rows=run["rows"], own_autoencoder=run["codec"] == "own")
    assert reckoned == pytest.approx(run["memory_gb"], rel=0.03)


def test_weights_and_cache_by_hand() -> None:
    for name, count, row in (("wan-1.3b", 1_418_996_800, 1.73), ("wan-14b", 14_288_491_584, 7.67)):
        assert weights_gb(SHAPES[name]) == pytest.approx(2e-9 * count, rel=0.002)
        assert cache_gb(SHAPES[name], 6) == pytest.approx(row, abs=0.005)
    assert BY_NAME["streamdiffusion-v2"].memory_gb == 7
    with pytest.raises(ValueError, match="unknown shape"):
        held_gb(VideoPolicies(), steps=1)


def test_a_base_is_fetched_at_its_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, str | None]] = []

    def fetched(source: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((source, revision))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda source, name, *, revision: fetched(source, revision=revision, allow_patterns=[name])
    )
    card = BY_NAME["krea-realtime-14b"]
    assert card.video is not None
    base_folder(card.video, card)
    base_folder(replace(card.video, base_revision=""), card)
    file_of(card, card.video.weights, None)
    file_of(BY_NAME["reward-forcing"], "rewardforcing.pt", None)
    base = "Wan-AI/Wan2.1-T2V-14B-Diffusers"
    assert asked == [
        (base, "38ec498cb3208fb688890f8cc7e94ede2cbd7f68"), (base, None),
        ("krea/krea-realtime-video", "6b5d204f9d14c3c3a59608e49d1da7fad90daf8d"), ("JaydenLu666/Reward-Forcing-T2V-1.3B", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "steps", "timesteps"),
    [
        ("streamdiffusion-v2", 1, (700,)), ("streamdiffusion-v2", 2, (700, 500)), ("streamdiffusion-v2", 4, (700, 500, 400, 200)),
        ("streamdiffusion-v2", 8, (700, 500, 400, 200)), ("self-forcing", 4, (1000, 750, 500, 250)), ("self-forcing", 2, (1000, 500)),
        ("self-forcing", 1, (1000,)), ("self-forcing", 3, (1000, 750, 500)), ("causal-forcing-1step", 2, (1000,)),
        ("self-forcing", 0, (1000,)),
    ],
)  # fmt: skip
def test_which_timesteps_a_number_of_steps_uses(name: str, steps: int, timesteps: tuple[int, ...]) -> None:
    policies = BY_NAME[name].video
    assert policies is not None and policies.timesteps_for(steps) == timesteps


# Policies


@pytest.mark.parametrize(
    "changed",
    [
        {"scheduler": "fast"}, {"cache": "ema_sinks", "sinks": 3}, {"cache": "adaptive_sinks"}, {"cache": "recompute"}, {"window": 2},
        {"sinks": 19}, {"timesteps": ()}, {"timesteps": (500.0, 700.0)}, {"timesteps": (1100.0,)}, {"timesteps": (500.0, 0.0)},
        {"positions": "reset"}, {"shift": 0.0}, {"shape": "wan-2b"}, {"input_latents": "scaled"}, {"first_timesteps": (1.0, 2.0)},
    ],
)  # fmt: skip
def test_policies_that_contradict_themselves_cannot_be_made(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        replace(VideoPolicies(), **changed)


def test_policies_beside_a_model_are_read_and_mistakes_told(copied_wan: Callable[[], Path]) -> None:
    folder = copied_wan()
    assert resolve(str(folder)).video == VideoPolicies()
    file = folder / "video_policies.json"
    file.write_text('{"frames": 1, "window": 4, "timesteps": [900, 400], "warped": false, "positions": "absolute", "shift": 3}')
    card = resolve(str(folder))
    wanted = VideoPolicies(frames=1, window=4, timesteps=(900.0, 400.0), warped=False, positions="absolute", shift=3.0)
    assert card.video == wanted and card.steps == 2
    mistakes = {"[1]": "not a table", '{"frame": 1}': "no policy 'frame'", '{"frames": true}': "frames is a int", "{": "cannot be used"}
    for text, told in mistakes.items():
        file.write_text(text)
        with pytest.raises(UnknownModel, match=told):
            resolve(str(folder))


def test_a_whole_row_survives_being_written_and_read() -> None:
    from dataclasses import asdict

    for card in VIDEO_ROWS:
        assert card.video is not None and policies_from_json(json.dumps(asdict(card.video))) == card.video


# Names to cards


def test_what_is_taken_for_a_video_model(
    tiny_wan: Path, tiny_model: Callable[[str], Path], tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    assert resolve(str(tiny_wan)).family == "video"
    assert resolve(str(tiny_model("sd15"))).family == "image"
    save_file(weights, tmp_path / "wan.safetensors")
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, tmp_path / "sd.safetensors")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "model.pt").write_bytes(b"")
    files = {"wan.safetensors": "video", "sd.safetensors": "image", "empty.safetensors": "image", "model.pt": "video"}
    assert {name: resolve(str(tmp_path / name)).family for name in files} == files
    names = {"wlsaidhi/SFWan2.1-T2V-1.3B-Diffusers": "video", "somebody/Taiwan-2-diffusion": "image", "me/rolling-forcing-x": "video"}
    assert {name: resolve(name).family for name in names} == names


def test_hub_ids_that_several_rows_share_are_the_first_of_them() -> None:
    assert resolve("zhuhz22/Causal-Forcing") is BY_NAME["causal-forcing-2step"]
    assert resolve("jerryfeng/StreamDiffusionV2") is BY_NAME["streamdiffusion-v2"]


def test_a_row_with_weights_of_this_machine(tmp_path: Path, tiny_wan: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(b"")
    card = resolve(f"streamdiffusion-v2@{file}")
    row = BY_NAME["streamdiffusion-v2"].video
    assert row is not None and card.video == replace(row, weights="")
    assert (card.source, card.name) == (str(file), "streamdiffusion-v2@model.pt")
    longlive = resolve(f"longlive@{file}")
    assert longlive.video is not None and longlive.video.adapter == str(tmp_path / "lora.pt")
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(file, tmp_path / "checkpoints" / "self_forcing_dmd.pt")
    assert resolve(f"self-forcing@{tmp_path}").video == BY_NAME["self-forcing"].video
    folder = resolve(f"self-forcing@{tiny_wan}").video
    assert folder is not None and (folder.weights, folder.window) == ("", 21)
    with pytest.raises(UnknownModel, match="neither models/longlive_base.pt nor"):
        resolve(f"longlive@{tmp_path}")
    with pytest.raises(UnknownModel, match="check the path after the @"):
        resolve(f"longlive@{tmp_path}/gone.pt")
    with pytest.raises(UnknownModel):
        resolve(f"sd-turbo@{file}")


@pytest.mark.parametrize("place", ["", "self_forcing_dmd.pt"], ids=["folder", "file"])
def test_policies_beside_a_rows_own_weights_go_over_the_rows(tmp_path: Path, place: str) -> None:
    (tmp_path / "checkpoints").mkdir()
    for file in (tmp_path / "self_forcing_dmd.pt", tmp_path / "checkpoints" / "self_forcing_dmd.pt"):
        file.write_bytes(b"")
    name, beside = f"self-forcing@{tmp_path / place}", tmp_path / "video_policies.json"
    row = BY_NAME["self-forcing"].video
    assert row is not None
    own = replace(row, weights=row.weights if not place else "")
    assert resolve(name).video == own
    beside.write_text('{"cache": "deep_sinks", "sinks": 6}')
    card = resolve(name)
    assert card.video == replace(own, cache="deep_sinks", sinks=6) and card.steps == 4
    assert isinstance(cache_policy(card.video), DeepSinks)
    beside.write_text('{"timesteps": [1000, 500], "base": "/models/wan"}')
    card = resolve(name)
    assert card.video == replace(own, timesteps=(1000.0, 500.0), base="/models/wan", base_revision="") and card.steps == 2
    beside.write_text('{"cache": "deep_sinks"}')  # the row has no sinks
    with pytest.raises(UnknownModel, match=r"video_policies.json cannot be used: .*deep_sinks without sink frames"):
        resolve(name)


def test_the_examples_of_the_page_go_over_a_row() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "video_policies.md").read_text(encoding="utf-8")
    examples = re.findall(r'`(\{"cache".*?\})`', page)
    row = BY_NAME["self-forcing"].video
    assert row is not None and len(examples) == 4
    for example in examples:
        policies = policies_from_json(example, row)
        check(policies)
        assert policies == replace(row, **json.loads(example))


# Loading


def test_a_folder_of_diffusers_is_read_as_it_is(tiny_wan: Path) -> None:
    from diffusers import WanTransformer3DModel

    model = loaded(resolve(str(tiny_wan)))
    theirs = WanTransformer3DModel.from_pretrained(tiny_wan, subfolder="transformer").state_dict()
    ours = model.transformer.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not any(weight.requires_grad for part in (model.transformer, model.vae, model.text_encoder) for weight in part.parameters())
    assert isinstance(model.codec(), StreamVae) and not model.text_offloaded
    assert model.codec() is not model.codec()


WRAPPED: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "bare": lambda state: dict(state),
    "generator": lambda state: {"generator": {f"model.{name}": w for name, w in state.items()}, "critic": {"x": torch.zeros(1)}, "step": 7},
    "ema": lambda state: {
        "generator": {f"model.{name}": torch.zeros_like(w) for name, w in state.items()},
        "generator_ema": {f"model._fsdp_wrapped_module.{name}": w for name, w in state.items()},
    },
    "fsdp blocks": lambda state: {
        "model": {
            "model." + name.replace("blocks.0.", "blocks.0._fsdp_wrapped_module._checkpoint_wrapped_module."): w
            for name, w in state.items()
        }
    },
    "one file": lambda state: {f"model.diffusion_model.{name}": w for name, w in state.items()} | {"freqs": torch.zeros(3)},
    "state dict": lambda state: {"state_dict": {f"generator.model.{name}": w for name, w in state.items()}},
}


@pytest.mark.parametrize(
    ("wrapping", "suffix"), [*((name, ".pt") for name in WRAPPED), ("bare", ".safetensors"), ("one file", ".safetensors")]
)  # fmt: skip
def test_original_checkpoints_are_read_whatever_was_wrapped_around_them(
    wrapping: str, suffix: str, weights: dict[str, Tensor], tiny_wan: Path, tmp_path: Path
) -> None:
    content = WRAPPED[wrapping](weights)
    file = tmp_path / f"model{suffix}"
    (torch.save if suffix == ".pt" else save_file)(content, file)
    card = resolve(str(file))
    model = loaded(replace(card, video=replace(VideoPolicies(), base=str(tiny_wan))))
    ours, theirs = model.transformer.state_dict(), loaded(resolve(str(tiny_wan))).transformer.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not any(tensor.is_meta for tensor in (*model.transformer.parameters(), *model.transformer.buffers()))


@pytest.mark.skipif(not GOLDEN.is_file(), reason="the reference dumps (shared/golden/video_stream) are not beside the checkout")
def test_the_references_own_weights_are_read_and_run(tmp_path: Path) -> None:
    from diffusers import WanTransformer3DModel

    from engine.models.video_checkpoint import filled

    state = torch.load(GOLDEN, weights_only=True)["state_dict"]
    torch.save({"generator": {f"model.{name}": weight for name, weight in state.items()}}, tmp_path / "model.pt")
    shape = checked_shape(tmp_path / "model.pt", VideoPolicies(entry="generator"))
    assert shape == WanShape(layers=3, heads=2, ffn_dim=512, text_dim=64, freq_dim=64)
    ours = filled(empty_transformer(shape), converted(read_checkpoint(tmp_path / "model.pt"), "model.pt"), dtype=torch.float32)
    theirs = WanTransformer3DModel(
        num_layers=3, num_attention_heads=2, ffn_dim=512, text_dim=64, freq_dim=64, attention_head_dim=128
    ).eval()  # fmt: skip
    theirs.load_state_dict(converted(state, "golden"))
    x, text = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.ones(1, 5, 64)
    with torch.no_grad():
        found, wanted = (part(x, torch.tensor([500.0]), text).sample for part in (ours, theirs))
    assert torch.equal(found, wanted) and found.std() > 0.01


def test_half_precision_keeps_what_diffusers_keeps_in_float32(weights: dict[str, Tensor], tiny_wan: Path, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "model.pt")
    card = resolve(str(tmp_path / "model.pt"))
    ours = loaded(replace(card, video=VideoPolicies(base=str(tiny_wan))), dtype=torch.bfloat16).transformer
    theirs = loaded(resolve(str(tiny_wan)), dtype=torch.bfloat16).transformer
    kinds = {name: weight.dtype for name, weight in theirs.state_dict().items()}
    assert {name: weight.dtype for name, weight in ours.state_dict().items()} == kinds
    assert set(kinds.values()) == {torch.bfloat16, torch.float32}


def test_an_adapter_is_added_to_the_weights_it_names(weights: dict[str, Tensor], tiny_wan: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(4, 256, generator=generator), torch.randn(64, 4, generator=generator)
    names = ("base_model.model.blocks.1.ffn.0.lora_A.weight", "base_model.model.blocks.1.ffn.0.lora_B.default.weight")
    torch.save(weights, tmp_path / "longlive_base.pt")
    torch.save({"generator_lora": dict(zip(names, (a, b), strict=True))}, tmp_path / "lora.pt")
    card = resolve(f"longlive@{tmp_path / 'longlive_base.pt'}")
    assert card.video is not None
    card = replace(card, video=replace(card.video, shape="", base=str(tiny_wan)))
    ours, before = loaded(card).transformer.state_dict(), loaded(resolve(str(tiny_wan))).transformer.state_dict()
    changed = "blocks.1.ffn.net.0.proj.weight"
    assert torch.allclose(ours[changed], before[changed] + b @ a, atol=1e-5)
    assert all(torch.equal(ours[name], before[name]) for name in before if name != changed)
    torch.save({names[0]: a}, tmp_path / "lora.pt")
    with pytest.raises(ModelError, match="lora.pt does not fit the checkpoint at blocks.1.ffn.net.0.proj.weight"):
        loaded(card)
    (tmp_path / "lora.pt").unlink()
    with pytest.raises(ModelError, match="also needs the file lora.pt"):
        loaded(card)


def test_the_tiny_autoencoder_takes_the_large_ones_place(tiny_wan: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = Taehv()
    torch.save(network.state_dict(), tmp_path / "taew2_1.pth")
    model = loaded(resolve(str(tiny_wan)), autoencoder=str(tmp_path / "taew2_1.pth"))
    codec = model.codec()
    assert isinstance(codec, StreamTaehv)
    assert torch.equal(model.vae.decoder[1].weight, network.decoder[1].weight)
    raw = replace(model, policies=replace(model.policies, input_latents="raw"))
    picture = torch.zeros(1, 1, 3, 16, 16)
    std, mean = (torch.tensor(values).view(1, 1, 16, 1, 1) for values in (model.latents_std, model.latents_mean))
    assert torch.allclose(raw.codec().encode(picture), codec.encode(picture) * std + mean)


def test_an_image_autoencoder_serves_a_small_video_model(copied_wan: Callable[[], Path]) -> None:
    from diffusers import AutoencoderTiny

    folder = copied_wan()
    shutil.rmtree(folder / "vae")
    AutoencoderTiny(
        encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4, num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4, latent_channels=16, scaling_factor=1.0,
    ).save_pretrained(folder / "vae")  # fmt: skip
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"vae": ["diffusers", "AutoencoderTiny"]}))
    codec = loaded(resolve(str(folder))).codec()
    assert isinstance(codec, FrameCodec) and (codec.latent_channels, codec.factor) == (16, 8)


# What can be wrong


def test_an_image_model_makes_no_video(tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="is an image model"):
        loaded(resolve(str(tiny_model("sd15"))))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"blocks.0.self_attn.q.lora_A.weight": torch.zeros(1)}, "it is a LoRA"),
        ({"decoder.conv1.weight": torch.zeros(1)}, "looks like an autoencoder"),
        ({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1), "a": torch.zeros(1)}, "no Wan transformer"),
        ({"something": torch.zeros(1)}, "the first is something"),
        ({"optimizer": {"x": torch.zeros(1)}}, "has no part generator_ema or generator or model or state_dict; it holds: optimizer"),
        ({}, "it holds: nothing"),
        ([torch.zeros(1)], "holds a list"),
    ],
)  # fmt: skip
def test_a_file_that_is_something_else_is_told_apart(content: Any, told: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=told):
        loaded(resolve(str(tmp_path / "model.pt")))


def test_a_file_that_holds_code_is_not_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"generator": Evil()}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="holds more than weights and is not opened"):
        loaded(resolve(str(tmp_path / "model.pt")))
    assert not (tmp_path / "ran").exists()


def test_a_broken_or_cut_file_is_told(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    (tmp_path / "model.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="model.pt"):
        loaded(resolve(str(tmp_path / "model.pt")))
    save_file(weights, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="broken, incomplete"):
        loaded(resolve(str(tmp_path / "model.safetensors")))


def test_weights_of_another_shape_missing_or_unknown_are_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    file = tmp_path / "model.pt"
    torch.save(weights, file)
    with pytest.raises(ModelError, match="has the shape 2 layers of 256, this model wants wan-1.3b"):
        loaded(resolve(f"streamdiffusion-v2@{file}"))
    torch.save({name: weight for name, weight in weights.items() if name != "blocks.1.ffn.2.bias"}, file)
    with pytest.raises(ModelError, match=r"in 1 places \(the first: blocks.1.ffn.net.2.bias is missing"):
        loaded(resolve(str(file)))
    torch.save(weights | {"blocks.0.self_attn.k.weight": torch.zeros(256, 8)}, file)
    with pytest.raises(ModelError, match=r"attn1.to_k.weight is \[256, 8\], not \[256, 256\]"):
        loaded(resolve(str(file)))
    torch.save(weights | {"blocks.0.vace.weight": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match="vace.weight is unknown"):
        loaded(resolve(str(file)))
    torch.save(weights | {"img_emb.proj.0.weight": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match="image-to-video"):
        loaded(resolve(str(file)))
    torch.save({"generator": weights}, file)
    with pytest.raises(ModelError, match="no part generator_ema; it holds: generator"):
        loaded(resolve(f"self-forcing@{file}"))


def test_the_14b_shape_in_a_row_of_the_small_one_is_named_before_anything_is_read(tmp_path: Path) -> None:
    torch.save(on_meta(SHAPES["wan-14b"]), tmp_path / "model.pt")
    with pytest.raises(ModelError, match="model.pt has the shape wan-14b, this model wants wan-1.3b"):
        checked_shape(tmp_path / "model.pt", VideoPolicies(shape="wan-1.3b"))
    assert checked_shape(tmp_path / "model.pt", VideoPolicies(shape="wan-14b")) == SHAPES["wan-14b"]


def test_a_bare_checkpoint_says_how_to_get_the_rest(tmp_path: Path, weights: dict[str, Tensor], tiny_wan: Path) -> None:
    torch.save(weights, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="is a transformer alone: name it as NAME@"):
        loaded(resolve(str(tmp_path / "model.pt")))
    shutil.copytree(tiny_wan, tmp_path, dirs_exist_ok=True)
    assert loaded(resolve(str(tmp_path / "model.pt"))).text_encoder is not None


def test_a_row_of_the_hub_that_is_not_here_says_how_to_fetch_it() -> None:
    with pytest.raises(ModelError, match=r"hf download gdhe17/Self-Forcing"):
        loaded(BY_NAME["self-forcing"])
    with pytest.raises(ModelError, match=r"hf download somebody/my-causvid"):
        loaded(resolve("somebody/my-causvid"))


def test_parts_that_do_not_fit_each_other_are_named(copied_wan: Callable[[], Path]) -> None:
    from transformers import UMT5Config, UMT5EncoderModel

    folder = copied_wan()
    shutil.rmtree(folder / "text_encoder")
    UMT5EncoderModel(
        UMT5Config(vocab_size=16, d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=2, is_encoder_decoder=False)
    ).save_pretrained(folder / "text_encoder")  # fmt: skip
    with pytest.raises(ModelError, match="takes text 32 wide, its text encoder gives 16"):
        loaded(resolve(str(folder)))


@pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer"])
def test_an_incomplete_folder_names_what_is_missing(copied_wan: Callable[[], Path], part: str) -> None:
    folder = copied_wan()
    index = json.loads((folder / "model_index.json").read_text())
    del index[part]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=f"names no {part}"):
        loaded(resolve(str(folder)))


def test_a_file_that_is_not_the_tiny_autoencoder_is_refused(tiny_wan: Path, tmp_path: Path) -> None:
    torch.save({"encoder.0.weight": torch.zeros(64, 12, 3, 3)}, tmp_path / "taew2_2.pth")
    with pytest.raises(ModelError, match="taew2_2.pth is not the tiny autoencoder for Wan 2.1"):
        loaded(resolve(str(tiny_wan)), autoencoder=str(tmp_path / "taew2_2.pth"))
    with pytest.raises(ModelError, match="there is no file"):
        loaded(resolve(str(tiny_wan)), autoencoder=str(tmp_path / "gone.pth"))


def test_prefixes_are_taken_away_and_nothing_else() -> None:
    names = ("model.generator.blocks.0.x", "module.model.a", "blocks.0._orig_mod.model.y", "generator_ema.model.b", "modulation")
    assert list(plain_names(dict.fromkeys(names, torch.zeros(1)))) == ["blocks.0.x", "a", "blocks.0.model.y", "b", "modulation"]
