"""Weights on disk: safetensors with the configuration beside them in the header; nothing is ever
unpickled. And the mean of several.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from gtpick_model.config import ModelConfig
from gtpick_model.network import GTPick
from gtpick_rt.errors import ModelError
from gtpick_rt.files.atomic import write_atomic


def save_weights(path: Path, network: GTPick, provenance: dict[str, str]) -> None:
    """Write a network's weights in half precision, with its configuration and how it
    was trained.
    """
    state = {name: t.half() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    header = {"config": json.dumps(dataclasses.asdict(network.config)), "provenance": json.dumps(provenance)}
    write_atomic(path, save({name: t.contiguous() for name, t in state.items()}, metadata=header))


def load_weights(path: Path) -> tuple[GTPick, dict[str, str]]:
    """Read what `save_weights` wrote: the network in evaluation mode and its provenance.

    Raises:
        ModelError: the file holds no gtpick-rt network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    if "config" not in header:
        raise ModelError(f"{path} holds no gtpick-rt network: its header has no configuration")
    try:
        fields: dict[str, Any] = json.loads(header["config"])
        network = GTPick(ModelConfig(**{name: _tuple(value) for name, value in fields.items()}))
        state = {name: t.float() if t.is_floating_point() else t for name, t in load_file(path).items()}
        network.load_state_dict(state)
        return network.eval(), json.loads(header["provenance"])
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} holds a network of another gtpick-rt version: {error}") from error


def mean_of(networks: Sequence[GTPick], shares: Sequence[float]) -> GTPick:
    """The network, in evaluation mode, whose weights are the mean of theirs, each with its share of
    1; counters are the first one's.

    Source:
        Wortsman et al. 2022, arXiv:2203.05482 and arXiv:2109.01903.
    """
    mean = GTPick(networks[0].config).to(next(networks[0].parameters()).device)
    states = [network.state_dict() for network in networks]
    state = dict(states[0])
    for name in (name for name, value in state.items() if value.is_floating_point()):
        state[name] = sum((share * each[name] for share, each in zip(shares, states, strict=True)), 0 * state[name])
    mean.load_state_dict(state)
    return mean.eval()


def _tuple(value: Any) -> Any:
    """JSON knows no tuples."""
    return tuple(value) if isinstance(value, list) else value
