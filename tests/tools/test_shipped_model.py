"""The folder that ships: plain library classes load it whole, and its pictures follow prompt, strength and photo."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from embedded.looks import RECOMMENDED
from transformers import CLIPTextModel, CLIPTokenizer

FOLDER = Path(__file__).resolve().parents[2] / "engine" / "models" / "embedded"
Picture = npt.NDArray[np.float32]
Draw = Callable[..., Picture]

pytestmark = pytest.mark.skipif(not (FOLDER / "model_index.json").exists(), reason="the embedded model has not been exported yet")


@pytest.fixture(scope="module")
def draw(scene: npt.NDArray[np.uint8]) -> Draw:
    """`draw(prompt, strength=1, steps=1, seed=0)` -> float32 [256, 256, 3] in [0, 1], by library classes alone."""
    unet = UNet2DConditionModel.from_pretrained(FOLDER / "unet").eval()
    vae = AutoencoderTiny.from_pretrained(FOLDER / "vae").eval()
    text_encoder = CLIPTextModel.from_pretrained(FOLDER / "text_encoder").eval().float()
    tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
    photo = torch.from_numpy(scene).permute(2, 0, 1)[None].float() / 127.5 - 1

    @torch.inference_mode()
    def drawn(prompt: str, *, strength: float = 1.0, steps: int = 1, seed: int = 0) -> Picture:
        ids = tokenizer(prompt, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
        text = text_encoder(ids).last_hidden_state
        content = vae.encode(photo).latents
        noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(seed))
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(FOLDER / "scheduler")
        scheduler.set_timesteps(sigmas=np.linspace(strength, 0, steps + 1)[:-1].tolist())
        x = (1 - strength) * content + strength * noise
        for timestep in scheduler.timesteps:
            velocity = unet(torch.cat([x, content], dim=1), timestep, text).sample
            x = scheduler.step(velocity, timestep, x).prev_sample
        made = vae.decode(x).sample[0].clamp(-1, 1)
        return np.asarray((made.permute(1, 2, 0) + 1) / 2, dtype=np.float32)

    return drawn


def edge_map(picture: Picture) -> Picture:
    grey = cv2.GaussianBlur(cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2GRAY), (0, 0), 1.5)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.asarray(np.hypot(across, down), dtype=np.float32)


def agreement(one: Picture, other: Picture) -> float:
    """Correlation of two edge maps."""
    return float(np.corrcoef(edge_map(one).ravel(), edge_map(other).ravel())[0, 1])


def test_the_whole_folder_loads_as_one_pipeline_with_no_key_missing() -> None:
    pipeline = DiffusionPipeline.from_pretrained(FOLDER)
    assert type(pipeline).__name__ == "StableDiffusionInstructPix2PixPipeline"
    assert type(pipeline.scheduler) is FlowMatchEulerDiscreteScheduler
    for part, network in (("unet", UNet2DConditionModel), ("vae", AutoencoderTiny), ("text_encoder", CLIPTextModel)):
        _, report = network.from_pretrained(FOLDER / part, output_loading_info=True)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), (part, report)


def test_the_folder_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 40e6


def test_the_tokenizer_knows_every_text_and_pads_to_its_length() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
    for text in ("neon edges", "Ünïcode 夜景 🎛", "", "a very long prompt " * 40):
        ids = tokenizer(text, padding="max_length", max_length=32, truncation=True).input_ids
        assert len(ids) == 32 and ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(tokenizer("Neon Edges").input_ids, skip_special_tokens=True).strip() == "neon edges"


def test_two_prompts_give_different_pictures_of_the_same_scene(draw: Draw, scene: npt.NDArray[np.uint8]) -> None:
    photo = (scene / 255).astype(np.float32)
    pictures = [draw(prompt) for prompt in RECOMMENDED[:4]]
    chance = agreement(photo, np.ascontiguousarray(photo[::-1, ::-1]))
    for i, picture in enumerate(pictures):
        assert agreement(photo, picture) > chance + 0.1  # a drawn line has two edges where the photo has one
        assert all(np.abs(picture - other).mean() > 0.08 for other in pictures[:i])


def test_the_empty_prompt_keeps_the_photo(draw: Draw, scene: npt.NDArray[np.uint8]) -> None:
    photo = (scene / 255).astype(np.float32)
    assert np.abs(draw("") - photo).mean() < 0.08 < np.abs(draw(RECOMMENDED[0]) - photo).mean()


def test_the_change_grows_with_the_strength(draw: Draw) -> None:
    plain = draw("")
    changes = [float(np.abs(draw(RECOMMENDED[1], strength=s) - plain).mean()) for s in (0.15, 0.4, 0.7, 1.0)]
    assert changes == sorted(changes) and changes[-1] > 2 * changes[0], changes


def test_more_steps_and_other_seeds_keep_the_look(draw: Draw) -> None:
    one = draw(RECOMMENDED[0])
    other_look = np.abs(draw(RECOMMENDED[1]) - one).mean()
    assert np.abs(draw(RECOMMENDED[0], steps=3) - one).mean() < 0.5 * other_look
    assert np.abs(draw(RECOMMENDED[0], seed=5) - one).mean() < 0.5 * other_look


def test_words_that_are_no_names_take_the_look_of_the_nearest_meaning(draw: Draw) -> None:
    nearest = {
        "molten rock glowing in the dark": "lava",
        "a heat sensor picture in false colours": "thermal camera",
        "northern lights above the stage": "aurora",
        "seen through green night goggles": "night vision",
        "chalk on a school blackboard": "chalkboard",
    }
    looks = {name: draw(name) for name in nearest.values()}
    for text, wanted in nearest.items():
        made = draw(text)
        distances = {name: float(np.abs(made - look).mean()) for name, look in looks.items()}
        assert min(distances, key=distances.__getitem__) == wanted, (text, distances)


def test_colours_in_the_prompt_tint_the_look(draw: Draw) -> None:
    """How much redder a look is in red than in blue: a little in each, well to be seen over several."""
    tints = []
    for look in ("chalkboard", "ink drawing", "oil painting", "low poly", "comic book"):
        red, blue = (draw(f"{look} in {colour}").mean(axis=(0, 1)) for colour in ("deep red", "blue"))
        tints.append(float((red[0] - red[2]) - (blue[0] - blue[2])))
    assert min(tints) > 0.02 and np.mean(tints) > 0.1, tints


def test_a_texture_without_a_photo_follows_its_noise_and_moves_a_little_with_it() -> None:
    unet = UNet2DConditionModel.from_pretrained(FOLDER / "unet").eval()
    text_encoder = CLIPTextModel.from_pretrained(FOLDER / "text_encoder").eval().float()
    tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
    ids = tokenizer("lava", padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
    channels = unet.config.out_channels
    one, other = (torch.randn(1, channels, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))

    @torch.inference_mode()
    def texture(share: float) -> torch.Tensor:
        noise = one * np.sqrt(1 - share) + other * np.sqrt(share)
        text = text_encoder(ids).last_hidden_state
        return noise - unet(torch.cat([noise, torch.zeros_like(noise)], dim=1), torch.tensor(1000.0), text).sample

    start = texture(0.0)
    near, far = (float((texture(share) - start).square().mean()) for share in (0.01, 1.0))
    assert 0 < near < 0.3 * far and far > 0.02, (near, far)
