"""From a card to a video model that is ready to run: transformer, autoencoder, text encoder. Where their files are is in video_files.py."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from engine.models.autoencoder import Autoencoder
from engine.models.catalogue import MODEL_INDEX, ModelCard, ModelError
from engine.models.loading_errors import plain_errors, quiet_libraries, reading
from engine.models.model_folder import read_part
from engine.models.taehv import Taehv, fitted
from engine.models.video_catalogue import TINY_CODECS
from engine.models.video_checkpoint import (
    ADAPTER_ENTRIES,
    converted,
    empty_transformer,
    filled,
    merge_adapter,
    misfits,
    read_checkpoint,
    shape_of,
)
from engine.models.video_codec import FrameCodec, LatentConvention, StreamVae, VideoCodec, to_channels_last
from engine.models.video_codec_tiny import StreamTaehv
from engine.models.video_files import base_folder, file_of, hub_file, part_classes, source_folder
from engine.models.video_policies import SHAPES, VideoPolicies
from engine.models.video_sources import TRANSFORMER
from engine.models.video_text import TOKENS, VideoTextEncoder

_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        TRANSFORMER: "diffusers.models.transformers.transformer_wan",
        "AutoencoderKLWan": "diffusers.models.autoencoders.autoencoder_kl_wan",
        "AutoencoderTiny": "diffusers.models.autoencoders.autoencoder_tiny",
        "UMT5EncoderModel": "transformers",
        "CLIPTextModel": "transformers",
    }
)
"""The networks that a video model may be made of, and the module each is read from."""
PARTS = ("transformer", "vae", "text_encoder")
"""What may be loaded for itself, for a rank that does a part of the work."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedVideoModel:
    """A video model ready to run: frozen weights in `dtype`, transformer and autoencoder on `device`.

    transformer: diffusers' WanTransformer3DModel. vae: AutoencoderKLWan, AutoencoderTiny or Taehv. text_encoder: on the CPU until
    it is wanted, if `text_offloaded`. latents_mean, latents_std: of Wan's autoencoder, where latents may be raw.
    """

    card: ModelCard
    policies: VideoPolicies
    device: torch.device
    dtype: torch.dtype
    transformer: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    text_offloaded: bool
    latents_mean: tuple[float, ...]
    latents_std: tuple[float, ...]

    def codec(self, *, fixed_caches: bool = False) -> VideoCodec:
        """A new session of the model's autoencoder. fixed_caches: for CUDA graphs, see FeatureCache."""
        latents: LatentConvention = "raw" if self.policies.input_latents == "raw" else "normalised"
        if isinstance(self.vae, Taehv):
            return StreamTaehv(self.vae, input_latents=latents, latents_mean=self.latents_mean, latents_std=self.latents_std)
        if type(self.vae).__name__ == "AutoencoderTiny":
            return FrameCodec(Autoencoder(self.vae, dtype=self.dtype))
        if self.device.type == "cuda":
            to_channels_last(self.vae)  # 13 % less time on an H200
        return StreamVae(self.vae, input_latents=latents, fixed_caches=fixed_caches)

    def prompts(self) -> VideoTextEncoder:
        """Prompts to embeddings of this model, [1, L, D]: umT5's 512 tokens, or as many as a small text encoder has places for."""
        places = int(getattr(self.text_encoder.config, "max_position_embeddings", TOKENS))
        return VideoTextEncoder(
            self.text_encoder, self.tokenizer, device=self.device, dtype=self.dtype, tokens=min(TOKENS, places), offload=self.text_offloaded
        )  # fmt: skip


def load_video(
    card: ModelCard,
    *,
    device: torch.device,
    dtype: torch.dtype,
    autoencoder: str = "own",
    offload_text: bool = True,
    parts: Collection[str] = PARTS,
) -> LoadedVideoModel:
    """Read the video model of a card and put it on its device.

    autoencoder: `own`, `tiny` for TAEHV from the hub, or a file with TAEHV's weights. offload_text: keep the text encoder in the
    machine's memory while no prompt is being encoded. parts: those of PARTS that are wanted; the others are None, and nothing is said
    on whether all fit each other. Blocks for minutes. ModelError in one plain sentence for everything
    that can be wrong with the files, the hub or the memory.
    """
    policies = card.video
    if policies is None:
        raise ModelError(f"{card.title} is an image model; it makes no video")
    with quiet_libraries(), plain_errors(card, device):
        folder = source_folder(card, policies)
        transformer = _read_transformer(card, policies, folder, dtype) if "transformer" in parts else None
        rest = folder if folder is not None and (folder / MODEL_INDEX).is_file() else base_folder(policies, card)
        index = part_classes(rest)
        vae = read_part(rest, "vae", index["vae"], dtype=dtype, known=_CLASSES) if "vae" in parts else None
        has_text = "text_encoder" in parts
        text_encoder = read_part(rest, "text_encoder", index["text_encoder"], dtype=dtype, known=_CLASSES) if has_text else None
        tokenizer = _read_tokenizer(rest) if has_text else None
        config = {} if vae is None else vae.config
        mean, std = tuple(config.get("latents_mean") or ()), tuple(config.get("latents_std") or ())
        if vae is not None and autoencoder != "own":
            vae = read_taehv(autoencoder, dtype=dtype)
        if None not in (transformer, vae, text_encoder):
            _check_fit(card, transformer, vae, text_encoder)
        for module in (transformer, vae, text_encoder):
            if module is not None:
                module.requires_grad_(False).eval()
        for module in (transformer, vae):
            if module is not None:
                module.to(device)
    return LoadedVideoModel(
        card=card, policies=policies, device=device, dtype=dtype, transformer=transformer, vae=vae, text_encoder=text_encoder,
        tokenizer=tokenizer, text_offloaded=offload_text and device.type != "cpu", latents_mean=mean, latents_std=std,
    )  # fmt: skip


def read_taehv(source: str, *, dtype: torch.dtype) -> Taehv:
    """TAEHV's network with weights from a file in the published layout, or from the hub for `tiny`."""
    path = hub_file(TINY_CODECS["repo"], TINY_CODECS["file"], None) if source == "tiny" else Path(source).expanduser()
    if not path.is_file():
        raise ModelError(f"there is no file {path} with the weights of the tiny video autoencoder; take --autoencoder own or tiny")
    state = fitted(read_checkpoint(path))
    network = Taehv()
    wrong = misfits(state, network)
    if wrong:
        raise ModelError(f"{path.name} is not the tiny autoencoder for Wan 2.1 (taew2_1): {wrong[0]}")
    network.load_state_dict(state)
    return network.to(dtype)


def _read_transformer(card: ModelCard, policies: VideoPolicies, folder: Path | None, dtype: torch.dtype) -> Any:
    if folder is not None and not (policies.weights and (folder / policies.weights).is_file()):
        return read_part(folder, "transformer", TRANSFORMER, dtype=dtype, known=_CLASSES)
    path = file_of(card, policies.weights, folder)
    transformer = empty_transformer(checked_shape(path, policies))
    state = converted(read_checkpoint(path, entry=policies.entry), path.name)
    if policies.adapter:
        adapter = file_of(card, policies.adapter, folder)
        merge_adapter(state, read_checkpoint(adapter, entries=ADAPTER_ENTRIES), adapter.name)
    return filled(transformer, state, dtype=dtype)


def checked_shape(path: Path, policies: VideoPolicies) -> Any:
    """The shape of a checkpoint, once names and shapes of all its weights fit it and the row; reads no weights.

    ModelError says what does not fit.
    """
    state = converted(read_checkpoint(path, entry=policies.entry, device="meta"), path.name)
    shape = shape_of(state, path.name)
    if policies.shape and shape != SHAPES[policies.shape]:
        near = next((name for name, known in SHAPES.items() if known == shape), f"{shape.layers} layers of {shape.width}")
        raise ModelError(f"{path.name} has the shape {near}, this model wants {policies.shape}; name the row of the catalogue that fits it")
    wrong = misfits(state, empty_transformer(shape))
    if wrong:
        raise ModelError(
            f"{path.name} does not fit the Wan transformer in {len(wrong)} places (the first: {wrong[0]}); "
            "it is incomplete, or of a kind the engine does not know"
        )
    return shape


def _read_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with reading("tokenizer", str(folder)):
        return AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)


def _check_fit(card: ModelCard, transformer: Any, vae: Any, text_encoder: Any) -> None:
    """ModelError unless the parts fit each other and the engine can call them."""
    config = transformer.config
    channels = vae.latent_channels if isinstance(vae, Taehv) else vae.config.get("z_dim") or vae.config.get("latent_channels")
    width = text_encoder.config.hidden_size
    if config.in_channels != config.out_channels:
        raise ModelError(f"{card.title} wants more than a latent and a prompt ({config.in_channels} channels in); the engine has no more")
    if config.in_channels != channels:
        raise ModelError(f"the parts of {card.title} do not fit: latents of {channels} channels for a transformer of {config.in_channels}")
    if config.text_dim != width:
        raise ModelError(
            f"the parts of {card.title} do not fit: its transformer takes text {config.text_dim} wide, its text encoder gives {width}"
        )
