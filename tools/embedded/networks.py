"""The three networks of the embedded model with fresh weights: plain diffusers and transformers classes, sized here."""

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from .tokenizer import MAX_TOKENS

LATENTS = 8  # channels of a latent
TEXT_WIDTH = 192
ENCODER_WIDTH, DECODER_WIDTH = 32, 48
UNET_WIDTHS = (96, 128, 224)


def new_autoencoder() -> AutoencoderTiny:
    """About 1 M parameters, 8 latent channels, 8x smaller; pictures in [-1, 1].

    Its blocks stand where pictures are small: on a CPU a layer at full size costs as much as sixteen at a quarter of it.
    """
    return AutoencoderTiny(
        latent_channels=LATENTS,
        encoder_block_out_channels=(ENCODER_WIDTH,) * 4,
        decoder_block_out_channels=(DECODER_WIDTH,) * 4,
        num_encoder_blocks=(0, 3, 3, 3),
        num_decoder_blocks=(5, 5, 1, 0),
        scaling_factor=1.0,
    )


def new_denoiser() -> UNet2DConditionModel:
    """14 M parameters; noisy latent and photo's latent in, velocity out; text on the lowest level.

    The text also enters the time embedding (`addition_embed_type="text"` pools it), where a look's colours live.
    """
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=2 * LATENTS,
        out_channels=LATENTS,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=UNET_WIDTHS,
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=7,  # the class reads this as the number of heads
        resnet_time_scale_shift="scale_shift",
        time_embedding_dim=256,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def new_text_encoder(*, vocabulary: int, start: int, end: int) -> CLIPTextModel:
    """About 4 M parameters, most of them word vectors: 5 layers of width 192 over 32 tokens."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=3 * TEXT_WIDTH,
            num_hidden_layers=5,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=TEXT_WIDTH,
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def parameter_count(network: torch.nn.Module) -> int:
    """Trainable numbers in `network`."""
    return sum(parameter.numel() for parameter in network.parameters())
