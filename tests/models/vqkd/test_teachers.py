from __future__ import annotations

import pytest
import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from imglish.errors import ConfigError
from imglish.models.vqkd.teachers import PixelTeacher, TimmTeacher

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def tiny(**changes: int) -> VisionTransformer:
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_classes": 5}
    return VisionTransformer(**{**sizes, **changes}).eval()  # type: ignore[arg-type]


def normalised(images: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(IMAGENET_DEFAULT_MEAN), torch.tensor(IMAGENET_DEFAULT_STD)
    return ((images + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.mark.parametrize("registers", [0, 3])
def test_features_are_the_patch_tokens_of_the_normalised_picture(registers: int) -> None:
    model = tiny(reg_tokens=registers)
    teacher = TimmTeacher(model, (4, 4))
    expected = model.forward_features(normalised(IMAGES))[:, 1 + registers :]
    torch.testing.assert_close(teacher(IMAGES), expected)
    assert teacher.dim == 32 and expected.shape == (2, 16, 32)


def test_the_picture_is_resized_so_that_the_grids_agree() -> None:
    model = tiny()
    teacher = TimmTeacher(model, (3, 5))
    view = F.interpolate((IMAGES + 1) / 2, size=(24, 40), mode="bicubic", antialias=True)
    expected = model.forward_features(normalised(2 * view - 1))[:, 1:]
    torch.testing.assert_close(teacher(IMAGES), expected)
    assert expected.shape == (2, 15, 32)


def test_features_can_be_projected_as_clip_does() -> None:
    model = tiny()
    teacher = TimmTeacher(model, (4, 4), projected=True)
    assert teacher.dim == 5
    torch.testing.assert_close(teacher(IMAGES), model.head(model.forward_features(normalised(IMAGES))[:, 1:]))


def test_a_missing_projection_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Identity.*projected=False"):
        TimmTeacher(tiny(num_classes=0), (4, 4), projected=True)


def test_a_teacher_is_frozen() -> None:
    model = tiny().train()
    features = TimmTeacher(model, (4, 4))(IMAGES.clone().requires_grad_())
    assert not features.requires_grad and not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_clip_of_timm_projects_to_512_features() -> None:
    with torch.device("meta"):
        model: nn.Module = timm.create_model("vit_base_patch16_clip_quickgelu_224.openai", pretrained=False)
    assert TimmTeacher(model, (14, 14), projected=True).dim == 512


def test_the_pixel_teacher_gives_the_pixels_of_each_patch_row_by_row() -> None:
    images = IMAGES[..., :24]  # 4 x 3 patches of 8
    teacher = PixelTeacher((4, 3), 8)
    features = teacher(images)
    assert features.shape == (2, 12, teacher.dim)
    torch.testing.assert_close(features[1, 5].reshape(3, 8, 8), images[1, :, 8:16, 16:24])  # second row, last
