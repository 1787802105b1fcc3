"""Parity families of how BEiT-3's fine-tuning prepares pictures."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from imglish.data.transforms.image import ImageTransform, to_model_range
from imglish.data.transforms.imagenet import resize_and_crop, to_imagenet_range
from imglish.data.transforms.randaugment import MAX_MAGNITUDE, Operation, RandAugment, strength
from tests.parity.case import Call, Case, Check, Family, NotCoveredError

# The official transform of ImageNet resizes and crops from this size on; below (CIFAR) it does neither.
_SMALLEST_RESIZED = 33

_OPERATIONS: dict[str, Operation] = {
    "Identity": "identity",
    "AutoContrast": "auto_contrast",
    "Equalize": "equalize",
    "Brightness": "brightness",
    "Sharpness": "sharpness",
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateX": "translate_x",
    "TranslateY": "translate_y",
    "Rotate": "rotate",
}
_SIGNS = {"": 1, "minus": -1, "plus": 1}


def _channels_first(pixels: Tensor) -> Tensor:
    return pixels.permute(2, 0, 1).contiguous()


def run_evaluation(case: Case) -> list[Check]:
    """Pictures as evaluation sees them: squashed for vision-language tasks, cropped for ImageNet."""
    size = case.config["input_size"]
    squash = ImageTransform(size=(size, size), resampling="pillow")
    checks = []
    for call in case.calls():
        image = _channels_first(call.inputs["image_uint8"])
        cropped = resize_and_crop(image, size, "pillow") if size >= _SMALLEST_RESIZED else image
        ours = {
            "vl": to_model_range(squash(image, np.random.default_rng(0))),
            "imagenet": to_imagenet_range(cropped),
        }
        checks += [
            Check(f"{call.name}.{name}", ours[name], reference, "forward")
            for name, reference in call.outputs.items()
        ]
    return checks


def run_randaugment(case: Case) -> list[Check]:
    """Every operation at one magnitude, in both directions, and how strong it is."""
    levels = set(case.config["fill"])
    if len(levels) > 1:
        raise NotCoveredError(
            f"fill={case.config['fill']} is a colour; every released recipe fills with grey"
        )
    if case.config["MAX_LEVEL"] != MAX_MAGNITUDE:
        raise NotCoveredError(f"MAX_LEVEL={case.config['MAX_LEVEL']} belongs to no released recipe")
    augment = RandAugment(magnitude=case.config["M"], fill=levels.pop(), wrap=True)
    return [check for call in case.calls() for check in _operation_checks(augment, call)]


def _operation_checks(augment: RandAugment, call: Call) -> list[Check]:
    image = _channels_first(call.inputs["image_uint8"])
    checks = []
    for name, reference in call.outputs.items():
        if name == "args":
            continue
        operation = _OPERATIONS[name.partition("_")[0]]
        value = _SIGNS[name.partition("_")[2]] * strength(operation, augment.magnitude)
        pixels = augment.apply(image, operation, value)
        checks.append(Check(f"{call.name}.{name}", pixels, _channels_first(reference), "integer"))
        if "args" in call.outputs:
            recorded = call.outputs["args"][name]
            checks.append(Check(f"{call.name}.args.{name}", value, recorded[0] if recorded else 0.0, "loss"))
    return checks


FAMILIES: tuple[Family, ...] = (
    Family(lambda case: "build_transform(is_train=False)" in case.cls, run_evaluation),
    Family(lambda case: "randaug functions" in case.cls, run_randaugment),
)
