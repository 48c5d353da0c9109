"""What goes wrong while a model is loaded, said in one plain sentence, and the libraries' chatter turned off meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.models.catalogue import ModelCard, ModelError
from engine.settings import SettingsError

_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "paging file")


def first_words(error: BaseException, *, longest: int = 160) -> str:
    """An error's text in one line, cut at `longest` characters; its kind when it has no text."""
    text = " ".join(str(error).split())
    return (text[: longest - 1] + "…" if len(text) > longest else text) or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine had too little memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, (RuntimeError, OSError)) and any(word in str(error).lower() for word in _MEMORY_WORDS)


def unreachable(source: str, error: BaseException) -> ModelError:
    """The error for a hub that refused, or that nobody answered for."""
    kinds = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    if "GatedRepoError" in kinds:
        return ModelError(f"{source} asks you to accept its licence: do so on its page on the hub, then run `hf auth login`")
    if "RepositoryNotFoundError" in kinds:
        return ModelError(f"the hub has no {source}, or you may not see it; check the name, or run `hf auth login`")
    return ModelError(
        f"{source} is not on this machine and the hub cannot be reached, or the name is wrong; "
        f"go online once and run `hf download {source}`, or name a folder or file that is here"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, up to ten deep."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


@contextmanager
def reading(what: str, source: str) -> Iterator[None]:
    """Any failure to read `what` of `source` becomes a ModelError; out of memory passes to `plain_errors`."""
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"the {what} of {source} cannot be read: the files are broken, incomplete or of another kind "
            f"({first_words(error)}); fetch them again or name another model"
        ) from error


@contextmanager
def plain_errors(card: ModelCard, device: torch.device) -> Iterator[None]:
    """Out of memory becomes a ModelError that says how much the model needs."""
    try:
        yield
    except Exception as error:
        if isinstance(error, SettingsError) or not is_out_of_memory(error):
            raise
        needs = f" (it needs about {card.memory_gb:g} GB)" if card.memory_gb else ""
        raise ModelError(
            f"there is not enough memory on {device} for {card.title}{needs}; "
            "close other programs, or choose a smaller model or half precision"
        ) from error


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """diffusers and transformers speak of errors only; progress bars of reading weights are off for good."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    loggers = (diffusers_logging, transformers_logging)
    before = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
        logger.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.set_verbosity(level)
