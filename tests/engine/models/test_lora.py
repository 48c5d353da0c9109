"""LoRAs merged into the weights: exactly scale * alpha / rank * up @ down, in every layout, and nothing left out silently."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.models.catalogue import ModelError, resolve
from engine.models.weights import LoadedModel, load

TinyModel = Callable[[str], Path]
TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
TO_OUT = "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "up_blocks.1.resnets.0.conv1"
RANK = 4


def loaded(folder: Path, *lora: tuple[str, float]) -> LoadedModel:
    return load(resolve(str(folder)), device=torch.device("cpu"), dtype=torch.float32, lora=lora)


def weight_of(root: nn.Module, name: str) -> Tensor:
    weight = root.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight


def factors(weight: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """(down, up) of rank RANK for a linear or convolution weight."""
    draw = torch.Generator().manual_seed(seed)
    down = torch.randn(RANK, *weight.shape[1:], generator=draw)
    up = torch.randn(weight.shape[0], RANK, *[1] * (weight.ndim - 2), generator=draw)
    return down, up


def product(down: Tensor, up: Tensor) -> Tensor:
    """What a layer with these factors beside it would add, by running it: no matrix algebra shared with the code."""
    count = down[0].numel()
    columns = torch.eye(count, dtype=torch.float64)
    rows = (columns @ down.double().reshape(RANK, count).T) @ up.double().reshape(-1, RANK).T
    return rows.T.reshape(up.shape[0], *down.shape[1:])


def written(path: Path, tensors: dict[str, Tensor], **metadata: Any) -> str:
    notes = {"lora_adapter_metadata": json.dumps(metadata)} if metadata else None
    save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, path, metadata=notes)
    return str(path)


def kohya(name: str) -> str:
    return "lora_unet_" + name.replace(".", "_")


@pytest.fixture
def plain(tiny_model: TinyModel) -> LoadedModel:
    return loaded(tiny_model("sd15"))


def in_layout(layout: str, name: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
    processor = re.sub(r"(attn\d)\.(to_\w+?)(\.0)?$", r"\1.processor.\2_lora", name)
    return {
        "peft": {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up},
        "peft, no prefix": {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up},
        "diffusers": {f"unet.{name}.lora.down.weight": down, f"unet.{name}.lora.up.weight": up},
        "diffusers, first": {f"unet.{processor}.down.weight": down, f"unet.{processor}.up.weight": up},
        "kohya": {f"{kohya(name)}.lora_down.weight": down, f"{kohya(name)}.lora_up.weight": up},
    }[layout]


@pytest.mark.parametrize("layout", ["peft", "peft, no prefix", "diffusers", "diffusers, first", "kohya"])
@pytest.mark.parametrize("name", [TO_Q, TO_OUT])
def test_every_layout_changes_the_weight_by_scale_times_up_down(
    tiny_model: TinyModel, plain: LoadedModel, tmp_path: Path, layout: str, name: str
) -> None:
    before = weight_of(plain.unet, name)
    down, up = factors(before, 1)
    file = written(tmp_path / "lora.safetensors", in_layout(layout, name, down, up))
    model = loaded(tiny_model("sd15"), (file, 0.7))
    expected = before.double() + 0.7 * product(down, up)
    torch.testing.assert_close(weight_of(model.unet, name).double(), expected, atol=2e-6, rtol=1e-6)
    assert [(one.source, one.scale, one.layers) for one in model.merged] == [(file, 0.7, 1)]


def test_no_other_weight_changes(tiny_model: TinyModel, plain: LoadedModel, tmp_path: Path) -> None:
    down, up = factors(weight_of(plain.unet, TO_Q), 2)
    model = loaded(tiny_model("sd15"), (written(tmp_path / "a.safetensors", in_layout("peft", TO_Q, down, up)), 1.0))
    before, after = plain.unet.state_dict(), model.unet.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == [f"{TO_Q}.weight"]


def test_a_convolution_and_kohyas_alpha(tiny_model: TinyModel, plain: LoadedModel, tmp_path: Path) -> None:
    before = weight_of(plain.unet, CONV)
    down, up = factors(before, 3)
    tensors = in_layout("kohya", CONV, down, up) | {f"{kohya(CONV)}.alpha": torch.tensor(2.0)}
    model = loaded(tiny_model("sd15"), (written(tmp_path / "a.safetensors", tensors), 0.5))
    expected = before.double() + 0.5 * (2.0 / RANK) * product(down, up)
    torch.testing.assert_close(weight_of(model.unet, CONV).double(), expected, atol=2e-6, rtol=1e-6)
    x = torch.randn(1, before.shape[1], 5, 5)
    side = nn.functional.conv2d(nn.functional.conv2d(x, down, padding=1), up) * 0.5 * 2.0 / RANK
    merged = nn.functional.conv2d(x, weight_of(model.unet, CONV), padding=1)
    torch.testing.assert_close(merged, nn.functional.conv2d(x, before, padding=1) + side, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("rank_stabilised", "divisor"), [(False, RANK), (True, RANK**0.5)])
def test_the_adapter_settings_in_a_file_are_used(
    tiny_model: TinyModel, plain: LoadedModel, tmp_path: Path, rank_stabilised: bool, divisor: float
) -> None:
    before = weight_of(plain.unet, TO_Q)
    down, up = factors(before, 4)
    settings = {"unet.lora_alpha": 6, "unet.use_rslora": rank_stabilised}
    file = written(tmp_path / "a.safetensors", in_layout("peft", TO_Q, down, up), **settings)
    after = weight_of(loaded(tiny_model("sd15"), (file, 1.0)).unet, TO_Q)
    torch.testing.assert_close(after.double(), before.double() + 6 / divisor * product(down, up), atol=5e-6, rtol=1e-6)


def test_several_loras_add_up_and_are_all_listed(tiny_model: TinyModel, plain: LoadedModel, tmp_path: Path) -> None:
    before = weight_of(plain.unet, TO_Q)
    pairs = [factors(before, seed) for seed in (5, 6)]
    files = [
        written(tmp_path / f"{n}.safetensors", in_layout(layout, TO_Q, *pair))
        for n, (layout, pair) in enumerate(zip(("peft", "kohya"), pairs, strict=True))
    ]
    model = loaded(tiny_model("sd15"), (files[0], 0.3), (files[1], -0.6))
    expected = before.double() + 0.3 * product(*pairs[0]) - 0.6 * product(*pairs[1])
    torch.testing.assert_close(weight_of(model.unet, TO_Q).double(), expected, atol=3e-6, rtol=1e-6)
    assert [(one.source, one.scale) for one in model.merged] == [(files[0], 0.3), (files[1], -0.6)]


@pytest.mark.parametrize(
    ("kind", "encoder", "keys"),
    [
        ("sd15", 0, "lora_te_text_model_encoder_layers_1_self_attn_q_proj.lora_{side}.weight"),
        ("sd15", 0, "text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_{letter}.weight"),
        ("sd15", 0, "text_encoder.text_model.encoder.layers.1.self_attn.to_q_lora.{side}.weight"),
        ("sd15", 0, "text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_linear_layer.{side}.weight"),
        ("sdxl", 0, "lora_te1_text_model_encoder_layers_1_self_attn_q_proj.lora_{side}.weight"),
        ("sdxl", 1, "lora_te2_text_model_encoder_layers_1_self_attn_q_proj.lora_{side}.weight"),
        ("sdxl", 1, "text_encoder_2.text_model.encoder.layers.1.self_attn.q_proj.lora_{letter}.weight"),
    ],
)
def test_text_encoders_are_changed_too(
    tiny_model: TinyModel, tmp_path: Path, kind: str, encoder: int, keys: str
) -> None:
    plain = loaded(tiny_model(kind)).text_encoders[encoder]
    name = next(name for name, _ in plain.named_modules() if name.endswith("encoder.layers.1.self_attn.q_proj"))
    before = weight_of(plain, name)
    down, up = factors(before, 8)
    tensors = {keys.format(side="down", letter="A"): down, keys.format(side="up", letter="B"): up}
    after = weight_of(loaded(tiny_model(kind), (written(tmp_path / "a.safetensors", tensors), 1.0)).text_encoders[encoder], name)
    torch.testing.assert_close(after.double(), before.double() + product(down, up), atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("input_blocks_3_1_transformer_blocks_0_attn1_to_q", TO_Q),
        ("middle_block_1_transformer_blocks_0_attn2_to_out_0", TO_OUT),
        ("output_blocks_2_0_in_layers_2", CONV),
        ("input_blocks_1_0_emb_layers_1", "down_blocks.0.resnets.0.time_emb_proj"),
        ("input_blocks_2_0_op", "down_blocks.0.downsamplers.0.conv"),
        ("output_blocks_0_0_skip_connection", "up_blocks.0.resnets.0.conv_shortcut"),
    ],
)
def test_names_of_the_original_sdxl_code(tiny_model: TinyModel, tmp_path: Path, original: str, name: str) -> None:
    before = weight_of(loaded(tiny_model("sdxl")).unet, name)
    down, up = factors(before, 9)
    tensors = {f"lora_unet_{original}.lora_down.weight": down, f"lora_unet_{original}.lora_up.weight": up}
    model = loaded(tiny_model("sdxl"), (written(tmp_path / "a.safetensors", tensors), 1.0))
    torch.testing.assert_close(weight_of(model.unet, name).double(), before.double() + product(down, up), atol=2e-6, rtol=1e-6)


def test_a_folder_with_one_file_is_enough(tiny_model: TinyModel, plain: LoadedModel, tmp_path: Path) -> None:
    down, up = factors(weight_of(plain.unet, TO_Q), 1)
    written(tmp_path / "anything.safetensors", in_layout("peft", TO_Q, down, up))
    assert loaded(tiny_model("sd15"), (str(tmp_path), 1.0)).merged[0].layers == 1
    written(tmp_path / "second.safetensors", in_layout("peft", TO_Q, down, up))
    with pytest.raises(ModelError, match="holds 2 .safetensors files"):
        loaded(tiny_model("sd15"), (str(tmp_path), 1.0))


def test_a_cards_own_lora_comes_first_and_a_turbo_model_takes_loras_too(
    tiny_model: TinyModel, plain: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weight_of(plain.unet, TO_Q)
    pairs = [factors(before, seed) for seed in (1, 2)]
    (tmp_path / "owner" / "lcm").mkdir(parents=True)
    written(tmp_path / "owner" / "lcm" / "pytorch_lora_weights.safetensors", in_layout("kohya", TO_Q, *pairs[0]))
    mine = written(tmp_path / "mine.safetensors", in_layout("peft", TO_Q, *pairs[1]))
    monkeypatch.chdir(tmp_path)
    card = replace(resolve(str(tiny_model("sd15"))), name="tiny-turbo", lcm_lora="owner/lcm")
    model = load(card, device=torch.device("cpu"), dtype=torch.float32, lora=((mine, 0.5),))
    assert [(one.source, one.scale) for one in model.merged] == [("owner/lcm", 1.0), (mine, 0.5)]
    expected = before.double() + product(*pairs[0]) + 0.5 * product(*pairs[1])
    torch.testing.assert_close(weight_of(model.unet, TO_Q).double(), expected, atol=3e-6, rtol=1e-6)


def bad_tensors(case: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
    fine = in_layout("peft", TO_Q, down, up)
    return {
        "stranger": fine | in_layout("peft", "down_blocks.7.attentions.0.proj_in", down, up),
        "shape": in_layout("peft", TO_Q, down[:, :-1], up),
        "ranks": in_layout("peft", TO_Q, down[:-1], up),
        "half": dict(list(fine.items())[:1]),
        "dora": fine | {f"unet.{TO_Q}.dora_scale": up},
        "loha": {f"{kohya(TO_Q)}.hada_w1_a": up},
        "empty": {},
    }[case]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("stranger", "another kind of model: 1 of its 2 layers .*unet down_blocks_7"),
        ("shape", "another kind of model: 1 of its 1"),
        ("ranks", "another kind of model"),
        ("half", "lacks one of its two factors"),
        ("dora", "no part of a plain LoRA"),
        ("loha", "no part of a plain LoRA"),
        ("empty", "another kind of model: 0 of its 0"),
    ],
)
def test_what_does_not_fit_is_refused_and_never_left_out(
    tiny_model: TinyModel, plain: LoadedModel, tmp_path: Path, case: str, words: str
) -> None:
    down, up = factors(weight_of(plain.unet, TO_Q), 1)
    file = written(tmp_path / "bad.safetensors", bad_tensors(case, down, up))
    with pytest.raises(ModelError, match=words):
        loaded(tiny_model("sd15"), (file, 1.0))


def test_a_lora_that_is_not_there_or_broken(tiny_model: TinyModel, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x10\0\0\0\0\0\0\0nonsense")
    for source, words in (
        (str(broken), "the tensors of the LoRA .* cannot be read"),
        (str(tmp_path / "gone.safetensors"), "there is no LoRA"),
        ("gone.safetensors", "there is no LoRA"),
        ("nobody/no-lora", "hub cannot be reached, or the name is wrong"),
    ):
        with pytest.raises(ModelError, match=words):
            loaded(tiny_model("sd15"), (source, 1.0))
