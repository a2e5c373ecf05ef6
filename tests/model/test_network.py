"""The network: shapes, groups that do not see each other, and attention that keeps content and
position apart.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import floor, log, sqrt

import pytest
import torch
from torch import Tensor, nn

from gtpick_model.attention import (
    ConditionalCrossAttention,
    PlainCrossAttention,
    attend,
    sine_encoding,
    token_centres,
)
from gtpick_model.config import VARIANTS, ModelConfig
from gtpick_model.criterion import total_loss
from gtpick_model.heads import DetectionHead
from gtpick_model.network import GTPick, Inference, Outputs
from gtpick_model.simulator.field import Conditions

OPTIONS = ({}, {"query_source": "learned"}, {"cross_attention": "plain"}, {"classification": "cross_entropy"})
"""The default and the rows of the ablation table."""

GroupTable = Callable[[GTPick], Tensor]
GROUP_TABLES: dict[str, GroupTable] = {
    "proposals": lambda network: network.queries.group,
    "learned": lambda network: network.queries.content,
}


@pytest.fixture(params=OPTIONS, ids=lambda option: next(iter(option.values()), "default"))
def network(request: pytest.FixtureRequest, config: ModelConfig) -> GTPick:
    """An untrained network whose batch normalisation is settled and whose heads
    already move boxes.
    """
    return settled(GTPick(replace(config, **request.param)))


def settled(network: GTPick) -> GTPick:
    for module in network.modules():
        if isinstance(module, DetectionHead):
            nn.init.normal_(module.locate[-1].weight, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 1, 64, 64))
    return network.eval()


def train_with_fixed_statistics(network: GTPick) -> GTPick:
    """All groups, but batch normalisation as at inference."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


def run(network: GTPick, tiles: Tensor) -> Outputs:
    torch.manual_seed(7)  # the noise that chooses the queries of groups 1 and up
    with torch.no_grad():
        return network(tiles)


@pytest.mark.parametrize("tile_px", [64, 96])
def test_training_answers_with_all_groups_and_evaluation_with_one(network: GTPick, tile_px: int) -> None:
    config = network.config
    one_group = config.queries if config.query_source == "learned" else config.queries_for(tile_px)
    tiles = torch.randn(2, 1, tile_px, tile_px)
    for groups, outputs in ((config.groups, run(network.train(), tiles)), (1, run(network.eval(), tiles))):
        assert len(outputs.layers) == config.decoder_layers
        for layer in outputs.layers:
            assert layer.logits.shape == (2, groups * one_group)
            assert layer.boxes.shape == (2, groups * one_group, 3)
        if config.query_source == "learned":
            assert outputs.proposals is None
        else:
            assert outputs.proposals is not None
            assert outputs.proposals.logits.shape == (2, (tile_px // 8) ** 2)


def test_what_group_1_starts_from_changes_group_1_alone(network: GTPick) -> None:
    tiles = torch.randn(2, 1, 64, 64)
    before = run(train_with_fixed_statistics(network), tiles)
    with torch.no_grad():
        GROUP_TABLES[network.config.query_source](network)[1].normal_()
    after = run(network, tiles)
    for old, new in zip(before.layers, after.layers, strict=True):
        changed = [
            not torch.allclose(a, b, atol=1e-5)
            for a, b in zip(old.logits.chunk(3, dim=1), new.logits.chunk(3, dim=1), strict=True)
        ]
        assert changed == [False, True, False]


def test_evaluation_gives_what_group_0_gives_in_training(network: GTPick) -> None:
    tiles = torch.randn(2, 1, 64, 64)
    alone = run(network.eval(), tiles).layers[-1]
    among = run(train_with_fixed_statistics(network), tiles).layers[-1]
    k = alone.logits.shape[1]
    torch.testing.assert_close(alone.logits, among.logits[:, :k], atol=1e-5, rtol=0)
    torch.testing.assert_close(alone.boxes, among.boxes[:, :k], atol=1e-3, rtol=0)


def test_groups_start_from_different_proposals(config: ModelConfig) -> None:
    boxes = run(train_with_fixed_statistics(GTPick(config)), torch.randn(1, 1, 64, 64)).layers[0].boxes
    first, second, third = (group[0].tolist() for group in boxes.chunk(3, dim=1))
    assert sorted(first) != sorted(second) != sorted(third)


def test_the_tiles_of_a_batch_do_not_influence_each_other(network: GTPick) -> None:
    tiles = torch.randn(3, 1, 64, 64)
    together = run(network, tiles).layers[-1]
    for i in range(3):
        alone = run(network, tiles[i : i + 1]).layers[-1]
        torch.testing.assert_close(alone.logits[0], together.logits[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.boxes[0], together.boxes[i], atol=1e-3, rtol=0)


def test_group_0_starts_from_the_best_proposals(config: ModelConfig) -> None:
    network = settled(GTPick(config))
    memory = network.backbone(torch.randn(2, 1, 64, 64))
    _, reference, proposals = network.queries(memory, 1)
    for b in range(2):
        best = proposals.logits[b].argsort(descending=True)[: config.queries]
        torch.testing.assert_close(reference[b], proposals.boxes[b, best])


def test_an_untrained_network_believes_that_hardly_anything_is_a_particle(config: ModelConfig) -> None:
    outputs = run(GTPick(config).eval(), torch.randn(4, 1, 64, 64))
    assert outputs.proposals is not None
    for found in (*outputs.layers, outputs.proposals):
        assert float(found.logits.mean()) == pytest.approx(log(0.01 / 0.99), abs=1.5)


def test_untrained_boxes_are_their_reference(config: ModelConfig) -> None:
    outputs = run(GTPick(config).eval(), torch.randn(1, 1, 64, 64))
    assert outputs.proposals is not None
    assert outputs.proposals.boxes[0, 0].tolist() == [3.5, 3.5, 24]
    assert outputs.proposals.boxes[0, 1].tolist() == [11.5, 3.5, 24]
    assert outputs.proposals.boxes[0, 8].tolist() == [3.5, 11.5, 24]


def test_proposals_move_with_the_image(config: ModelConfig) -> None:
    """Without the encoder's absolute positions nothing but convolutions stands before the
    proposals.
    """
    network = settled(GTPick(replace(config, encoder_layers=0, blocks=(0, 0, 0))))
    here = torch.zeros(1, 1, 256, 256)
    here[..., 112:144, 104:136] = torch.randn(32, 32)
    there = here.roll((32, 16), dims=(2, 3))
    with torch.no_grad():
        (logits, boxes), (moved_logits, moved_boxes) = (
            (x.view(32, 32, -1) for x in network.queries(network.backbone(tiles), 1)[2]) for tiles in (here, there)
        )
    inner = slice(8, 20)
    torch.testing.assert_close(moved_logits[12:24, 10:22], logits[inner, inner], atol=1e-5, rtol=0)
    expected = boxes[inner, inner] + torch.tensor([16.0, 32.0, 0.0])
    torch.testing.assert_close(moved_boxes[12:24, 10:22], expected, atol=1e-3, rtol=0)
    assert logits[inner, inner].std() > 1e-3


def test_learned_references_cover_a_tile_of_any_size(config: ModelConfig) -> None:
    queries = GTPick(replace(config, query_source="learned")).queries
    small, large = (queries(torch.zeros(2, (px // 8) ** 2, config.dim), 1)[1] for px in (64, 128))
    torch.testing.assert_close(large[..., :2], 2 * small[..., :2])
    torch.testing.assert_close(large[..., 2], small[..., 2])
    assert small[..., :2].min() >= 0
    assert small[..., :2].max() <= 64


def test_a_head_moves_centres_by_diameters_and_bounds_the_size() -> None:
    head = DetectionHead(4)
    with torch.no_grad():
        head.locate[-1].bias.copy_(torch.tensor([0.5, -0.25, 50.0]))
    box = head(torch.zeros(1, 1, 4), torch.tensor([[[10.0, 20.0, 8.0]]])).boxes[0, 0]
    torch.testing.assert_close(box, torch.tensor([14.0, 18.0, 8 * 2.718281828**1.5]))


def test_every_weight_learns(network: GTPick) -> None:
    outputs = network.train()(torch.randn(2, 1, 64, 64))
    targets = [torch.tensor([[20.0, 30.0, 18.0], [50.0, 10.0, 24.0]]), torch.zeros(0, 3)]
    total_loss(outputs, targets, network.config).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_inference_gives_probabilities_and_boxes(network: GTPick) -> None:
    tiles = torch.randn(2, 1, 64, 64)
    scores, boxes = Inference(network.train())(tiles)
    answer = run(network.eval(), tiles).layers[-1]
    torch.testing.assert_close(scores, answer.logits.sigmoid())
    torch.testing.assert_close(boxes, answer.boxes)
    assert scores.shape == (2, 16)


def test_layers_in_half_precision_lead_to_boxes_in_float32(network: GTPick) -> None:
    tiles = torch.randn(2, 1, 64, 64)
    half = copy.deepcopy(network).half()
    for module in half.modules():
        if isinstance(module, DetectionHead):
            module.float()
    wanted, found = run(network, tiles), run(half, tiles)
    assert found.layers[-1].logits.dtype == found.layers[-1].boxes.dtype == torch.float32
    # Rounding may choose other proposals for queries; the proposals themselves stay in order.
    before, after = wanted.proposals or wanted.layers[-1], found.proposals or found.layers[-1]
    torch.testing.assert_close(after.logits, before.logits, atol=0.05, rtol=0)
    torch.testing.assert_close(after.boxes, before.boxes, atol=0.2, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_variants_can_be_built(name: str) -> None:
    config = VARIANTS[name]
    assert config.dim % config.heads == 0
    assert config.queries_for(config.tile_px) == config.queries
    GTPick(config)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_tile_has_more_queries_than_room_for_the_smallest_particles(name: str) -> None:
    """Touching discs are packed densest on a hexagonal lattice; those count whose centre is on the
    tile.
    """
    config, diameter = VARIANTS[name], Conditions().extent_px[0]
    rows = floor(config.tile_px / (diameter * sqrt(3) / 2)) + 1
    even, odd = (floor((config.tile_px - shift) / diameter) + 1 for shift in (0, diameter / 2))
    assert config.queries > (rows + 1) // 2 * even + rows // 2 * odd


def attention_inputs(dim: int) -> Iterator[Tensor]:
    return (torch.randn(2, n, dim) for n in (3, 3, 5, 5))


def test_conditional_attention_adds_a_content_and_a_position_product() -> None:
    dim, heads = 8, 2
    attention = ConditionalCrossAttention(dim, heads)
    x, position, memory, memory_position = attention_inputs(dim)
    memory_position = memory_position[:1]
    with torch.no_grad():
        got = attention(x, position, memory, memory_position)
        content = products(attention.query_content(x), attention.key_content(memory), heads)
        query_position = attention.query_position(attention.scale(x) * position)
        place = products(query_position, attention.key_position(memory_position).expand(2, -1, -1), heads)
        weight = ((content + place) / (2 * dim / heads) ** 0.5).softmax(-1)
        value = attention.value(memory).unflatten(-1, (heads, -1))
        expected = attention.out(torch.einsum("bhqn,bnhd->bqhd", weight, value).flatten(2))
    torch.testing.assert_close(got, expected)


def products(query: Tensor, key: Tensor, heads: int) -> Tensor:
    return torch.einsum("bqhd,bnhd->bhqn", query.unflatten(-1, (heads, -1)), key.unflatten(-1, (heads, -1)))


def test_plain_attention_adds_position_to_content() -> None:
    attention = PlainCrossAttention(8, 2)
    x, position, memory, memory_position = attention_inputs(8)
    with torch.no_grad():
        got = attention(x, position, memory, memory_position)
        swapped = attention(position, x, memory_position, memory)
        query, key = attention.query(x + position), attention.key(memory + memory_position)
        expected = attention.out(attend(query, key, attention.value(memory), 2))
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(got, swapped)


def test_attention_is_torchs_own() -> None:
    query, key, value = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 4)
    heads = [x.unflatten(-1, (2, -1)).transpose(1, 2) for x in (query, key, value)]
    expected = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attend(query, key, value, 2), expected)


def test_cell_centres_are_in_row_major_order_and_pixels() -> None:
    centres = token_centres(2, 3, 8, torch.zeros(1))
    expected = [[3.5, 3.5], [11.5, 3.5], [19.5, 3.5], [3.5, 11.5], [11.5, 11.5], [19.5, 11.5]]
    assert centres.tolist() == [expected]


def test_the_sine_code_tells_every_cell_of_a_tile_from_every_other_in_both_axes() -> None:
    code = sine_encoding(token_centres(32, 32, 8, torch.zeros(1)), 96)[0]
    assert code.shape == (1024, 96)
    distance = torch.cdist(code, code) + 10 * torch.eye(1024)
    assert distance.min() > 0.5
