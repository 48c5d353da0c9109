"""Puts the training program's modules on the path, and makes pictures, concepts, a tokenizer and pairs for its tests."""

import copy
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderTiny

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from embedded.autoencoder import AutoencoderTraining  # noqa: E402
from embedded.concepts import Concept, all_concepts  # noqa: E402
from embedded.conditioned import Conditioned  # noqa: E402
from embedded.denoiser import DenoiserTraining  # noqa: E402
from embedded.drawing_room import DrawingRoom, Layout  # noqa: E402
from embedded.finishing import Finisher  # noqa: E402
from embedded.inversion import PaintedStyles  # noqa: E402
from embedded.looks import DRAWN  # noqa: E402
from embedded.networks import new_autoencoder, new_denoiser, new_text_encoder  # noqa: E402
from embedded.pair_pool import PairPool  # noqa: E402
from embedded.pairs import PairArtist  # noqa: E402
from embedded.prompts import PromptWriter  # noqa: E402
from embedded.scale import Scale, scale_of  # noqa: E402
from embedded.style_teacher import StyleTable  # noqa: E402
from embedded.tokenizer import token_ids, train_tokenizer  # noqa: E402
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: E402

from tests.tools.standing_networks import Painter, Shown  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
TAUGHT = 90  # made-up style vectors: more than a meaning keeps numbers of
SIDE = 64  # pixels of the training pictures of these tests
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def scene() -> npt.NDArray[np.uint8]:
    """A drawn scene, uint8 [256, 256, 3]: sky and ground, a sun, a house, a tree."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:150] = np.linspace((70, 120, 210), (190, 210, 240), 150)[:, None].astype(np.uint8)
    picture[150:] = np.linspace((90, 130, 60), (50, 70, 30), 106)[:, None].astype(np.uint8)
    cv2.circle(picture, (200, 50), 26, (250, 230, 130), -1)
    cv2.rectangle(picture, (50, 90), (140, 190), (190, 80, 60), -1)
    cv2.fillPoly(picture, [np.array([(40, 92), (95, 45), (150, 92)])], (90, 50, 45))
    cv2.rectangle(picture, (80, 135), (110, 190), (60, 40, 30), -1)
    cv2.rectangle(picture, (190, 130), (202, 205), (80, 55, 35), -1)
    cv2.circle(picture, (196, 118), 34, (40, 110, 45), -1)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8), dtype=np.uint8)


@pytest.fixture(scope="session")
def style_table() -> StyleTable:
    """The real table of styles."""
    if not (DATA / "styles.json").exists():
        pytest.skip("the folder ../shared/data with the style table is absent")
    return StyleTable(DATA)


@pytest.fixture(scope="session")
def real_concepts(style_table: StyleTable) -> list[Concept]:
    """All that the shipped model learns."""
    return all_concepts(style_table)


@pytest.fixture(scope="session")
def toy_concepts() -> list[Concept]:
    """The drawn looks and made-up styles of random, correlated vectors."""
    generator = np.random.default_rng(4)
    vectors = (generator.normal(size=(TAUGHT, 100)) @ generator.normal(size=(100, 100)) + 3).astype(np.float32)
    looks = [Concept(f"look/{look.name}", list(look.prompts), drawn=look.drawn) for look in DRAWN]
    return looks + [Concept(f"painting/toy {i}", [f"toy {i}", f"in the manner of toy {i}"], vector=vectors[i]) for i in range(TAUGHT)]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that was trained on a few texts."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["pencil sketch", "neon edges", "a dancer in neon style", "pencil drawing of a dancer"] * 5, folder, merges=60)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> CLIPTokenizer:
    """The tokenizer of that folder."""
    return CLIPTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture(scope="session")
def tiny_scale() -> Scale:
    """Sizes at which a training step takes a fraction of a second."""
    sizes = {"side": SIDE, "pool": 20, "drawn": 5, "processes": 0, "pictures": 4, "latents": 12, "decoded": 4, "rebuilt": 1}
    sizes |= {"window": SIDE, "moved": 2, "critics": True}
    return replace(scale_of(CPU), **sizes)


@dataclass
class PlantedTeacher:
    """A style teacher of closed form: every picture halfway to the colour that its style vector names."""

    counts: list[int] = field(default_factory=list)

    def __call__(self, photos: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        self.counts.append(len(photos))
        return 0.5 * photos + 0.5 * torch.sigmoid(vectors[:, :3, None, None])


@pytest.fixture
def planted_teacher() -> PlantedTeacher:
    """See above; `counts` are the sizes of the batches it was asked for."""
    return PlantedTeacher()


@pytest.fixture(scope="session")
def make_artist(toy_concepts: list[Concept], scene: npt.NDArray[np.uint8], tokenizer: CLIPTokenizer) -> Callable[[], PairArtist]:
    """Makes an artist over two photos; a drawing process can make one, too."""
    writer = PromptWriter(toy_concepts, extra={})
    return partial(PairArtist, toy_concepts, np.stack([scene, scene[::-1]]), writer=writer, tokenizer=tokenizer, side=SIDE)


@pytest.fixture
def autoencoder() -> AutoencoderTiny:
    """Random weights, frozen."""
    torch.manual_seed(0)
    return new_autoencoder().eval().requires_grad_(False)


@pytest.fixture
def make_pool(
    make_artist: Callable[[], PairArtist], toy_concepts: list[Concept], planted_teacher: PlantedTeacher, tiny_scale: Scale
) -> Callable[..., PairPool]:
    """`make_pool(autoencoder, batches=4, seed=1)`: a pool that took in as many batches of the tiny scale."""

    def made(autoencoder: AutoencoderTiny | None, *, batches: int = 4, seed: int = 1) -> PairPool:
        room = DrawingRoom(make_artist, layout=Layout(count=tiny_scale.drawn, side=SIDE), processes=0, seed=seed)
        finisher = Finisher(toy_concepts, planted_teacher, CPU)  # type: ignore[arg-type]
        pool = PairPool(room, finisher, capacity=tiny_scale.pool, autoencoder=autoencoder, seed=seed)
        assert all(pool.renew(wait=True) for _ in range(batches))
        return pool

    return made


@pytest.fixture
def counted_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a second later: a budget is a number of steps on any machine."""
    clock = itertools.count()
    monkeypatch.setattr("embedded.record.time", SimpleNamespace(monotonic=lambda: float(next(clock))))


@pytest.fixture
def begun_autoencoder(tmp_path: Path, tiny_scale: Scale) -> Callable[[], AutoencoderTraining]:
    """Begins the run in a work folder, or takes it up again."""

    def begun() -> AutoencoderTraining:
        torch.manual_seed(1)
        return AutoencoderTraining(tmp_path, start=None, device=CPU, scale=tiny_scale, seed=1)

    return begun


@pytest.fixture
def begun_denoiser(
    tmp_path: Path, autoencoder: AutoencoderTiny, tokenizer: CLIPTokenizer, tiny_scale: Scale, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], DenoiserTraining]:
    """Begins the run of a narrow network in a work folder, or takes it up again."""
    monkeypatch.setattr("embedded.networks.UNET_WIDTHS", (16, 32, 112))

    def begun() -> DenoiserTraining:
        torch.manual_seed(0)
        text = new_text_encoder(vocabulary=len(tokenizer), start=tokenizer.bos_token_id, end=tokenizer.eos_token_id)
        network = Conditioned(new_denoiser(), text, autoencoder.decoder)
        empty = torch.tensor(token_ids(tokenizer, [""])[0])
        return DenoiserTraining(tmp_path, network, copy.deepcopy(autoencoder), empty=empty, device=CPU, scale=tiny_scale, seed=1)

    return begun


@pytest.fixture
def few_concepts(toy_concepts: list[Concept]) -> list[Concept]:
    """Three made-up styles and one group of tags."""
    vectors = [concept.vector for concept in toy_concepts if concept.vector is not None]
    names = ("neon", "pencil", "dancer")
    named = [Concept(f"painting/{name}", [name, f"{name} style"], vector=vector) for name, vector in zip(names, vectors, strict=False)]
    return [*named, Concept("tags/oil, portrait", ["oil, portrait"], vector=vectors[3])]


@pytest.fixture
def few_artist(few_concepts: list[Concept], make_artist: Callable[[], PairArtist]) -> Callable[[], PairArtist]:
    """Makes an artist of the few concepts, whose prompts all say the same."""

    def made() -> PairArtist:
        artist = make_artist()
        artist.concepts, artist.writer = few_concepts, lambda recipe, generator: "a picture"  # type: ignore[assignment]
        return artist

    return made


@pytest.fixture
def encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A text encoder with random weights."""
    torch.manual_seed(1)
    return new_text_encoder(vocabulary=len(tokenizer), start=tokenizer.bos_token_id, end=tokenizer.eos_token_id).eval()


@pytest.fixture
def painted_styles(
    encoder: CLIPTextModel,
    autoencoder: AutoencoderTiny,
    few_artist: Callable[[], PairArtist],
    few_concepts: list[Concept],
    planted_teacher: PlantedTeacher,
) -> Callable[[], PaintedStyles]:
    """Makes pictures of the few concepts by a denoiser and a decoder of closed form."""

    def made() -> PaintedStyles:
        network = Conditioned(Painter(), encoder, Shown())  # type: ignore[arg-type]
        return PaintedStyles(network, autoencoder, few_artist(), Finisher(few_concepts, planted_teacher, CPU))  # type: ignore[arg-type]

    return made
