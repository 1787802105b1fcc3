"""Parity families of BEiT-3's classifiers, of how their parameters learn, and of how models begin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from imglish.metrics.accuracy import ClassAccuracy, Nlvr2Accuracy
from imglish.models.beit3 import weights
from imglish.models.beit3.classification_heads import Beit3ForImageClassification, Beit3ForNlvr2
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval, Beit3ForVqa
from imglish.models.weight_map import WeightMap
from imglish.structures.batches import ClassificationBatch, Nlvr2Batch
from imglish.tasks.image_classification import ImageClassificationTask
from imglish.tasks.nlvr2 import Nlvr2Task
from imglish.train.config import OptimizerConfig
from imglish.train.optimizer import build_optimizer
from tests.parity.case import Case, Check, Family, NotCoveredError
from tests.parity.families_beit3 import load, loss_checks, read_config

# About five standard deviations of the difference of two draws.
DEVIATIONS = 5.0


def run_nlvr2(case: Case) -> list[Check]:
    """Logits of statements about two pictures; loss, gradients and accuracy as the task gives them."""
    model = Beit3ForNlvr2(read_config(case))
    load(model, case, weights.NLVR2_MAP)
    task = Nlvr2Task(model, Nlvr2Accuracy())
    checks: list[Check] = []
    for call in case.calls():
        given, expected = call.inputs, call.outputs
        padding = given["padding_mask"].bool()
        if "logits" in expected:
            logits = model(given["image_a"], given["image_b"], given["text_description"], padding)
            checks.append(Check(f"{call.name}.logits", logits, expected["logits"], "forward"))
        if "label" not in given:
            continue
        ids = torch.arange(len(padding))
        batch = Nlvr2Batch(
            left=given["image_a"],
            right=given["image_b"],
            token_ids=given["text_description"],
            padding=padding,
            labels=given["label"],
            statement_ids=ids,
            sample_ids=ids,
        )
        out = task.training_step(batch)
        checks += loss_checks(call, model, weights.NLVR2_MAP, out.loss)
        if "acc" in expected:
            task.metrics.reset()
            task.evaluation_step(batch)
            accuracy = task.metrics.compute()["nlvr2/accuracy"]
            checks.append(Check(f"{call.name}.acc", accuracy, expected["acc"], "loss"))
            checks.append(Check(f"{call.name}.logged", out.logs["accuracy"], expected["acc"], "loss"))
    return checks


def run_image_classification(case: Case) -> list[Check]:
    """Class logits; losses of labels and of mixed labels, and gradients, as the task gives them."""
    model = Beit3ForImageClassification(read_config(case), num_classes=case.weights["head.bias"].shape[0])
    load(model, case, weights.IMAGE_CLASSIFICATION_MAP)
    checks: list[Check] = []
    for call in case.calls():
        given, expected = call.inputs, call.outputs
        if "logits" in expected:
            checks.append(Check(f"{call.name}.logits", model(given["image"]), expected["logits"], "forward"))
        if "loss" not in expected:
            continue
        smoothing = call.literals.get("label_smoothing", 0.0)
        task = ImageClassificationTask(model, ClassAccuracy(), smoothing=smoothing)
        count, mixed = len(given["image"]), given.get("soft_label")
        labels = given["label"] if mixed is None else torch.full((count,), -1)
        batch = ClassificationBatch(
            images=given["image"], labels=labels, sample_ids=torch.arange(count), soft_labels=mixed
        )
        loss = task.training_step(batch).loss
        checks += loss_checks(call, model, weights.IMAGE_CLASSIFICATION_MAP, loss)
    return checks


def _model_of(names: Mapping[str, Any], config: Beit3Config) -> tuple[nn.Module, WeightMap]:
    """The model that some official parameter names belong to, told by those of its head."""
    own = replace(config, output_norm="beit3.encoder.layer_norm.A.weight" in names)
    if "pooler.dense.weight" in names:
        return Beit3ForVqa(own, num_answers=3), weights.VQA_MAP
    if "fc_norm.weight" in names:
        return Beit3ForImageClassification(own, num_classes=3), weights.IMAGE_CLASSIFICATION_MAP
    if "head.dense1.weight" in names:
        return Beit3ForNlvr2(own), weights.NLVR2_MAP
    if "language_head.weight" in names:
        return Beit3ForRetrieval(own), weights.RETRIEVAL_MAP
    if "mlm_head.weight" in names:
        return Beit3ForCaptioning(own), weights.CAPTIONING_MAP
    heads = [name for name in names if not name.startswith("beit3.")]
    raise NotCoveredError(f"no released model has the head {', '.join(heads[:3])}")


def run_parameter_groups(case: Case) -> list[Check]:
    """Learning-rate factor and weight decay of every parameter, of several settings."""
    tiny = Beit3Config(
        image_size=(16, 16), vocab_size=8, max_text_tokens=4, width=8, num_heads=2, feed_forward_width=8,
        depth=case.json["encoder_layers"],
    )  # fmt: skip
    checks: list[Check] = []
    for setting, recorded in case.json.items():
        if not isinstance(recorded, dict):
            continue
        with torch.device("meta"):
            model, weight_map = _model_of(recorded["groups"], tiny)
        decay, head = recorded["layer_decay"], recorded["task_head_lr_weight"]
        config = OptimizerConfig(
            weight_decay=recorded["weight_decay"],
            layer_decay=decay,
            # Factors up to 1 mean none to the official code, and so do all where layers decay.
            head_lr_scale=head if head > 1 and decay == 1 else 1.0,
        )
        ours = _groups_of(model, weight_map, config)
        names, groups = sorted(ours), recorded["groups"]
        checks.append(Check(f"{setting}: names", names, sorted(groups), "integer"))
        for place, value in enumerate(("lr_scale", "weight_decay")):
            mine, theirs = (
                [given[name][place] for name in names if name in given] for given in (ours, groups)
            )
            checks.append(Check(f"{setting}: {value}", mine, theirs, "loss"))
    return checks


def _groups_of(
    model: nn.Module, weight_map: WeightMap, config: OptimizerConfig
) -> dict[str, tuple[float, float]]:
    """(lr_scale, weight_decay) by official name, as training gives them to the optimiser."""
    # Recipes know every package; the other families are about one model each and need none of that.
    from imglish.recipes.assemble import _not_decayed, _rates

    optimizer = build_optimizer(model, config, exceptions=_not_decayed(model), scale=_rates(model, config))
    official = {id(p): weight_map.official_name(name) for name, p in model.named_parameters()}
    return {
        str(official[id(parameter)]): (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def run_initial_weights(case: Case) -> list[Check]:
    """Mean, deviation and largest value of new weights, part by part of the released models.

    The bare backbone's linears are left out: every released model draws them anew, so none begins with them.
    """
    sizes = _sizes_of(case.json["note"])
    whole = Beit3Config(
        image_size=(32, 32), vocab_size=sizes["vocab"], width=sizes["dim"], depth=sizes["layers"],
        num_heads=4, feed_forward_width=sizes["ffn"],
    )  # fmt: skip
    checks: list[Check] = []
    for part, recorded in case.json.items():
        if not isinstance(recorded, dict):
            continue
        bare = any(name.startswith("encoder.") for name in recorded)
        # All layers begin alike; those above the recorded ones would only take time to draw.
        layers = [int(layer) for name in recorded for layer in re.findall(r"encoder\.layers\.(\d+)\.", name)]
        config = replace(whole, depth=min(whole.depth, 1 + max(layers, default=0)))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model, weight_map = (
                (Beit3Encoder(config), weights.ENCODER_MAP) if bare else _model_of(recorded, config)
            )
        ours = weight_map.to_official(model.state_dict())
        checks.append(Check(f"{part}: unknown names", sorted(recorded.keys() - ours.keys()), [], "integer"))
        left_out = {str(weight_map.official_name(name)) for name in _of_linears(model)} if bare else set()
        for name in sorted(recorded.keys() & ours.keys() - left_out):
            checks += _statistics(f"{part}: {name}", ours[name], recorded[name])
    return checks


def _sizes_of(note: str) -> dict[str, int]:
    """Numbers of a text such as ``dim 256, ffn 1024, 6 layers, vocab 500``, by the word beside them."""
    before = {word: int(number) for word, number in re.findall(r"\b([a-z]+) (\d+)", note)}
    after = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", note)}
    return after | before


def _of_linears(model: nn.Module) -> list[str]:
    return [
        f"{name}.{part}"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        for part, _ in module.named_parameters()
    ]


def _statistics(name: str, ours: Tensor, recorded: Mapping[str, float]) -> list[Check]:
    """Both sides are draws; recorded numbers have five decimals."""
    values, std, largest = ours.double(), recorded["std"], recorded["absmax"]
    count = values.numel()
    rounding = 1e-5
    # A cut or uniform distribution comes very near its end; the end of a normal one is a matter of luck.
    ends = largest < 2 * std
    reach = 10 * largest / count if ends else 1.5 * std
    noise = {
        "mean": DEVIATIONS * std * (2 / count) ** 0.5,
        "std": DEVIATIONS * std / count**0.5,
        "absmax": reach,
    }
    found = {"mean": values.mean(), "std": values.std(unbiased=False), "absmax": values.abs().max()}
    return [
        Check(f"{name} {what}", found[what], recorded[what], "statistic", tolerance=noise[what] + rounding)
        for what in noise
    ]


FAMILIES: tuple[Family, ...] = (
    Family(lambda case: "BEiT3ForVisualReasoning" in case.cls, run_nlvr2),
    Family(lambda case: "BEiT3ForImageClassification" in case.cls, run_image_classification),
    Family(lambda case: "encoder_layers" in case.json and "_format" in case.json, run_parameter_groups),
    Family(lambda case: "init statistics" in case.json.get("note", ""), run_initial_weights),
)
