"""That every parameter has its addresses, that foreign ones are understood, and what patterns reach."""

from __future__ import annotations

import pytest

from bridge.osc.addresses import ALIASES, VALUE_WORDS, Addresses, Means, Target, addresses_of
from engine.control.table import BY_NAME, TABLE

ADDRESSES = Addresses()


def test_every_parameter_at_name_group_and_prefix_and_under_its_former_names() -> None:
    for row in TABLE:
        for name in (row.name, *row.formerly):
            for address in (f"/{name}", f"/{row.group}/{name}", f"/phosphene/{name}", f"/phosphene/{row.group}/{name}"):
                assert ADDRESSES.exact(address) == Target(Means.VALUE, row.name), address


def test_readouts_are_sent_under_status() -> None:
    assert addresses_of(BY_NAME["fps"])[0] == "/status/fps"
    assert addresses_of(BY_NAME["strength"])[0] == "/strength"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/t_list", "step_list"), ("/sdmode", "mode"), ("/denoise", "strength"), ("/num_inference_steps", "steps"),
        ("/delta", "delta"), ("/guidance_scale", "guidance_scale"), ("/seed", "seed"), ("/prompt", "prompt"),
        ("/negative_prompt", "negative_prompt"), ("/max_fps", "output_fps"), ("/latent_feedback_strength", "feedback"),
        ("/prompt_interpolation_method", "prompt_blend"),
    ],
)  # fmt: skip
def test_addresses_of_existing_patches(address: str, name: str) -> None:
    assert ADDRESSES.exact(address) == Target(Means.VALUE, name)


def test_the_foreign_lists_name_real_parameters_and_values() -> None:
    for target in ALIASES.values():
        if target.means is Means.FIXED:
            assert BY_NAME[target.name].coerce(target.value) == target.value
        elif target.name:
            assert not BY_NAME[target.name].read_only
    for name, words in VALUE_WORDS.items():
        assert set(words.values()) <= set(BY_NAME[name].choices)
        assert not set(words) & set(BY_NAME[name].choices)


def test_a_pattern_means_each_parameter_once() -> None:
    names = [target.name for _, target in ADDRESSES.matching("/*")]
    assert len(names) == len(set(names)) == len(TABLE)
    group = [target.name for _, target in ADDRESSES.matching("/guidance/*")]
    assert sorted(group) == sorted(row.name for row in TABLE if row.group == "guidance")


def test_a_pattern_reaches_normalised_addresses_only_when_it_says_so() -> None:
    assert {target.means for _, target in ADDRESSES.matching("/*/strength")} == {Means.VALUE}
    assert [target for _, target in ADDRESSES.matching("/norm/str*")] == [
        Target(Means.NORMALISED, "strength"), Target(Means.NORMALISED, "stream_batch"),
    ]  # fmt: skip
    assert ADDRESSES.matching("/{subscribe,play,pause,get_status}") == ()


def test_the_nearest_address() -> None:
    assert ADDRESSES.nearest("/strenght") == "/strength"
    assert ADDRESSES.nearest("/q") is None
