"""The tokenizer of the embedded model: byte-level BPE in CLIP's file layout, trained on the prompts."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 32
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_tokenizer(texts: Iterable[str], folder: Path, *, merges: int) -> None:
    """Learn up to `merges` merges from `texts` and write vocab.json, merges.txt and the tokenizer's settings.

    The vocabulary holds all 256 byte symbols with and without the end-of-word mark, so that no text is unknown.
    """
    from tokenizers import Regex  # absent from the package's type stubs

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + merges,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(texts), trainer)
    learned = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]][:merges]
    symbols = alphabet + [f"{symbol}</w>" for symbol in alphabet] + ["".join(pair) for pair in learned]
    vocabulary = {symbol: number for number, symbol in enumerate(dict.fromkeys([*symbols, START, END]))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in learned)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
        "add_prefix_space": False,
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    special = {key: settings[key] for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> list[list[int]]:
    """Token numbers of each text, cut and padded to 32, as the running program makes them."""
    batch = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True)
    return [list(ids) for ids in batch["input_ids"]]
