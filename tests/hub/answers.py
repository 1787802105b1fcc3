"""One answer of a loaded model, whatever it does."""

from __future__ import annotations

import torch
from torch import Tensor

from imglish.hub.run import LoadedRun
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.heads import (
    Beit3ForCaptioning,
    Beit3ForMaskedDataModeling,
    Beit3ForRetrieval,
    Beit3ForVqa,
)
from imglish.models.vit.model import ViT, ViTForClassification
from imglish.models.vit.pretraining import ViTForMaskedImageModeling
from imglish.models.vqkd.model import Vqkd

NUM_TOKENS = 4


@torch.no_grad()
def answer(run: LoadedRun) -> Tensor:
    """What the model says to a picture and a text of random numbers.

    (1, ...), or (4, V) for captions and (2, V) for a hidden patch on both ways.
    """
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, *run.config.image_size, generator=draw) * 2 - 1
    ids = torch.randint(4, 40, (1, NUM_TOKENS), generator=draw)
    padding = torch.zeros(1, NUM_TOKENS, dtype=torch.bool)
    out: Tensor
    match run.model:
        case Beit3ForVqa():
            out = run.model(images, ids, padding)
        case Beit3ForNlvr2():
            out = run.model(images, images.flip(-1), ids, padding)
        case Beit3ForRetrieval():
            out = run.model.encode_images(images) * run.model.encode_texts(ids, padding)
        case Beit3ForCaptioning():
            out = run.model(images, ids, padding, ~padding)
        case Beit3ForMaskedDataModeling():
            encoded = run.model.encoder(images, ids, padding=padding)
            out = torch.cat(
                [run.model.image_head(encoded.vision[:, 1]), run.model.text_head(encoded.text[:, 0])], 1
            )
        case Beit3ForImageClassification() | ViTForClassification() | ViT():
            out = run.model(images)
        case ViTForMaskedImageModeling():
            corruption = torch.arange(run.config.grid_size[0] * run.config.grid_size[1])[None] == 1
            ways = run.model(images, corruption)
            out = torch.cat([way for way in ways if way is not None])
        case Beit3Encoder():
            out = run.model(images).tokens
        case Vqkd():
            out = run.model(images).reconstruction
        case _:
            raise AssertionError(f"no way to ask a {type(run.model).__name__}")
    assert out.isfinite().all()
    return out
