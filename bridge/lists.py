"""What can be chosen from: sources, models and presets, printed as tables."""

from __future__ import annotations

import textwrap

from bridge.opening import preset_folder
from engine.models.catalogue import CATALOGUE, ModelCard
from engine.models.video_memory import OWN_AUTOENCODER_GB, TEXT_ENCODER_GB
from engine.models.video_policies import VideoPolicies

NAME_WIDTH = 26
LOOK_SECONDS = 3.0
CAMERAS = 4


def _line(name: str, text: str) -> None:
    print(f"{name:<{NAME_WIDTH}} {textwrap.shorten(text, 240)}".rstrip())


def list_sources() -> None:
    """NDI sources that answer within seconds, cameras that open, and what is always there."""
    _line("test", "a moving test pattern")
    _line("null", "no input at all")
    _line("frames:FOLDER", "the pictures in a folder")
    _line("PATH", "a clip or a picture")
    _list_ndi()
    _list_cameras()


def _list_ndi() -> None:
    from bridge.ndi.finder import list_sources as look_around
    from bridge.ndi.library import NdiUnavailable

    try:
        found = look_around(timeout_seconds=LOOK_SECONDS)
    except NdiUnavailable as error:
        print(f"NDI is not available: {error}")
        return
    for source in found:
        _line(f"ndi:{source.name}", source.url)
    if not found:
        print("no NDI source answered; one elsewhere can be named by address: ndi://HOST:PORT")


def _list_cameras() -> None:
    import cv2

    # What OpenCV has to say about cameras that are not there is noise here.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    for index in range(CAMERAS):
        camera = cv2.VideoCapture(index)
        if camera.isOpened():
            _line(f"camera:{index}", "a camera")
        camera.release()


def list_models() -> None:
    """The catalogue; of a video model also what it holds, what of it was verified, and which files are taken."""
    for card in CATALOGUE:
        memory = f"{card.memory_gb:g} GB, " if card.memory_gb else ""
        _line(card.name, f"{card.title}; {card.size[0]}x{card.size[1]}, {memory}{card.licence}. {card.note}")
        if card.video is not None:
            _list_video(card, card.video)
    print("A model may also be a hub id owner/name, a folder, or a .safetensors, .ckpt, .pt or .pth file;")
    print("NAME@PATH runs a video model of this list with weights of this machine.")


def _list_video(card: ModelCard, policies: VideoPolicies) -> None:
    if policies.shape:
        own = card.memory_gb + OWN_AUTOENCODER_GB
        _line("", f"memory: {card.memory_gb:g} GB with --autoencoder tiny, {own:.0f} GB with own, reckoned from measured runs of a 1.3B; "
                  f"{TEXT_ENCODER_GB:g} GB more while a prompt is encoded on the GPU, else of the machine's memory")  # fmt: skip
    _line("", f"verified: {policies.verified}")
    if card.revision:
        _line("", f"revision: {card.revision}")


def list_presets() -> None:
    """Presets that ship and the user's own; a broken one with its problem."""
    for entry in preset_folder().list():
        own = "" if entry.shipped else "(own) "
        _line(entry.key, f"cannot be used: {entry.problem}" if entry.problem else own + entry.description)
