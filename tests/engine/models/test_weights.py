"""Loading models: facts read right, weights unchanged, everything wrong said in one plain sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.models.catalogue import BY_NAME, ModelError, resolve
from engine.models.loading_errors import plain_errors
from engine.models.weights import LoadedModel, load, prediction_of, with_autoencoder
from engine.pipelines.image_build import load_model
from engine.settings import Settings

TinyModel = Callable[[str], Path]
CPU = torch.device("cpu")


def loaded(folder: Path, *, dtype: torch.dtype = torch.float32) -> LoadedModel:
    return load(resolve(str(folder)), device=CPU, dtype=dtype)


@pytest.fixture
def copy_of(tiny_model: TinyModel, tmp_path: Path) -> TinyModel:
    """A tiny model that a test may break."""

    def copied(kind: str) -> Path:
        return Path(shutil.copytree(tiny_model(kind), tmp_path / f"copy-{kind}"))

    return copied


def edit(file: Path, changes: dict[str, Any]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "prediction", "is_sdxl", "conditioned", "encoders", "tiny_vae", "guidance_embedding"),
    [
        ("sd15", "epsilon", False, False, 1, False, None),
        ("sd21", "v_prediction", False, False, 1, False, None),
        ("sdxl", "epsilon", True, False, 2, False, None),
        ("ip2p", "epsilon", False, True, 1, False, None),
        ("flow", "flow", False, True, 1, True, None),
        ("lcm", "epsilon", False, False, 1, False, 16),
    ],
)
def test_the_facts_of_each_kind(
    tiny_model: TinyModel, kind: str, prediction: str, is_sdxl: bool, conditioned: bool, encoders: int, tiny_vae: bool,
    guidance_embedding: int | None,
) -> None:  # fmt: skip
    model = loaded(tiny_model(kind))
    assert (model.prediction, model.is_sdxl, model.image_conditioned) == (prediction, is_sdxl, conditioned)
    assert (len(model.text_encoders), len(model.tokenizers)) == (encoders, encoders)
    assert (model.vae_is_tiny, model.guidance_embedding_dim) == (tiny_vae, guidance_embedding)
    assert model.zero_negative == is_sdxl
    assert model.scheduler_config["num_train_timesteps"] == 1000


def test_the_weights_are_those_of_the_files_and_frozen(tiny_model: TinyModel) -> None:
    folder = tiny_model("sdxl")
    model = loaded(folder)
    files = {"unet": model.unet, "vae": model.vae, "text_encoder": model.text_encoders[0]}
    for part, module in files.items():
        file = next((folder / part).glob("*.safetensors"))
        written, read = load_file(file), module.state_dict()
        same = [torch.equal(written[name], read[name]) for name in written]
        assert same and all(same)
        assert not module.training and not any(weight.requires_grad for weight in module.parameters())


def test_half_precision_leaves_sdxl_its_autoencoder_in_float32(tiny_model: TinyModel, copy_of: TinyModel) -> None:
    sdxl = loaded(tiny_model("sdxl"), dtype=torch.float16)
    assert (sdxl.unet.dtype, sdxl.vae.dtype, sdxl.vae_upcast) == (torch.float16, torch.float32, True)
    assert all(encoder.dtype == torch.float16 for encoder in sdxl.text_encoders)
    fixed = copy_of("sdxl")
    edit(fixed / "vae" / "config.json", {"force_upcast": False})
    assert loaded(fixed, dtype=torch.float16).vae.dtype == torch.float16
    assert loaded(tiny_model("sd15"), dtype=torch.float16).vae.dtype == torch.float16
    assert not loaded(tiny_model("sdxl"), dtype=torch.bfloat16).vae_upcast


def test_half_precision_files_are_read_where_only_they_are_there(copy_of: TinyModel) -> None:
    folder = copy_of("sd15")
    for part in ("unet", "vae", "text_encoder"):
        for file in (folder / part).glob("*.safetensors"):
            file.rename(file.with_suffix(".fp16.safetensors"))
    assert loaded(folder).unet.dtype == torch.float32


@pytest.mark.parametrize(
    ("scheduler", "config", "prediction"),
    [
        ("DDIMScheduler", {}, "epsilon"),
        ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}, "v_prediction"),
        ("DDIMScheduler", {"prediction_type": "sample"}, "sample"),
        ("FlowMatchEulerDiscreteScheduler", {}, "flow"),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, "flow"),
    ],
)
def test_what_a_scheduler_says_about_the_prediction(scheduler: str, config: dict[str, Any], prediction: str) -> None:
    assert prediction_of(scheduler, config) == prediction


def test_a_prediction_nobody_knows_is_refused() -> None:
    with pytest.raises(ModelError, match="predicts 'score'"):
        prediction_of("DDIMScheduler", {"prediction_type": "score"})


def test_a_model_that_is_not_here_says_how_to_fetch_it() -> None:
    with pytest.raises(ModelError, match=r"hub cannot be reached, or the name is wrong.*`hf download nobody/no-such-model`"):
        load(resolve("nobody/no-such-model"), device=CPU, dtype=torch.float32)


def test_a_hub_that_does_not_answer_gives_the_same_words() -> None:
    code = (
        "import torch; from engine.models.catalogue import resolve; from engine.models.weights import load\n"
        "try: load(resolve('nobody/no-such-model'), device=torch.device('cpu'), dtype=torch.float32)\n"
        "except ValueError as error: print(error)"
    )
    refused = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    run = subprocess.run([sys.executable, "-c", code], check=True, env=refused, capture_output=True, text=True, timeout=120)
    assert "the hub cannot be reached" in run.stdout


def test_passthrough_has_nothing_to_load() -> None:
    with pytest.raises(ModelError, match="no weights"):
        load(BY_NAME["passthrough"], device=CPU, dtype=torch.float32)


def test_missing_weights_are_not_made_up(copy_of: TinyModel) -> None:
    folder = copy_of("sd15")
    for part, lost in (("unet", "conv_in.weight"), ("text_encoder", "final_layer_norm.weight")):
        file = next((folder / part).glob("*.safetensors"))
        weights = load_file(file)
        name = next(name for name in weights if name.endswith(lost))
        save_file({key: value for key, value in weights.items() if key != name}, file, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=f"the {part} .* is incomplete: 1 weights are missing"):
            loaded(folder)
        save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_broken_file_is_named(copy_of: TinyModel, part: str) -> None:
    folder = copy_of("sd15")
    file = next((folder / part).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ModelError, match=f"^the {part} of .* cannot be read") as caught:
        loaded(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_folder_is_named(copy_of: TinyModel, part: str) -> None:
    folder = copy_of("sd15")
    shutil.rmtree(folder / part)
    with pytest.raises(ModelError, match=part):
        loaded(folder)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("model_index.json", {"unet": [None, None], "transformer": ["diffusers", "Flux"]}, "with Flux; .*core is a UNet"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderKLWan"]}, "the vae of this model is a AutoencoderKLWan"),
        ("model_index.json", {"text_encoder": [None, None]}, "names no text_encoder"),
        ("model_index.json", {"requires_aesthetics_score": True}, "conditions that the engine does not have"),
        ("scheduler/scheduler_config.json", {"prediction_type": "x"}, "predicts 'x'"),
        ("unet/config.json", {"cross_attention_dim": 48}, "the unet of .*of another shape|the unet of .* cannot be read"),
    ],
)
def test_another_kind_of_model_is_refused(copy_of: TinyModel, file: str, changes: dict[str, Any], words: str) -> None:
    folder = copy_of("sd15")
    edit(folder / file, changes)
    with pytest.raises(ModelError, match=words):
        loaded(folder)


def test_an_inpainting_unet_is_refused(copy_of: TinyModel) -> None:
    folder = copy_of("sd15")
    edit(folder / "unet" / "config.json", {"in_channels": 9})
    file = next((folder / "unet").glob("*.safetensors"))
    weights = load_file(file)
    save_file(weights | {"conv_in.weight": torch.zeros(16, 9, 3, 3)}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="takes 9 channels.*not inpainting"):
        loaded(folder)


def test_parts_of_two_models_do_not_pass(tiny_model: TinyModel, copy_of: TinyModel) -> None:
    folder = copy_of("sd15")
    shutil.rmtree(folder / "unet")
    shutil.copytree(tiny_model("sdxl") / "unet", folder / "unet")
    with pytest.raises(ModelError, match="1 text encoders, which is not what its UNet expects"):
        loaded(folder)


def test_too_little_memory_says_how_much_is_needed() -> None:
    words = "not enough memory on cpu for SDXL-Turbo .*about 9 GB"
    with pytest.raises(ModelError, match=words), plain_errors(BY_NAME["sdxl-turbo"], CPU):
        torch.empty(2**55)


def test_loading_says_nothing_on_the_terminal(tiny_model: TinyModel) -> None:
    code = (
        "import sys, torch; from engine.models.catalogue import resolve; from engine.models.weights import load\n"
        "load(resolve(sys.argv[1]), device=torch.device('cpu'), dtype=torch.float32)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tiny_model("flow"))], check=True, capture_output=True, text=True, timeout=120
    )
    assert (run.stdout, run.stderr) == ("", "")


def test_another_autoencoder_for_the_same_latents(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    model = load(resolve(str(tiny_model("sd15"))), device=CPU, dtype=torch.float32)
    tiny = with_autoencoder(model, str(tiny_model("flow") / "vae"))
    assert tiny.vae_is_tiny and not model.vae_is_tiny and tiny.unet is model.unet
    assert not any(weight.requires_grad for weight in tiny.vae.parameters())
    with pytest.raises(ModelError, match="taesd could not be had"):
        with_autoencoder(model, "tiny")
    with pytest.raises(ModelError, match="could not be had"):
        with_autoencoder(model, str(tmp_path))


def test_a_live_run_wants_the_tiny_autoencoder_and_goes_on_without(tiny_model: Callable[[str], Path]) -> None:
    settings = Settings(model=str(tiny_model("sd15")))
    loaded, notes = load_model(settings, CPU, torch.float32, live=True)
    assert not loaded.vae_is_tiny and "meanwhile the model's own runs" in notes[0]
    assert load_model(settings, CPU, torch.float32, live=False)[1] == []
    assert load_model(Settings(model=str(tiny_model("flow"))), CPU, torch.float32, live=True)[1] == []
    with pytest.raises(ModelError, match="could not be had"):
        load_model(Settings(model=str(tiny_model("sd15")), autoencoder="tiny"), CPU, torch.float32, live=True)
