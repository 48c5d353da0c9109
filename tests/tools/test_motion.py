"""Small motions of pictures, what steadiness means, and the moving average of weights, against closed forms."""

import math

import cv2
import numpy as np
import pytest
import torch
from embedded.averaging import AVERAGE_DECAY, update_average
from embedded.motion import SHIFT, TURN, ZOOM, moved, places_of, small_motions, unsteadiness

SIDE = 32


def pictures(count: int = 2, *, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def shift(across: float, down: float, *, count: int = 2) -> torch.Tensor:
    """The motion that reads each pixel `across` pixels to the right and `down` below."""
    motion = torch.tensor([[1.0, 0.0, 2 * across / SIDE], [0.0, 1.0, 2 * down / SIDE]])
    return motion.expand(count, 2, 3)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_no_motion_gives_the_picture_back(mode: str) -> None:
    torch.testing.assert_close(moved(pictures(), places_of(shift(0, 0), SIDE), mode=mode), pictures(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_shift_by_whole_pixels_is_slicing_and_mirrors_the_border(mode: str) -> None:
    before = pictures()
    made = moved(before, places_of(shift(3, -2), SIDE), mode=mode)
    torch.testing.assert_close(made[:, :, 2:, : SIDE - 3], before[:, :, : SIDE - 2, 3:], atol=2e-5, rtol=0)
    if mode == "bilinear":  # bicubic reaches over the border
        torch.testing.assert_close(made[:, :, 2:, SIDE - 3 :], before[:, :, : SIDE - 2, SIDE - 3 :].flip(3), atol=2e-5, rtol=0)
        torch.testing.assert_close(made[:, :, :2, : SIDE - 3], before[:, :, :2, 3:].flip(2), atol=2e-5, rtol=0)


def test_places_are_the_affine_map_of_pixel_centres() -> None:
    motions = small_motions(3, generator=torch.Generator().manual_seed(1))
    centres = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    known = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    torch.testing.assert_close(places_of(motions, SIDE), torch.einsum("bij,hwj->bhwi", motions, known), atol=1e-5, rtol=0)


def test_a_turn_and_a_zoom_are_those_of_opencv() -> None:
    picture = cv2.GaussianBlur(pictures(1)[0].permute(1, 2, 0).numpy(), (0, 0), 2.0)
    angle, size = 0.1, 1.08
    cosine, sine = size * math.cos(angle), size * math.sin(angle)
    motion = torch.tensor([[[cosine, -sine, 0.0], [sine, cosine, 0.0]]])
    made = moved(torch.from_numpy(picture).permute(2, 0, 1)[None], places_of(motion, SIDE))[0].permute(1, 2, 0).numpy()
    middle = SIDE / 2 - 0.5
    offset = np.array([middle, middle]) - np.array([[cosine, -sine], [sine, cosine]]) @ [middle, middle]
    matrix = np.array([[cosine, -sine, offset[0]], [sine, cosine, offset[1]]])
    wanted = cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    np.testing.assert_allclose(made[6:-6, 6:-6], wanted[6:-6, 6:-6], atol=0.02)  # opencv knows 1/32 of a pixel


def test_small_motions_are_turned_zoomed_and_shifted_as_far_as_they_say() -> None:
    motions = small_motions(4000, generator=torch.Generator().manual_seed(2)).double()
    turns, zooms = torch.atan2(motions[:, 1, 0], motions[:, 0, 0]), motions[:, :, :2].det().sqrt().log()
    assert float(turns.std()) == pytest.approx(TURN, rel=0.08) and abs(float(turns.mean())) < 0.1 * TURN
    assert float(zooms.std()) == pytest.approx(ZOOM, rel=0.08) and abs(float(zooms.mean())) < 0.1 * ZOOM
    pixels = motions[:, :, 2] * 256 / 2
    assert pixels.std(dim=0).tolist() == pytest.approx([256 * SHIFT] * 2, rel=0.08)
    torch.testing.assert_close(motions[:, 0, 0], motions[:, 1, 1])
    torch.testing.assert_close(motions[:, 0, 1], -motions[:, 1, 0])
    again = small_motions(4000, generator=torch.Generator().manual_seed(2))
    assert torch.equal(again.double(), motions)


def test_a_picture_and_its_moved_self_are_steady() -> None:
    places = places_of(small_motions(2, generator=torch.Generator().manual_seed(4)), SIDE)
    assert float(unsteadiness(pictures(), moved(pictures(), places), places)) == 0
    whole = places_of(shift(4, 1), SIDE)
    later = pictures().roll((-1, -4), dims=(2, 3))  # wraps around where the moved picture would mirror: nobody can know that part
    assert float(unsteadiness(pictures(), later, whole)) == pytest.approx(0, abs=1e-5)


def test_unsteadiness_is_the_mean_difference_where_both_show_the_same_place() -> None:
    before, places = pictures(), places_of(shift(4, 0), SIDE)
    later = pictures().roll(-4, dims=3) + torch.tensor([0.25, -0.75])[:, None, None, None]
    later[..., SIDE - 4 :] = 99  # the part that came in from outside
    assert float(unsteadiness(before, later, places)) == pytest.approx(0.5, abs=1e-5)
    still = places_of(shift(0, 0), SIDE)
    assert float(unsteadiness(before, later, still)) == pytest.approx(float((before - later).abs().mean()), rel=1e-5)


def test_nothing_in_common_is_no_unsteadiness() -> None:
    assert float(unsteadiness(pictures(), -pictures(), places_of(shift(3 * SIDE, 0), SIDE))) == 0


def test_an_average_of_weights_is_a_weighted_sum_of_all_of_them() -> None:
    network, average = torch.nn.Linear(3, 2).double(), torch.nn.Linear(3, 2).double()
    begun = average.weight.detach().clone()
    seen, decays = [], []
    for step in range(6):
        with torch.no_grad():
            network.weight.normal_(generator=torch.Generator().manual_seed(step))
        update_average(average, network, step=step)
        seen.append(network.weight.detach().clone())
        decays.append((1 + step) / (10 + step))
    shares = [(1 - decay) * math.prod(decays[place + 1 :]) for place, decay in enumerate(decays)]
    wanted = math.prod(decays) * begun + sum(share * weight for share, weight in zip(shares, seen, strict=True))
    torch.testing.assert_close(average.weight.detach(), wanted)


def test_an_average_grows_slow_in_the_end_and_leaves_equal_weights_alone() -> None:
    network, average = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(1.0)
        average.weight.fill_(0.0)
    update_average(average, network, step=10**6)
    assert average.weight.item() == pytest.approx(1 - AVERAGE_DECAY, rel=1e-3)
    with torch.no_grad():
        average.weight.fill_(0.0)
    update_average(average, network, step=10**6, decay=0.75)
    assert average.weight.item() == pytest.approx(0.25)
    average.load_state_dict(network.state_dict())
    update_average(average, network, step=3)
    assert torch.equal(average.weight, network.weight) and torch.equal(average.bias, network.bias)
