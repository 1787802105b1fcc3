"""A training step counted operation by operation on the meta device, whose tensors have no numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from imglish.models.beit3.heads import Beit3ForMaskedDataModeling, Beit3ForRetrieval
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vqkd.model import Vqkd
from imglish.recipes.plan_work import Stream


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedFlops:
    """FLOPs of a step of the trained model as `torch.utils.flop_counter` counts them."""

    forward: int
    backward: int


def count_step(model: nn.Module, streams: list[Stream], image_size: tuple[int, int]) -> CountedFlops:
    """Count forward and backward pass of a model.

    Which places are hidden is a matter of numbers, which the meta device has not; so many of the first places
    are taken instead.

    Args:
        model: On the meta device, one of those that can be planned.
        streams: The batch.
        image_size: (height, width) of the pictures.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        match model:
            case Beit3ForMaskedDataModeling():
                outputs = [out for stream in streams for out in _masked_data(model, stream, image_size)]
            case Beit3ForRetrieval():
                outputs = _contrastive(model, streams[0], image_size)
            case ViTForMaskedImageModeling():
                outputs = _masked_images(model, streams[0], image_size)
            case Vqkd():
                outputs = [model.decode(_codes(model, _pictures(streams[0], image_size)))]
            case _:
                raise TypeError(f"{type(model).__name__} is no model that can be planned")
        forward = int(counter.get_total_flops())
        torch.stack([out.sum() for out in outputs]).sum().backward()
        return CountedFlops(forward=forward, backward=int(counter.get_total_flops()) - forward)


def count_tokenizing(tokenizer: Vqkd, images: Tensor) -> int:
    """FLOPs of tokenizing pictures (B, 3, H, W), on the meta device as the tokenizer is."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _codes(tokenizer, images)
        return int(counter.get_total_flops())


def _codes(model: Vqkd, images: Tensor) -> Tensor:
    """As `Vqkd.encode` without autocast, which the meta device has not: features, held against all codes."""
    features: Tensor = model.to_code(model.encoder(images))
    _ = features.detach() @ model.quantizer.codebook.T
    return features


def _pictures(stream: Stream, size: tuple[int, int]) -> Tensor:
    return torch.empty(stream.samples, 3, *size)


def _words(stream: Stream) -> tuple[Tensor, Tensor]:
    shape = (stream.samples, stream.words)
    return torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)


def _hidden(tokens: Tensor, stream: Stream, places: float) -> Tensor:
    """As many tokens (M, C) as are hidden in all samples."""
    return tokens.flatten(0, 1)[: round(stream.samples * places)]


def _masked_data(model: Beit3ForMaskedDataModeling, stream: Stream, size: tuple[int, int]) -> list[Tensor]:
    images = _pictures(stream, size) if stream.patches else None
    ids, padding = _words(stream) if stream.words else (None, None)
    corruption = torch.zeros(stream.samples, stream.patches - 1, dtype=torch.bool) if stream.patches else None
    encoded = model.encoder(images, ids, padding=padding, corruption=corruption)
    return [
        model.image_head(_hidden(encoded.vision[:, 1:], stream, stream.hidden_patches)),
        model.text_head(_hidden(encoded.text, stream, stream.hidden_words)),
    ]


def _contrastive(model: Beit3ForRetrieval, stream: Stream, size: tuple[int, int]) -> list[Tensor]:
    vision, text, scale = model(_pictures(stream, size), *_words(stream))
    return [scale * vision @ text.T, scale * text @ vision.T]


def _masked_images(model: ViTForMaskedImageModeling, stream: Stream, size: tuple[int, int]) -> list[Tensor]:
    corruption = torch.zeros(stream.samples, stream.patches - 1, dtype=torch.bool)
    features = model.features(_pictures(stream, size), corruption)
    hidden = [None if each is None else _hidden(each, stream, stream.hidden_patches) for each in features]
    assert hidden[0] is not None
    return [logits for logits in model.predict(hidden[0], hidden[1]) if logits is not None]
