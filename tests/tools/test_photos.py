"""Training photos: decoded in parallel as one by one, cropped and relit; and the artist over a data folder."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from embedded.artist import OTHERS, ArtistMaker
from embedded.looks import DRAWN
from embedded.photos import SIDE, decoded_photos, random_crop, relit
from embedded.recipes import EachInTurn, RecipeBook
from embedded.tones import vivid

Picture = npt.NDArray[np.uint8]


@pytest.fixture
def data(tmp_path: Path, scene: Picture) -> Path:
    """A folder with five photos in two shards, a file that no row names, and a table of seventy styles."""
    rows = []
    for shard in range(2):
        with tarfile.open(tmp_path / f"photos_256_{shard}.tar", "w") as archive:
            for number in range(3):
                turned = np.roll(scene, 40 * (3 * shard + number), axis=1)
                name, encoded = f"{shard}{number}.jpg", cv2.imencode(".jpg", cv2.cvtColor(turned, cv2.COLOR_RGB2BGR))[1]
                info = tarfile.TarInfo(name)
                info.size = len(encoded)
                archive.addfile(info, io.BytesIO(encoded.tobytes()))
                rows.append({"file": name, "shard": shard})
    (tmp_path / "photos.json").write_text(json.dumps([rows[4], *rows[:4]]), encoding="utf-8")
    vectors = np.random.default_rng(1).normal(size=(70, 100))
    styles = [{"kind": "painting", "name": f"toy {number}", "prompt": f"toy {number}"} for number in range(70)]
    (tmp_path / "styles.json").write_text(json.dumps(styles), encoding="utf-8")
    np.savez(tmp_path / "styles.npz", vec=vectors.astype(np.float16))
    return tmp_path


def decoded_one_by_one(data: Path) -> Picture:
    found = []
    for row in json.loads((data / "photos.json").read_text(encoding="utf-8")):
        with tarfile.open(data / f"photos_256_{row['shard']}.tar") as archive:
            file = archive.extractfile(row["file"])
            assert file is not None
            found.append(cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
    return np.stack(found)


def test_photos_decoded_in_parallel_are_those_decoded_one_by_one_in_the_order_of_the_list(data: Path, scene: Picture) -> None:
    work = data / "work"
    work.mkdir()
    photos = decoded_photos(data, work)
    assert photos.shape == (5, SIDE, SIDE, 3) and photos.dtype == np.uint8
    assert np.array_equal(photos, decoded_one_by_one(data))
    assert np.abs(photos[1].astype(float) - scene).mean() < 3, "not the colours of the photo"
    assert [path.name for path in work.iterdir()] == ["photos.npy"]
    (data / "photos.json").unlink()
    assert np.array_equal(decoded_photos(data, work), photos), "decoded photos were not kept"


def test_a_limit_takes_the_first_photos_of_the_list(data: Path) -> None:
    wanted = decoded_one_by_one(data)[:2]
    assert np.array_equal(decoded_photos(data, data, limit=2), wanted)


@pytest.mark.parametrize("side", [64, 128, 256])
def test_a_crop_repeats_by_seed_and_shows_a_part_of_the_photo(side: int, scene: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [random_crop(scene, side=side, generator=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
    assert made[0].shape == (side, side, 3) and made[0].dtype == np.uint8
    monkeypatch.setattr("embedded.photos.relit", lambda picture, generator: picture)
    found = set()
    for seed in range(12):
        crop = random_crop(scene, side=side, generator=np.random.default_rng(seed))
        assert crop.flags.c_contiguous
        for mirrored, tried in ((False, crop), (True, np.ascontiguousarray(crop[:, ::-1]))):
            left, top = cv2.minMaxLoc(cv2.matchTemplate(scene, tried, cv2.TM_SQDIFF))[2]
            if np.array_equal(scene[top : top + side, left : left + side], tried):  # neither enlarged nor reduced
                found.add(mirrored)
    assert found == {False, True}


def test_relighting_is_a_gamma_and_then_saturation_and_contrast(scene: Picture) -> None:
    generator = np.random.default_rng(3)
    gamma = float(np.exp(generator.uniform(-0.4, 0.4)))
    saturation, contrast = generator.uniform(0.6, 1.3), generator.uniform(0.75, 1.2)
    made = relit(scene, generator=np.random.default_rng(3))
    curved = (255 * (scene / 255) ** gamma).astype(np.uint8)
    assert np.array_equal(made, vivid(curved, saturation=saturation, contrast=contrast))


def test_an_artist_of_a_data_folder_draws_its_looks_its_styles_and_its_photos(data: Path, tokenizer_folder: Path) -> None:
    work = data / "work"
    work.mkdir()
    (work / "tokenizer").symlink_to(tokenizer_folder)
    maker = pickle.loads(pickle.dumps(ArtistMaker(data=data, work=work, side=64)))
    artist = maker()
    assert [concept.key for concept in artist.concepts] == [f"look/{look.name}" for look in DRAWN] + [
        f"painting/toy {i}" for i in range(70)
    ]
    assert np.array_equal(artist.photos, decoded_photos(data, work)) and artist.writer.extra
    pairs = artist.drawn(2, np.random.default_rng(1))
    assert pairs.contents.shape == (2, 64, 64, 3)
    assert isinstance(artist.book, RecipeBook)
    in_turn = ArtistMaker(data=data, work=work, side=64, in_turn=True)().book
    assert isinstance(in_turn, EachInTurn) and in_turn.share == OTHERS and in_turn.others is not None
