"""Image-text retrieval with the dual encoder (BEiT-3, section 3.1); also trains the contrastive teacher."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from imglish.losses.contrastive import contrastive_loss
from imglish.metrics.retrieval import RetrievalRecall
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.structures.batches import ImageTextBatch
from imglish.tasks.base import StepOutput, Task


class RetrievalTask(Task):
    """Bring matching pictures and texts together, others apart.

    Args:
        model: Dual encoder.
        metrics: Recall at 1, 5 and 10, both ways.
        chunk_size: Pairs encoded at once where a batch does not fit the memory; 0 encodes it whole. The loss
            is that of the whole batch either way (gradient caching, arXiv 2101.06983); every pair is encoded
            twice then. Not for models with batch norm, which would see the chunks.
    """

    metrics: RetrievalRecall

    def __init__(self, model: Beit3ForRetrieval, metrics: RetrievalRecall, *, chunk_size: int = 0) -> None:
        super().__init__()
        self.model, self.metrics, self.chunk_size = model, metrics, chunk_size

    def training_step(self, batch: ImageTextBatch) -> StepOutput:
        """Symmetric InfoNCE over the batches of all ranks."""
        if 0 < self.chunk_size < len(batch.images):
            return self._chunked_step(batch)
        vision, text, scale = self.model(batch.images, batch.token_ids, batch.padding)
        loss = contrastive_loss(vision, text, scale)
        return StepOutput(loss, _logs(loss, vision, text, scale))

    def _chunked_step(self, batch: ImageTextBatch) -> StepOutput:
        """The same with the memory of one chunk: features first, their gradients, then each chunk's own.

        All chunks but the last go backward here; the returned loss has the last one's gradient.
        """
        parts = (batch.images, batch.token_ids, batch.padding)
        chunks = list(zip(*(part.split(self.chunk_size) for part in parts), strict=True))
        device, draws, features = batch.images.device, [], []
        with torch.no_grad():
            for chunk in chunks:
                draws.append(_random_state(device))  # drop path must fall the same way both times
                features.append(self.model(*chunk))
        vision, text = (torch.cat([f[side] for f in features]).requires_grad_() for side in (0, 1))
        scale = features[0].scale.clone().requires_grad_()
        with torch.enable_grad():
            loss = contrastive_loss(vision, text, scale)
        to_vision, to_text, to_scale = torch.autograd.grad(loss, (vision, text, scale))
        pulls = zip(to_vision.split(self.chunk_size), to_text.split(self.chunk_size), strict=True)
        stand_in = loss.new_zeros(())
        for number, (chunk, state, pull) in enumerate(zip(chunks, draws, pulls, strict=True)):
            last = number == len(chunks) - 1
            # Gradients of all ranks are exchanged once, with the last chunk.
            with nullcontext() if last else getattr(self.model, "no_sync", nullcontext)():
                _restore_random_state(state, device)
                found = self.model(*chunk)
                stand_in = (found.vision * pull[0]).sum() + (found.text * pull[1]).sum()
                stand_in = stand_in + found.scale * (to_scale if last else 0.0)
                if not last:
                    stand_in.backward()
        return StepOutput(loss.detach() + stand_in - stand_in.detach(), _logs(loss, vision, text, scale))

    @torch.no_grad()
    def evaluation_step(self, batch: ImageTextBatch) -> None:
        """Collect features; the first picture of each id is kept, every text counts."""
        vision, text, _ = self.model(batch.images, batch.token_ids, batch.padding)
        self.metrics.update(vision, text, batch.image_ids)


def _logs(loss: Tensor, vision: Tensor, text: Tensor, scale: Tensor) -> dict[str, Tensor]:
    found = (vision.detach() @ text.detach().T).argmax(dim=1)
    accuracy = (found == torch.arange(len(found), device=found.device)).float().mean()
    return {"loss": loss.detach(), "accuracy": accuracy, "logit_scale": scale.detach()}


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _restore_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
