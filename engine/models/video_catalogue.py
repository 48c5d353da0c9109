"""The video rows of the catalogue: causal Wan checkpoints with their schedules, policies and latent conventions. No torch.

Facts are those of the projects' own code and configurations. No row's real weights have been run here, only their layout checked:
each row says so in `verified`. Revisions are commits of the hub that public projects pin; a row of which none is known says so. Licences
are those of the code, and of the weights where their page on the hub is known to name one; Wan 2.1, which all come from, is Apache-2.0.
"""

from __future__ import annotations

from dataclasses import replace

from engine.models.model_card import NOT_PINNED, ModelCard
from engine.models.video_memory import whole_gb
from engine.models.video_policies import VideoPolicies

BASES = {"wan-1.3b": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "wan-14b": "Wan-AI/Wan2.1-T2V-14B-Diffusers"}
"""Where the autoencoder, umT5 and its tokenizer of a bare checkpoint come from."""
BASE_REVISIONS = {"wan-1.3b": "0fad780a534b6463e45facd96134c9f345acfa5b", "wan-14b": "38ec498cb3208fb688890f8cc7e94ede2cbd7f68"}
"""Their commits."""

TINY_CODECS = {"repo": "madebyollin/taehv", "file": "taew2_1.pth"}
"""The tiny autoencoder for Wan 2.1's latents, and its file on the hub."""

_LAYOUT = "names and shapes of all weights against the published configuration; the weights themselves have not been run"
_SIZE = (832, 480)
_APACHE = "Apache-2.0, code and weights"
_UNKNOWN = "code Apache-2.0, weights' licence not known here: read their page on the hub"
_SELF_FORCING_TERMS = "code Apache-2.0, weights Apache-2.0 to some and CC BY-NC-SA 4.0 to others: read their page on the hub"
_LONGLIVE_TERMS = "code Apache-2.0, weights CC BY-NC-SA 4.0 by their page on the hub: not for commercial use"
_REWARD_TERMS = "code Apache-2.0, weights without a licence on their page on the hub: ask the authors"
_STREAM_V2_REVISION = "2373eb2b39278b3a1aa174964a724ee78ead96f0"
_CAUSAL_FORCING_REVISION = "2f8eb8bb6eeb1238da9d13e5420d342a74d634a6"

_STREAM_V2 = VideoPolicies(
    shape="wan-1.3b", weights="wan_causal_dmd_v2v/model.pt", entry="generator", base=BASES["wan-1.3b"],
    base_revision=BASE_REVISIONS["wan-1.3b"], input_latents="raw", timesteps=(700.0, 500.0, 400.0, 200.0), warped=False, shift=8.0,
    step_rule="first", frames=1, first_frames=2, window=6, sinks=3, scheduler="sequential", cache="adaptive_sinks", sink_threshold=0.2,
    positions="reset", reset_at=50, restart_at=5, noise="motion_aware", on_prompt="recache",
    verified=_LAYOUT + "; the algorithm against its own code with small random weights",
)  # fmt: skip
_STREAM_V2_14B = replace(
    _STREAM_V2, shape="wan-14b", weights="wan_causal_dmd_v2v_14b/model.pt", base=BASES["wan-14b"], base_revision=BASE_REVISIONS["wan-14b"],
)  # fmt: skip
_SELF_FORCING = VideoPolicies(
    shape="wan-1.3b", weights="checkpoints/self_forcing_dmd.pt", entry="generator_ema", base=BASES["wan-1.3b"],
    base_revision=BASE_REVISIONS["wan-1.3b"], on_prompt="recache", verified=_LAYOUT,
)  # fmt: skip
_CAUSAL_FORCING = replace(
    _SELF_FORCING, weights="causal-forcing++/framewise-2step.pt", timesteps=(1000.0, 500.0), frames=1,
    first_timesteps=(1000.0, 750.0, 500.0, 250.0),
)  # fmt: skip
_CAUSVID = replace(
    _SELF_FORCING, weights="autoregressive_checkpoint/model.pt", entry="generator", timesteps=(1000.0, 757.0, 522.0), warped=False,
    shift=8.0,
)  # fmt: skip
_LONGLIVE = replace(
    _SELF_FORCING, weights="models/longlive_base.pt", entry="", adapter="models/lora.pt", window=12, sinks=3,
)  # fmt: skip
_REWARD_FORCING = replace(
    _SELF_FORCING, weights="rewardforcing.pt", window=9, sinks=3, cache="ema_sinks", ema=0.999,
)  # fmt: skip
_KREA = replace(
    _SELF_FORCING, shape="wan-14b", weights="krea-realtime-video-14b.safetensors", entry="", base=BASES["wan-14b"],
    base_revision=BASE_REVISIONS["wan-14b"], window=6, cache="recompute", context=3, on_prompt="keep",
)  # fmt: skip

EMBEDDED_VIDEO = "embedded-video"
"""The small video model that ships with the package: its name, and its source instead of a folder."""
_EMBEDDED = VideoPolicies(
    timesteps=(1000.0, 500.0), warped=False, shift=1.0, step_rule="first", frames=1, window=6, scheduler="sequential",
    verified="its own weights, streamed",
)  # fmt: skip

VIDEO_CATALOGUE: tuple[ModelCard, ...] = (
    ModelCard(
        name=EMBEDDED_VIDEO, source=EMBEDDED_VIDEO, title="Embedded video", licence="Apache-2.0", memory_gb=0.5, size=(128, 128),
        steps=1, strength=0.5, video=_EMBEDDED, note="Ships with the package: tiny, a dozen looks, moves on a laptop CPU, no download.",
    ),
    ModelCard(
        name="streamdiffusion-v2", source="jerryfeng/StreamDiffusionV2", revision=_STREAM_V2_REVISION, title="StreamDiffusionV2 1.3B",
        licence=_UNKNOWN, memory_gb=whole_gb(_STREAM_V2, 2), size=_SIZE, steps=2, strength=0.8, video=_STREAM_V2,
        note="Video to video: made for live input, one latent frame a chunk.",
    ),
    ModelCard(
        name="streamdiffusion-v2-14b", source="jerryfeng/StreamDiffusionV2", revision=_STREAM_V2_REVISION, title="StreamDiffusionV2 14B",
        licence=_UNKNOWN, memory_gb=whole_gb(_STREAM_V2_14B, 1), size=_SIZE, steps=1, strength=0.8, video=_STREAM_V2_14B,
        note="The large one: 28.6 GB of weights alone; a 48 GB GPU only just, and not with Wan's own autoencoder.",
    ),
    ModelCard(
        name="self-forcing", source="gdhe17/Self-Forcing", revision="2f8b779212da279d212c22a509b66ad6552f350e", title="Self-Forcing 1.3B",
        licence=_SELF_FORCING_TERMS, memory_gb=whole_gb(_SELF_FORCING, 4), size=_SIZE, steps=4, strength=0.8, video=_SELF_FORCING,
        note="Text to video in chunks of three latent frames.",
    ),
    ModelCard(
        name="causal-forcing-2step", source="zhuhz22/Causal-Forcing", revision=_CAUSAL_FORCING_REVISION,
        title="Causal-Forcing++ 1.3B, two steps", licence=_APACHE, memory_gb=whole_gb(_CAUSAL_FORCING, 2), size=_SIZE, steps=2,
        strength=0.8, video=_CAUSAL_FORCING, note="One latent frame a chunk, two steps; the first chunk takes four.",
    ),
    ModelCard(
        name="causal-forcing-1step", source="zhuhz22/Causal-Forcing", revision=_CAUSAL_FORCING_REVISION,
        title="Causal-Forcing++ 1.3B, one step", licence=_APACHE, memory_gb=whole_gb(_CAUSAL_FORCING, 1), size=_SIZE, steps=1, strength=0.8,
        video=replace(_CAUSAL_FORCING, weights="causal-forcing++/framewise-1step.pt", timesteps=(1000.0,)),
        note="One latent frame a chunk, one step: the least latency.",
    ),
    ModelCard(
        name="causvid", source="tianweiy/CausVid", revision="b545eb2728fc9d1515023a270b847f7b24b3aa89", title="CausVid 1.3B",
        licence="CC BY-NC-SA 4.0, code and weights", memory_gb=whole_gb(_CAUSVID, 3), size=_SIZE, steps=3, strength=0.8, video=_CAUSVID,
        note="The first of its kind; not for commercial use.",
    ),
    ModelCard(
        name="longlive", source="Efficient-Large-Model/LongLive-1.3B", revision="cda9138d93872ef109d9a74c270184eb3a5acc6e",
        title="LongLive 1.3B", licence=_LONGLIVE_TERMS, memory_gb=whole_gb(_LONGLIVE, 4), size=_SIZE, steps=4, strength=0.8,
        video=_LONGLIVE, note="Made to run for minutes and to change its prompt meanwhile.",
    ),
    ModelCard(
        name="reward-forcing", source="JaydenLu666/Reward-Forcing-T2V-1.3B", revision=NOT_PINNED, title="Reward-Forcing 1.3B",
        licence=_REWARD_TERMS, memory_gb=whole_gb(_REWARD_FORCING, 4), size=_SIZE, steps=4, strength=0.8, video=_REWARD_FORCING,
        note="Lively motion; what leaves the window lives on as a running mean.",
    ),
    ModelCard(
        name="krea-realtime-14b", source="krea/krea-realtime-video", revision="6b5d204f9d14c3c3a59608e49d1da7fad90daf8d",
        title="Krea Realtime 14B", licence="weights Apache-2.0", memory_gb=whole_gb(_KREA, 4), size=_SIZE, steps=4, strength=0.8,
        video=_KREA, note="The largest; computes its context anew every chunk.",
    ),
)  # fmt: skip
