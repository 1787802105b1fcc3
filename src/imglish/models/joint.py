"""One encoder with any set of heads: a picture is encoded once, whatever is asked about it.

The paper fine-tunes one encoder for each task. Here several tasks fine-tune one encoder together, and each
has a head of its own: what was asked for of one backbone that serves answers, captions, classes, boxes and
masks.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.vit_adapter.model import ViTAdapter

_ENCODER = "encoder"


class JointModel(nn.Module):
    """Models of several tasks that stand on one encoder; those that read maps, on one adapter too.

    Args:
        encoder: The one.
        parts: Models by the names of their tasks, each built with an encoder of its own, which is thrown away
            for the common one.

    Raises:
        ValueError: A part has no BEiT-3 encoder, or encoders or adapters differ in their settings.
    """

    def __init__(self, encoder: Beit3Encoder, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        adapters = {name: part.backbone for name, part in parts.items() if hasattr(part, "backbone")}
        self.adapter: ViTAdapter | None = None
        for name, adapter in adapters.items():
            if not isinstance(adapter, ViTAdapter):
                raise ValueError(f"{name}: stands on a {type(adapter).__name__}; expected an adapter")
            if self.adapter is not None and self.adapter.config != adapter.config:
                raise ValueError(f"{' and '.join(adapters)} have different adapters; give both the same")
            self.adapter = self.adapter or adapter
            _lend(parts[name], "backbone", self.adapter)
        for name, part in [*parts.items(), ("adapter", self.adapter)]:
            if part is not None and name not in adapters:
                _lend_encoder(part, encoder, name)
        self.parts = nn.ModuleDict(parts)

    def forward(self, part: str, *inputs: Any, **options: Any) -> Any:
        """What one of the parts makes of its inputs; arguments are those of the part."""
        return self.parts[part](*inputs, **options)


def lent_to(module: nn.Module) -> dict[str, nn.Module]:
    """Modules that a module uses without their being parts of it, by the names of its attributes."""
    return {name: value for name, value in vars(module).items() if isinstance(value, nn.Module)}


def whole(part: nn.Module) -> nn.Module:
    """A copy of a part of a `JointModel` in which encoder and adapter are its own, as in a model of one task.

    Args:
        part: One of ``JointModel.parts``; it stays as it is.
    """
    copied = copy.deepcopy(part)
    _own(copied)
    return copied


def _own(module: nn.Module) -> None:
    """Make modules of what is lent to a module and to those within it."""
    for name, other in lent_to(module).items():
        delattr(module, name)
        module.add_module(name, other)
    for child in module.children():
        _own(child)


def _lend_encoder(part: nn.Module, encoder: Beit3Encoder, name: str) -> None:
    """Have a part use an encoder in place of its own, which must be alike but for the output norm."""
    holders = [
        holder for holder in part.modules() if isinstance(getattr(holder, _ENCODER, None), Beit3Encoder)
    ]
    if not holders:
        raise ValueError(f"{name}: a {type(part).__name__} has no BEiT-3 encoder")
    for holder in holders:
        own = holder.get_submodule(_ENCODER)
        assert isinstance(own, Beit3Encoder)
        if replace(own.config, output_norm=encoder.config.output_norm) != encoder.config:
            raise ValueError(f"{name}: its encoder has other settings than the common one")
        _lend(holder, _ENCODER, encoder)


def _lend(holder: nn.Module, name: str, module: nn.Module) -> None:
    """Put in place of a module one of somebody else: an attribute, neither among parts nor weights."""
    delattr(holder, name)
    object.__setattr__(holder, name, module)
