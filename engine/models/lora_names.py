"""How LoRA files name layers: the layouts in use, brought to one form. No tensors are touched here."""

from __future__ import annotations

import re

PARTS = ("unet", "text_encoder", "text_encoder_2")
_KOHYA = {"lora_unet_": "unet", "lora_te_": "text_encoder", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}
_KEY = re.compile(
    r"(?P<module>.+?)(?P<side>[._](?:lora\.down|lora\.up|lora_linear_layer\.down|lora_linear_layer\.up)\.weight"
    r"|\.(?:lora_down|lora_up|lora_A|lora_B)(?:\.default)?\.weight|\.alpha)"
)
_ORIGINAL = re.compile(r"(input_blocks|middle_block|output_blocks)_(\d+)_(?:(\d)_)?(.+)")
_ORIGINAL_LAYERS = {
    "in_layers_2": "conv1", "out_layers_3": "conv2", "emb_layers_1": "time_emb_proj", "skip_connection": "conv_shortcut",
}  # fmt: skip
_ORIGINAL_ENDS = {
    "out_2": "conv_out", "time_embed_0": "time_embedding_linear_1", "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1", "label_emb_0_2": "add_embedding_linear_2",
}  # fmt: skip


def flat(name: str) -> str:
    """A layer name with underscores for dots, without the `text_model` that some versions put in front."""
    return name.replace(".", "_").removeprefix("text_model_")


def side_and_layer(key: str, *, layers_per_block: int) -> tuple[str, str, str] | None:
    """(up, down or alpha; part; flat layer name) of a key in any layout; None if it is no key of a plain LoRA.

    layers_per_block: of the UNet, to count blocks in the names of the original code.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    side = "alpha" if match["side"] == ".alpha" else "up" if re.search(r"up\b|lora_B", match["side"]) else "down"
    module = match["module"]
    for prefix, part in _KOHYA.items():
        if module.startswith(prefix):
            name = flat(module.removeprefix(prefix))
            return side, part, _from_original(name, layers_per_block) if part == "unet" else name
    part = next((part for part in reversed(PARTS) if module.startswith(f"{part}.")), "unet")
    name = module.removeprefix(f"{part}.").replace(".processor.", ".")
    # diffusers' first layout names the projections of an attention processor: processor.to_out_lora, self_attn.to_q_lora.
    old, new = (r"\.to_out$", ".to_out.0") if part == "unet" else (r"\.to_(q|k|v|out)$", r".\1_proj")
    return side, part, flat(re.sub(old, new, name))


def _from_original(name: str, layers_per_block: int) -> str:
    """A flat UNet layer name of the original Stable Diffusion code as diffusers has it; others pass unchanged."""
    match = _ORIGINAL.fullmatch(name)
    if match is None:
        return _ORIGINAL_ENDS.get(name, name)
    kind, block, branch, layer = match[1], int(match[2]), match[3], match[4]
    layer = _ORIGINAL_LAYERS.get(layer, layer)
    if kind == "middle_block":
        return f"mid_block_{('resnets_0', 'attentions_0', 'resnets_1')[min(block, 2)]}_{layer}"
    if kind == "input_blocks":
        if block == 0:
            return "conv_in"
        outer, inner = divmod(block - 1, layers_per_block + 1)
        place = "downsamplers_0" if layer == "op" else f"{'resnets' if branch == '0' else 'attentions'}_{inner}"
        return f"down_blocks_{outer}_{place}_{'conv' if layer == 'op' else layer}"
    outer, inner = divmod(block, layers_per_block + 1)
    place = "upsamplers_0" if layer == "conv" else f"{'resnets' if branch == '0' else 'attentions'}_{inner}"
    return f"up_blocks_{outer}_{place}_{layer}"
