"""The precision in which networks are trained: what the CPU has instructions for."""

import pytest
import torch
from embedded.precision import quick_dtype, quickly

CPU = torch.device("cpu")


@pytest.mark.parametrize("capable", [False, True])
def test_products_on_a_cpu_are_in_bfloat16_only_where_it_need_not_be_imitated(monkeypatch: pytest.MonkeyPatch, capable: bool) -> None:
    monkeypatch.setattr("embedded.precision.cpu_has_bfloat16", lambda: capable)
    wanted = torch.bfloat16 if capable else torch.float32
    assert quick_dtype(CPU) == wanted
    one = torch.ones(2, 2)
    with quickly(CPU):
        assert (one @ one).dtype == wanted
    assert (one @ one).dtype == torch.float32
    assert quick_dtype(torch.device("cuda")) == torch.bfloat16
