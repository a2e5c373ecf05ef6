"""The package offers its public names, each loaded on first use."""

import pytest

import gtpick_rt


@pytest.mark.parametrize("name", gtpick_rt.__all__)
def test_a_public_name_can_be_used(name: str) -> None:
    assert getattr(gtpick_rt, name)


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pickers'"):
        gtpick_rt.Pickers  # noqa: B018
