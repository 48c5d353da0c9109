"""THE TABLE: every live parameter, once. Addresses, pages, presets, the broadcast layout and the reference follow from it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from engine.control.parameter import NUMERIC, Applies, Kind, Parameter

PROMPT_SLOTS = 4
"""Prompts that can be blended at once."""

MAX_STEPS = 8
"""Denoising steps a frame may have."""


class UnknownParameter(KeyError):
    """Somebody named a parameter that does not exist. The text suggests the nearest name."""

    def __str__(self) -> str:
        return str(self.args[0])


def _prompt_rows() -> tuple[Parameter, ...]:
    rows = []
    for slot in range(1, PROMPT_SLOTS + 1):
        name = "prompt" if slot == 1 else f"prompt_{slot}"
        text = "What the picture should look like." if slot == 1 else f"Prompt {slot} of the blend."
        rows += [
            Parameter(name=name, group="prompt", kind=Kind.TEXT, default="vaporwave" if slot == 1 else "", doc=text),
            Parameter(name=f"{name}_weight", group="prompt", kind=Kind.FLOAT, default=1.0 if slot == 1 else 0.0, range=(0, 1),
                      smoothing=0.1, doc=f"Share of prompt {slot} in the blend; the shares are normalised to a sum of 1."),
        ]  # fmt: skip
    return tuple(rows)


# fmt: off
TABLE: tuple[Parameter, ...] = (
    *_prompt_rows(),
    Parameter(name="negative_prompt", group="prompt", kind=Kind.TEXT, default="", doc="What the picture should not look like; takes effect with guidance onetime or full."),
    Parameter(name="prompt_blend", group="prompt", kind=Kind.CHOICE, choices=("linear", "slerp"), default="linear", doc="How prompts are mixed: weighted sum, or along the sphere."),
    Parameter(name="prompt_fade", group="prompt", kind=Kind.FLOAT, default=0.3, range=(0, 60), unit="s", doc="Time in which a changed prompt fades in; 0 switches at once."),

    Parameter(name="mode", group="diffusion", kind=Kind.CHOICE, choices=("image_to_image", "text_to_image"), default="image_to_image", formerly=("sdmode",), doc="Re-imagine the input, or paint from the prompt alone."),
    Parameter(name="strength", group="diffusion", kind=Kind.FLOAT, default=0.8, range=(0, 1), smoothing=0.05, formerly=("denoise",), doc="How far the input is taken towards noise before it is re-imagined: 0 returns the input, 1 keeps the least of it."),
    Parameter(name="steps", group="diffusion", kind=Kind.INT, default=1, range=(1, MAX_STEPS), formerly=("num_inference_steps",), doc="Denoising steps a frame; more is cleaner. They share one stream batch: the frame comes later by as many frames, and on a GPU that one frame does not fill the rate hardly falls."),
    Parameter(name="step_list", group="diffusion", kind=Kind.LIST, default=(), range=(0, 999), longest=MAX_STEPS, formerly=("t_list",), doc="Explicit timesteps, largest first; when not empty it replaces strength and steps."),
    Parameter(name="step_method", group="diffusion", kind=Kind.CHOICE, choices=("auto", "consistency", "euler"), default="auto", doc="How a step goes on: consistency adds fresh noise after each step, Euler follows the noise found; auto asks the model."),
    Parameter(name="add_noise", group="diffusion", kind=Kind.TOGGLE, default=True, doc="Whether a consistency step adds noise again before the next one."),
    Parameter(name="stream_batch", group="diffusion", kind=Kind.TOGGLE, default=True, doc="Denoise frames at different steps in one model call; off runs all steps of a frame at once: less latency, lower rate."),
    Parameter(name="frame_buffer", group="diffusion", kind=Kind.INT, default=1, range=(1, 8), doc="Frames taken in together and shown one after the other; more can raise the rate on a GPU that one frame does not fill, and raises the latency everywhere."),
    Parameter(name="cross_frame_attention", group="diffusion", kind=Kind.TOGGLE, default=False, doc="Let frames of the stream batch attend to each other: steadier in time."),

    Parameter(name="guidance", group="guidance", kind=Kind.CHOICE, choices=("none", "self", "onetime", "full"), default="none", formerly=("cfg_type",), doc="Classifier-free guidance: none, residual against the input (self), residual against the negative prompt (onetime), or full."),
    Parameter(name="guidance_scale", group="guidance", kind=Kind.FLOAT, default=1.2, range=(0, 20), smoothing=0.05, doc="How strongly guidance pushes towards the prompt; 1 changes nothing."),
    Parameter(name="delta", group="guidance", kind=Kind.FLOAT, default=1.0, range=(0, 2), smoothing=0.05, doc="Size of the residual in guidance self and onetime; below 1 tames contrast."),

    Parameter(name="seed", group="noise", kind=Kind.INT, default=2, range=(0, 2**31 - 1), doc="Which noise is used."),
    Parameter(name="seed_mode", group="noise", kind=Kind.CHOICE, choices=("fixed", "random", "travel"), default="fixed", doc="Noise that stays, is new for each frame, or wanders from seed to seed. Video models: for each chunk; random is what they were trained on."),
    Parameter(name="seed_travel_rate", group="noise", kind=Kind.FLOAT, default=0.25, range=(0.001, 30), unit="Hz", logarithmic=True, doc="Seeds passed in a second when the seed travels."),

    Parameter(name="similarity_filter", group="similarity", kind=Kind.TOGGLE, default=False, doc="Skip frames that resemble the last computed one, to save power; video models skip whole chunks."),
    Parameter(name="similarity_threshold", group="similarity", kind=Kind.FLOAT, default=0.98, range=(0, 1), doc="Likeness from which a frame may be skipped, 1 being equal."),
    Parameter(name="similarity_max_skip", group="similarity", kind=Kind.INT, default=10, range=(0, 10_000), unit="frames", doc="Frames skipped in a row before one is computed all the same."),

    Parameter(name="step_scheduler", group="video", kind=Kind.CHOICE, choices=("auto", "sequential", "clean_rerun", "stream_batch", "rolling_window"), default="auto", applies=Applies.NEXT_CHUNK, doc="Video models: all steps of a chunk at once, the same and once more for clean context, chunks at different steps in one call, or a window of rising noise; auto asks the model."),
    Parameter(name="noise_control", group="video", kind=Kind.CHOICE, choices=("auto", "fixed", "motion_aware", "flow_warped"), default="auto", applies=Applies.NEXT_CHUNK, doc="Video models: noise as strength says, less where the input moves quickly, or carried along by the motion of the input; auto asks the model."),
    Parameter(name="chunk_frames", group="video", kind=Kind.INT, default=0, range=(0, 8), unit="latent frames", applies=Applies.NEXT_CHUNK, doc="Video models: latent frames denoised together, of four pictures each with Wan's autoencoder; 0 takes the model's own."),
    Parameter(name="deadline", group="video", kind=Kind.FLOAT, default=0.0, range=(0, 10_000), unit="ms", applies=Applies.NEXT_CHUNK, doc="Video models: time from capture to picture that is to be held, by fewer steps, other chunks or leaving out frames; 0 holds none."),
    Parameter(name="fewest_steps", group="video", kind=Kind.INT, default=1, range=(1, MAX_STEPS), applies=Applies.NEXT_CHUNK, doc="Video models: steps that a deadline leaves a chunk at least, if steps asks for so many."),
    Parameter(name="one_frame_start", group="video", kind=Kind.TOGGLE, default=False, applies=Applies.NEXT_CHUNK, doc="Video models: begin with a single picture instead of the first chunk the model was trained with; shows something sooner."),
    Parameter(name="prompt_chunks", group="video", kind=Kind.INT, default=2, range=(1, 64), unit="chunks", applies=Applies.NEXT_CHUNK, doc="Video models: chunks over which a changed prompt blends in; 1 switches at once."),
    Parameter(name="prompt_recache", group="video", kind=Kind.CHOICE, choices=("auto", "keep", "recache"), default="auto", applies=Applies.NEXT_CHUNK, doc="Video models: whether the frames remembered are computed anew for a changed prompt, which then shows at once; auto asks the model."),

    Parameter(name="width", group="picture", kind=Kind.INT, default=512, range=(64, 2048), unit="px", doc="Width the model works at; rounded to what the model can take."),
    Parameter(name="height", group="picture", kind=Kind.INT, default=512, range=(64, 2048), unit="px", doc="Height the model works at; rounded to what the model can take."),
    Parameter(name="fit", group="picture", kind=Kind.CHOICE, choices=("fill", "fit", "letterbox", "stretch"), default="fill", doc="How another shape of input is fitted: cropped, whole with its edges drawn out, whole with black bars, or distorted."),
    Parameter(name="feedback", group="picture", kind=Kind.FLOAT, default=0.0, range=(0, 0.95), smoothing=0.05, doc="Share of the last finished picture in the next input."),
    Parameter(name="steadiness", group="picture", kind=Kind.FLOAT, default=0.5, range=(0, 1), smoothing=0.05, doc="How far flicker is averaged away along the motion of the input: 0 not at all, 1 until a third is left. Cuts and turned knobs show at once; text to image has no input and is left alone."),
    Parameter(name="mix", group="picture", kind=Kind.FLOAT, default=1.0, range=(0, 1), smoothing=0.05, formerly=("dry_wet",), doc="Dry/wet: 0 shows the input of the same moment, 1 the generated picture."),
    Parameter(name="without_input", group="picture", kind=Kind.CHOICE, choices=("hold", "dream"), default="hold", doc="What image to image does while no new frame comes: hold the picture, or go on re-imagining the last frame."),
    Parameter(name="reset", group="picture", kind=Kind.TRIGGER, doc="Forget the frames in flight and start afresh."),

    Parameter(name="output_fps", group="output", kind=Kind.FLOAT, default=30.0, range=(0, 240), unit="Hz", formerly=("max_fps",), doc="Rate at which sinks get frames, kept by repeating; 0 passes each frame on as it is finished."),
    Parameter(name="freeze", group="output", kind=Kind.TOGGLE, default=False, doc="Keep showing the frame that is on now."),
    Parameter(name="blackout", group="output", kind=Kind.TOGGLE, default=False, doc="Show black."),
    Parameter(name="fallback", group="output", kind=Kind.CHOICE, choices=("hold", "input", "black"), default="hold", doc="What is shown when nothing new comes from the engine for a while: the last frame, the input, or black."),
    Parameter(name="fallback_after", group="output", kind=Kind.FLOAT, default=5.0, range=(0.1, 3600), unit="s", logarithmic=True, doc="Time without a new frame after which the fallback is shown."),

    Parameter(name="state", group="status", kind=Kind.TEXT, default="starting", read_only=True, doc="What the engine does: starting, loading, running, waiting, restarting, failed or stopped."),
    Parameter(name="error", group="status", kind=Kind.TEXT, default="", read_only=True, doc="The last error, in plain words; empty when all is well."),
    Parameter(name="model", group="status", kind=Kind.TEXT, default="", read_only=True, doc="The model that is running."),
    Parameter(name="fps", group="status", kind=Kind.FLOAT, default=0.0, range=(0, 100_000), unit="Hz", read_only=True, doc="Frames finished a second."),
    Parameter(name="latency_ms", group="status", kind=Kind.FLOAT, default=0.0, range=(0, 1e9), unit="ms", read_only=True, doc="Median time from capture to sender."),
    Parameter(name="first_frame_ms", group="status", kind=Kind.FLOAT, default=0.0, range=(0, 1e9), unit="ms", read_only=True, doc="Video models: time from the first input to the first picture."),
    Parameter(name="jitter_ms", group="status", kind=Kind.FLOAT, default=0.0, range=(0, 1e9), unit="ms", read_only=True, doc="Video models: mean change of the latency from chunk to chunk."),
    Parameter(name="deadline_misses", group="status", kind=Kind.INT, default=0, range=(0, 2**53), unit="frames", read_only=True, doc="Video models: frames that came after the deadline."),
    Parameter(name="dropped", group="status", kind=Kind.INT, default=0, range=(0, 2**53), unit="frames", read_only=True, doc="Input frames replaced by a newer one before they were computed."),
    Parameter(name="repeated", group="status", kind=Kind.INT, default=0, range=(0, 2**53), unit="frames", read_only=True, doc="Frames shown again to keep the output rate."),
    Parameter(name="skipped", group="status", kind=Kind.INT, default=0, range=(0, 2**53), unit="frames", read_only=True, doc="Frames not computed as they resembled the last one."),
    Parameter(name="engine_restarts", group="status", kind=Kind.INT, default=0, range=(0, 2**53), read_only=True, doc="How often the engine process was started again."),
)
# fmt: on

BY_NAME: Mapping[str, Parameter] = MappingProxyType({row.name: row for row in TABLE})
FORMER_NAMES: Mapping[str, str] = MappingProxyType({old: row.name for row in TABLE for old in row.formerly})
NUMBERS: tuple[Parameter, ...] = tuple(row for row in TABLE if row.kind in NUMERIC and not row.read_only)
"""The rows that cross to the engine as one block of doubles, in this order."""

_names = [row.name for row in TABLE] + list(FORMER_NAMES)
if len(_names) != len(set(_names)):
    raise ValueError("the parameter table names something twice")


def find(name: str) -> Parameter:
    """The row of that name or former name; UnknownParameter with the nearest name otherwise."""
    row = BY_NAME.get(FORMER_NAMES.get(name, name))
    if row is None:
        near = difflib.get_close_matches(name, [*BY_NAME, *FORMER_NAMES], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownParameter(f"there is no parameter {name!r}{hint}")
    return row


__all__ = ["BY_NAME", "FORMER_NAMES", "MAX_STEPS", "NUMBERS", "PROMPT_SLOTS", "TABLE", "Applies", "UnknownParameter", "find"]
