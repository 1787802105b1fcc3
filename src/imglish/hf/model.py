"""BEiT-3 as a model of transformers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from imglish.decoding.beam_search import BeamSearchConfig, beam_search
from imglish.errors import CheckpointError, ConfigError
from imglish.hf.configuration import ImglishBeit3Config
from imglish.hub.pretrained import write_settings
from imglish.hub.run import head_config
from imglish.hub.transformers_config import TransformersConfig
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.heads import (
    Beit3ForCaptioning,
    Beit3ForMaskedDataModeling,
    Beit3ForRetrieval,
    Beit3ForVqa,
)
from imglish.text.tokenizer import BOS, EOS, PAD

_PREFIX = "body."


@dataclass
class ImglishBeit3Output(ModelOutput):
    """What a model says; what its kind does not say is None.

    Args:
        logits: Of answers (B, answers), classes (B, classes), false and true (B, 2), or the words of a
            captioner (B, T, V).
        logits_per_image: Cosines of pictures with texts times the model's factor, (pictures, texts).
        logits_per_text: The same, (texts, pictures).
        image_embeds: Unit vectors of pictures (B, C).
        text_embeds: Unit vectors of texts (B, C).
        last_hidden_state: Encoded tokens (B, N, C) of a model for masked data modelling, the picture's first.
    """

    logits: Tensor | None = None
    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    last_hidden_state: Tensor | None = None


class ImglishBeit3Model(PreTrainedModel):
    """A BEiT-3 with the head that its config says.

    Files have the names of imglish's own models, so that `load_model` reads what this saves.

    Args:
        config: Its config.
    """

    config_class = ImglishBeit3Config
    base_model_prefix = "body"
    main_input_name = "pixel_values"

    def __init__(self, config: ImglishBeit3Config) -> None:
        super().__init__(config)
        self.body = _build(config.facts())
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> ImglishBeit3Output | tuple[Tensor, ...]:
        """Ask the model.

        Args:
            pixel_values: Pictures (B, 3, H, W) in the range of the weights; of a judge of statements
                (B, 2, 3, H, W), left and right.
            input_ids: Texts int64 (B, T).
            attention_mask: (B, T), 1 where there is a word and 0 where padded, which is the opposite of the
                padding that imglish's own models take. None means that nothing is padded.
            return_dict: False gives a tuple of what is not None.

        Raises:
            ValueError: A picture or text that this kind needs is missing.
        """
        padding = None if attention_mask is None else attention_mask == 0
        output = self._ask(pixel_values, input_ids, padding)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()

    def _ask(
        self, pictures: Tensor | None, token_ids: Tensor | None, padding: Tensor | None
    ) -> ImglishBeit3Output:
        body = self.body
        match body:
            case Beit3ForRetrieval():
                return _match(body, pictures, token_ids, padding)
            case Beit3ForMaskedDataModeling():
                if token_ids is None:
                    padding = None
                encoded = body.encoder(pictures, token_ids, padding=padding)
                return ImglishBeit3Output(last_hidden_state=encoded.tokens)
        if pictures is None:
            raise ValueError(f"a {self.config.kind} model needs pixel_values")
        if isinstance(body, Beit3ForImageClassification):
            return ImglishBeit3Output(logits=body(pictures))
        if token_ids is None:
            raise ValueError(f"a {self.config.kind} model needs input_ids")
        if isinstance(body, Beit3ForNlvr2):
            left, right = pictures.unbind(dim=1)
            return ImglishBeit3Output(logits=body(left, right, token_ids, padding))
        if isinstance(body, Beit3ForCaptioning):
            padding = torch.zeros_like(token_ids, dtype=torch.bool) if padding is None else padding
            words = body(pictures, token_ids, padding, torch.ones_like(padding))
            return ImglishBeit3Output(logits=words.unflatten(0, token_ids.shape))
        return ImglishBeit3Output(logits=body(pictures, token_ids, padding))

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Tensor,
        *,
        num_beams: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
    ) -> Tensor:
        """Write captions of pictures (B, 3, H, W); what is not given is as in the model's own settings.

        Args:
            pixel_values: Pictures in the range of the weights.
            num_beams: Unfinished captions kept for each picture.
            max_length: As ``max_tokens`` of `BeamSearchConfig`.
            length_penalty: The same of there.

        Returns:
            int64 (B, T): ``<s>``, the words, ``</s>``, then padding.

        Raises:
            ConfigError: The model writes no captions.
        """
        body, settings = self.body, self.config.settings
        if not isinstance(body, Beit3ForCaptioning):
            raise ConfigError(f"a {self.config.kind} model writes no captions; load a captioning one")
        config = BeamSearchConfig(
            num_beams=settings["num_beams"] if num_beams is None else num_beams,
            max_tokens=settings["max_text_tokens"] if max_length is None else max_length,
            length_penalty=settings["length_penalty"] if length_penalty is None else length_penalty,
        )
        found = beam_search(
            lambda memory, words: body.step(memory, words, self.config.mask_id),
            body.start(pixel_values),
            batch_size=len(pixel_values),
            bos=BOS,
            eos=EOS,
            config=config,
            device=pixel_values.device,
        )
        rows = [
            torch.tensor([BOS, *hypothesis.words, EOS], device=pixel_values.device) for hypothesis in found
        ]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *arguments: Any, **options: Any) -> Any:
        """Load a model as `PreTrainedModel.from_pretrained` does, but refuse weights that do not fit.

        Raises:
            CheckpointError: A tensor is missing, left over or of another shape.
        """
        asked = options.pop("output_loading_info", False)
        load: Any = super().from_pretrained
        model, told = load(pretrained_model_name_or_path, *arguments, output_loading_info=True, **options)
        for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if told.get(what):
                names = ", ".join(map(str, sorted(told[what])[:3]))
                raise CheckpointError(
                    f"{pretrained_model_name_or_path}: weights of another model ({what.replace('_', ' ')}: "
                    f"{names}); get the model anew"
                )
        return (model, told) if asked else model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[Any, Any] | None = None,
        *arguments: Any,
        **options: Any,
    ) -> None:
        """Save the model as `PreTrainedModel.save_pretrained` does, so that `load_model` reads it, too.

        The text tokenizer is the processor's: save that into the same folder.
        """
        state = self.state_dict() if state_dict is None else state_dict
        if is_main_process:
            folder = Path(save_directory)
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in write_settings(self.config.facts()).items():
                if name != "config.json":
                    (folder / name).write_text(text, encoding="utf-8")
        super().save_pretrained(
            save_directory,
            is_main_process,
            {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()},
            *arguments,
            **options,
        )

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the parts have their first weights from being built, and loading is strict."""


def _build(config: TransformersConfig) -> nn.Module:
    """The model of a config, with random weights."""
    sizes, number = config.beit3(), config.num_outputs
    own_norm = head_config(sizes, config.settings)
    match config.kind:
        case "masked_data_modeling":
            return Beit3ForMaskedDataModeling(sizes, codebook_size=number)
        case "vqa":
            return Beit3ForVqa(own_norm, num_answers=number, picture_alone=config.picture_alone)
        case "nlvr2":
            return Beit3ForNlvr2(sizes)
        case "image_classification":
            return Beit3ForImageClassification(own_norm, num_classes=number)
        case "captioning":
            return Beit3ForCaptioning(sizes, picture_alone=config.picture_alone)
        case _:
            return Beit3ForRetrieval(sizes)


def _match(
    body: Beit3ForRetrieval, pictures: Tensor | None, token_ids: Tensor | None, padding: Tensor | None
) -> ImglishBeit3Output:
    """Vectors of what is given, and how well pictures and texts match where both are."""
    if pictures is None and token_ids is None:
        raise ValueError("a dual encoder needs pixel_values, input_ids, or both")
    vision = None if pictures is None else body.encode_images(pictures)
    text = None if token_ids is None else body.encode_texts(token_ids, padding)
    if vision is None or text is None:
        return ImglishBeit3Output(image_embeds=vision, text_embeds=text)
    cosines = body.logit_scale.exp() * vision @ text.T
    return ImglishBeit3Output(
        logits_per_image=cosines, logits_per_text=cosines.T, image_embeds=vision, text_embeds=text
    )
