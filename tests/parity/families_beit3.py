"""Parity families of BEiT-3: backbone, heads, decoding, text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imglish.decoding.beam_search import BeamSearchConfig, Hypothesis, beam_search
from imglish.losses.answers import answer_loss, smoothed_word_loss
from imglish.losses.contrastive import contrastive_loss
from imglish.metrics.retrieval import RetrievalRecall
from imglish.metrics.vqa_accuracy import VqaAccuracy
from imglish.models.beit3 import weights
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.embeddings import POSITION_OFFSET
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval, Beit3ForVqa
from imglish.models.weight_map import WeightMap, check_state
from imglish.text.tokenizer import BOS, EOS, PAD, UNK, TextTokenizer
from tests.parity.case import Call, Case, Check, Family, NotCoveredError
from tests.parity.compare import gradient_norms

# What the released models all have; anything else in a config would be another architecture.
_FIXED: dict[str, Any] = {
    "activation_fn": "gelu",
    "bert_init": False,
    "deepnorm": False,
    "dilated_ratio": None,
    "encoder_normalize_before": True,
    "in_chans": 3,
    "layernorm_embedding": False,
    "layernorm_eps": 1e-5,
    "max_rel_pos": 0,
    "moe_freq": 0,
    "multiway": True,
    "no_output_layer": True,
    "no_scale_embedding": True,
    "rel_pos_buckets": 0,
    "segment_length": None,
    "share_encoder_input_output_embed": False,
}


def read_config(case: Case) -> Beit3Config:
    """Our config of a torchscale ``EncoderConfig``; table lengths come from the weights.

    Raises:
        NotCoveredError: The config asks for something that no released model has.
    """
    official = case.config
    for key, value in _FIXED.items():
        if official.get(key, value) != value:
            raise NotCoveredError(f"{key}={official[key]!r} belongs to no released BEiT-3")
    prefix = "" if "text_embed.weight" in case.weights else "beit3."
    size = official["img_size"]
    return Beit3Config(
        image_size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        patch_size=official["patch_size"],
        vocab_size=case.weights[f"{prefix}text_embed.weight"].shape[0],
        max_text_tokens=case.weights[f"{prefix}encoder.embed_positions.B.weight"].shape[0] - 2,
        width=official["encoder_embed_dim"],
        depth=official["encoder_layers"],
        num_heads=official["encoder_attention_heads"],
        feed_forward_width=official["encoder_ffn_embed_dim"],
        sub_norm=official["subln"],
        output_norm=official["normalize_output"],
        drop_path=official["drop_path_rate"],
    )


def load(model: nn.Module, case: Case, weight_map: WeightMap) -> None:
    """Put the official weights of a case into a model, strictly, and set it to the case's mode."""
    state = weight_map.to_ours(case.weights)
    check_state(state, model.state_dict(), where=case.name)
    model.load_state_dict(state)
    model.train(case.json.get("mode") == "train")


def official_gradient_norms(model: nn.Module, weight_map: WeightMap, loss: Tensor) -> dict[str, float | None]:
    """Gradient norms of a loss under the official names of the parameters."""
    model.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = dict(model.named_parameters())
    return gradient_norms(weight_map.to_official(parameters))


def _unknown(call: Call) -> NotCoveredError:
    return NotCoveredError(f"call {call.name!r} with {', '.join(call.inputs)} has no counterpart yet")


def run_backbone(case: Case) -> list[Check]:
    """Every call of the encoder: image, text, pair; padding, attention masks, hidden patches, positions."""
    encoder = Beit3Encoder(read_config(case))
    load(encoder, case, weights.ENCODER_MAP)
    checks: list[Check] = []
    with torch.no_grad():
        for call in case.calls():
            checks += _backbone_call(encoder, call)
    return checks


def _backbone_call(encoder: Beit3Encoder, call: Call) -> list[Check]:
    known = {"visual_tokens", "textual_tokens", "text_padding_position", "attn_mask"}
    known |= {"vision_masked_position", "positions"}
    if not call.inputs.keys() <= known:
        raise _unknown(call)
    images, token_ids = call.inputs.get("visual_tokens"), call.inputs.get("textual_tokens")
    padding, corruption = call.inputs.get("text_padding_position"), call.inputs.get("vision_masked_position")
    blocked, positions = call.inputs.get("attn_mask"), call.inputs.get("positions")
    padding = None if padding is None else padding.bool()
    corruption = None if corruption is None else corruption.bool()
    hidden: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _module, _inputs, output: hidden.append(output))
        for block in encoder.blocks
    ]
    with _position_rows(encoder, positions):
        out = encoder(
            images,
            token_ids,
            padding=padding,
            corruption=corruption,
            attention_mask=None if blocked is None else blocked == 0,
        )
    for hook in hooks:
        hook.remove()
    ours: dict[str, Any] = {f"hidden_{layer}": value for layer, value in enumerate(hidden)}
    split = -1 if token_ids is None else 0 if images is None else out.layout.num_vision
    ours |= {"encoder_out": out.tokens, "multiway_split_position": split}
    if "encoder_embedding" in call.outputs:  # the official one is taken before positions and padding
        with _tables(encoder, torch.zeros_like):
            ours["encoder_embedding"] = encoder.embed(images, token_ids, corruption=corruption)[0]
    return [
        Check(
            f"{call.name}.{name}",
            ours[name],
            reference,
            "integer" if name == "multiway_split_position" else "forward",
        )
        for name, reference in call.outputs.items()
    ]


@contextmanager
def _tables(encoder: Beit3Encoder, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Exchange the contents of both position tables for a while."""
    tables = (encoder.vision_embedding.positions.weight, encoder.text_embedding.positions.weight)
    recorded = [table.clone() for table in tables]
    for table, original in zip(tables, recorded, strict=True):
        table.copy_(change(original))
    yield
    for table, original in zip(tables, recorded, strict=True):
        table.copy_(original)


def _position_rows(encoder: Beit3Encoder, positions: Tensor | None) -> AbstractContextManager[None]:
    """Put the rows that the official code was told to read where ours reads."""
    if positions is None:
        return nullcontext()
    rows = positions.reshape(-1, positions.shape[-1])
    if (rows != rows[:1]).any():
        raise NotCoveredError("positions that differ from sample to sample")

    def moved(table: Tensor) -> Tensor:
        # The other modality's table may be shorter; nothing reads it then.
        wanted = table[rows[0].clamp(max=len(table) - 1)]
        first = POSITION_OFFSET
        return torch.cat([table[:first], wanted, table[first + len(wanted) :]])[: len(table)]

    return _tables(encoder, moved)


def run_vqa(case: Case) -> list[Check]:
    """Answer logits, loss and gradients, score of the chosen answers."""
    model = Beit3ForVqa(read_config(case), num_answers=case.weights["head.3.bias"].shape[0])
    load(model, case, weights.VQA_MAP)
    checks: list[Check] = []
    for call in case.calls():
        given = call.inputs
        if call.outputs.keys() == {"score"}:
            metric = VqaAccuracy()
            count = len(given["logits"])
            metric.update(
                given["logits"].argmax(1), given["labels"], torch.full((count,), -1), torch.arange(count)
            )
            score = metric.compute()["vqa/accuracy"]
            checks.append(Check(f"{call.name}.score", score, call.outputs["score"], "loss"))
            continue
        logits = model(given["image"], given["question"], given["padding_mask"].bool())
        if "logits" in call.outputs:
            checks.append(Check(f"{call.name}.logits", logits, call.outputs["logits"], "forward"))
        if "loss" in call.outputs:
            loss = answer_loss(logits, given["labels"])
            checks += loss_checks(call, model, weights.VQA_MAP, loss)
    return checks


def loss_checks(call: Call, model: nn.Module, weight_map: WeightMap, loss: Tensor) -> list[Check]:
    """A loss and, where they are recorded, its gradients."""
    checks = [Check(f"{call.name}.loss", loss, call.outputs["loss"], "loss")]
    if "grad_norms" in call.outputs:
        norms = official_gradient_norms(model, weight_map, loss)
        checks.append(Check(f"{call.name}.grad_norms", norms, call.outputs["grad_norms"], "gradient_norm"))
    return checks


def run_retrieval(case: Case) -> list[Check]:
    """Unit vectors, similarities, contrastive loss and gradients; recall of given features."""
    model = Beit3ForRetrieval(read_config(case))
    load(model, case, weights.RETRIEVAL_MAP)
    checks: list[Check] = []
    for call in case.calls():
        if "metrics" in call.outputs:
            checks += _recall_checks(call)
            continue
        given, expected = call.inputs, call.outputs
        out = model(given["image"], given["text_description"], given["padding_mask"].bool())
        ours = {
            "vision_cls": out.vision,
            "language_cls": out.text,
            "logits_per_image": out.scale * out.vision @ out.text.T,
            "logits_per_text": out.scale * out.text @ out.vision.T,
        }
        checks += [
            Check(f"{call.name}.{name}", value, expected[name], "forward") for name, value in ours.items()
        ]
        loss = contrastive_loss(out.vision, out.text, out.scale)
        checks += loss_checks(call, model, weights.RETRIEVAL_MAP, loss)
    return checks


def _recall_checks(call: Call) -> list[Check]:
    metric = RetrievalRecall()
    metric.update(call.inputs["image_feats"], call.inputs["text_feats"], call.inputs["image_ids"])
    ours = metric.compute()
    names = {"average_score": "retrieval/average"}
    names |= {f"tr_r{k}": f"retrieval/text_recall_at_{k}" for k in (1, 5, 10)}
    names |= {f"ir_r{k}": f"retrieval/image_recall_at_{k}" for k in (1, 5, 10)}
    return [
        Check(f"{call.name}.{name}", 100 * ours[names[name]], reference, "loss")
        for name, reference in call.outputs["metrics"].items()
    ]


def run_captioning(case: Case) -> list[Check]:
    """Logits at masked words, loss and gradients, cached steps, beams."""
    model = Beit3ForCaptioning(read_config(case))
    load(model, case, weights.CAPTIONING_MAP)
    checks: list[Check] = []
    mask_id = _mask_id(case)
    for call in case.calls():
        if "num_beams" in call.literals:
            checks += _beam_checks(model, call, mask_id)
        elif "forced_tokens" in call.inputs:
            checks += _cached_checks(model, call, mask_id)
        elif "label_smoothing" in call.literals:
            checks += _caption_loss_checks(model, call)
        else:
            checks += _caption_logit_checks(model, call)
    return checks


def _mask_id(case: Case) -> int:
    """The mask token of the case's stub tokenizer, which ends every recorded hypothesis."""
    for call in case.calls():
        if "hypotheses" in call.outputs:
            return int(call.outputs["hypotheses"][0][0][1][-1])
    return len(case.weights["mlm_head.bias"]) - 1


def _caption_logit_checks(model: Beit3ForCaptioning, call: Call) -> list[Check]:
    token_ids = call.inputs["text_ids"]
    padding = call.inputs.get("padding_mask", torch.zeros_like(token_ids)).bool()
    everywhere = torch.ones_like(padding)
    checks = []
    with torch.no_grad():
        dense = model(call.inputs["image"], token_ids, padding, everywhere)
        dense = dense.view(*token_ids.shape, -1)
        checks.append(Check(f"{call.name}.logits_all", dense, call.outputs["logits_all"], "forward"))
        if "logits_masked" in call.outputs:
            hidden = call.inputs["language_masked_pos"].bool()
            masked = model(call.inputs["image"], token_ids, padding, hidden)
            checks.append(
                Check(f"{call.name}.logits_masked", masked, call.outputs["logits_masked"], "forward")
            )
    return checks


def _caption_loss_checks(model: Beit3ForCaptioning, call: Call) -> list[Check]:
    given = call.inputs
    hidden = given["language_masked_pos"].bool()
    checks = []
    for name, reference in call.outputs.items():
        if not name.startswith("loss_iter_"):
            continue
        iteration = name.removeprefix("loss_iter_")
        drops = int(iteration) > call.literals["drop_worst_after"]
        loss = smoothed_word_loss(
            model(given["image"], given["text_ids"], given["padding_mask"].bool(), hidden),
            given["language_tokens"][hidden],
            smoothing=call.literals["label_smoothing"],
            keep_share=1 - call.literals["drop_worst_ratio"] if drops else 1.0,
        )
        checks.append(Check(f"{call.name}.{name}", loss, reference, "loss"))
        norms = call.outputs.get(f"grad_norms_iter_{iteration}")
        if norms is not None:
            ours = official_gradient_norms(model, weights.CAPTIONING_MAP, loss)
            checks.append(Check(f"{call.name}.grad_norms_iter_{iteration}", ours, norms, "gradient_norm"))
    return checks


def _cached_checks(model: Beit3ForCaptioning, call: Call, mask_id: int) -> list[Check]:
    """Feed given words one by one; only the mask's prediction and the kept cache are ours to compare."""
    checks = []
    words = call.inputs["forced_tokens"]
    words = torch.cat([torch.full_like(words[:, :1], BOS), words[:, :-1]], dim=1)
    with torch.no_grad():
        memory = model.start(call.inputs["image"])
        for step in range(words.shape[1]):
            log_probabilities, memory = model.step(memory, words[:, step], mask_id)
            reference = call.outputs[f"step{step}_logits"][:, 1].log_softmax(-1)
            checks.append(Check(f"{call.name}.step{step}", log_probabilities, reference, "forward"))
    assert memory.words is not None
    keys = torch.cat([memory.pictures[0].keys, memory.words[0].keys], dim=2)
    values = torch.cat([memory.pictures[-1].values, memory.words[-1].values], dim=2)
    expected = call.outputs
    return [
        *checks,
        Check(f"{call.name}.cache_length", keys.shape[2], expected["cache_len_after_last"], "integer"),
        Check(f"{call.name}.first_keys", keys, expected["cache_layer0_prev_key"], "forward"),
        Check(f"{call.name}.last_values", values, expected["cache_last_prev_value"], "forward"),
    ]


def _beam_checks(model: Beit3ForCaptioning, call: Call, mask_id: int) -> list[Check]:
    settings = call.literals
    images = call.inputs["image"]
    bias = model.text_head.bias.detach().clone()
    with torch.no_grad():
        model.text_head.bias.copy_(call.inputs.get("mlm_head.bias_override", bias))
        found = beam_search(
            lambda memory, words: model.step(memory, words, mask_id),
            model.start(images),
            batch_size=len(images),
            bos=BOS,
            eos=EOS,
            config=BeamSearchConfig(
                num_beams=settings["num_beams"],
                max_tokens=settings["num_max_bpe_tokens"],
                length_penalty=settings["length_penalty"],
                candidates_per_beam=settings["topn_per_beam"],
            ),
        )
        model.text_head.bias.copy_(bias)
    kept = [_official_words(hypothesis, mask_id) for hypothesis in found]
    length = settings["num_max_bpe_tokens"]
    decoded = [[*words, EOS, *[PAD] * (length - len(words) - 1)] for words in kept]
    reference = call.outputs["hypotheses"]  # for each picture the kept ones, of which there is one
    scores = [hypothesis.score for hypothesis in found]
    return [
        Check(f"{call.name}.decoded", decoded, call.outputs["decoded"].tolist(), "integer"),
        Check(f"{call.name}.words", kept, [best[0][1] for best in reference], "integer"),
        Check(f"{call.name}.scores", scores, [best[0][0] for best in reference], "forward"),
    ]


def _official_words(hypothesis: Hypothesis, mask_id: int) -> list[int]:
    """The official hypothesis keeps ``<s>`` in front and an empty slot, a mask token, at the end."""
    return [BOS, *hypothesis.words, mask_id]


def run_tokenizer(case: Case) -> list[Check]:
    """Ids, pieces and special ids of a small SentencePiece model, and texts of ids."""
    tokenizer = TextTokenizer(_tokenizer_file(case))
    expected = case.json
    special = {"bos": BOS, "eos": EOS, "cls": BOS, "sep": EOS, "pad": PAD, "unk": UNK}
    special["mask"] = tokenizer.mask_id
    checks = [
        Check("vocab_size", tokenizer.vocab_size, expected["vocab_size"], "integer"),
        Check("special ids", {name: special[name] for name in expected["ids"]}, expected["ids"], "integer"),
    ]
    for row in expected["rows"]:
        ids = tokenizer.encode(row["text"])
        checks.append(Check(f"ids of {row['text']!r}", ids, row["ids"], "integer"))
        # The official tokens show the text of an unknown piece, which its id does not hold.
        pieces = [piece for piece in tokenizer.pieces(ids) if piece != "<unk>"]
        known = [piece for piece, i in zip(row["tokens"], row["ids"], strict=True) if i != UNK]
        checks.append(Check(f"pieces of {row['text']!r}", pieces, known, "integer"))
    for row in expected["decode"]:
        text = tokenizer.decode(row["ids"])
        checks.append(Check(f"text of {row['ids']}", text, row["text"], "integer"))
    return checks


def _tokenizer_file(case: Case) -> Path:
    (path,) = case.folder.glob("*.spm")
    return path


def _is_class(name: str) -> Callable[[Case], bool]:
    return lambda case: name in case.cls


FAMILIES: tuple[Family, ...] = (
    Family(_is_class("BEiT3.BEiT3"), run_backbone),
    Family(_is_class("BEiT3ForVisualQuestionAnswering"), run_vqa),
    Family(_is_class("BEiT3ForRetrieval"), run_retrieval),
    Family(_is_class("BEiT3ForCaptioning"), run_captioning),
    Family(lambda case: "sp_size" in case.json and "rows" in case.json, run_tokenizer),
)
