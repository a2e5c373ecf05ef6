"""The network with which others start: its wider stem, and the share of it that is to stay."""

import torch

from benchmarks.accuracy.network_sizes import NARROWER
from benchmarks.accuracy.start_share import chosen
from benchmarks.accuracy.starting_network import widened
from gtpick_model.config import NANO
from gtpick_model.network import GTPick


def test_a_wider_stem_leaves_the_answers() -> None:
    torch.manual_seed(0)
    network = GTPick(NARROWER)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    tiles = torch.randn(1, 1, 64, 64)
    wide = widened(network.eval(), NANO.stem)
    assert wide.config.stem == NANO.stem
    with torch.no_grad():
        before, after = network(tiles).layers[-1], wide(tiles).layers[-1]
    torch.testing.assert_close(after.logits, before.logits)
    torch.testing.assert_close(after.boxes, before.boxes)


def test_what_is_new_learns() -> None:
    torch.manual_seed(0)
    wide = widened(GTPick(NARROWER), NANO.stem)
    wide.train()(torch.randn(1, 1, 64, 64)).layers[-1].logits.sum().backward()
    first_of_next = wide.backbone.to_8[0][0].weight.grad
    assert first_of_next is not None
    assert first_of_next[:, NARROWER.stem[1] :].abs().sum() > 0


def test_a_share_is_chosen_by_other_specimens_alone() -> None:
    low, high = {0.0: 0.5, 1.0: 0.4}, {0.0: 0.4, 1.0: 0.5}

    def scored(on: str, better: dict[str, dict[float, float]]) -> dict[float, dict[str, float]]:
        return {share: {on: 0.9} | {of: each[share] for of, each in better.items()} for share in (0.0, 1.0)}

    scores = {
        "a": scored("a", {"b": high, "c": high}),
        "b": scored("b", {"a": high, "c": low}),
        "c": scored("c", {"a": high, "b": low}),
    }
    assert chosen(scores, "a") == 0.0  # of b on c and c on b alone
    assert chosen(scores, "b") == chosen(scores, "c") == 1.0
