"""A picture that is encoded once: the same numbers for every head, and one set of weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from imglish.models.beit3.classification_heads import Beit3ForImageClassification
from imglish.models.beit3.encoder import Beit3Encoder, PictureFeatures
from imglish.models.beit3.heads import Beit3ForCaptioning, Beit3ForRetrieval, Beit3ForVqa
from imglish.models.joint import JointModel
from imglish.models.segmenters.config import SemanticFpnConfig
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.vit_adapter.backbone import Beit3VisionBackbone
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.model import ViTAdapter
from tests.tasks.tiny import CONFIG, MASK, PAD, pictures, words

ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # attention to shared keys sums in another order
FUSING = replace(CONFIG, split_attention=False, sub_norm=False, num_fusion_layers=2, output_norm=True)
ADAPTER = ViTAdapterConfig(num_interactions=2, components="prior_extractor", stem_width=8, num_heads=2)
CONFIGS = pytest.mark.parametrize("config", [CONFIG, FUSING], ids=["released", "paper"])


def padding_of(*lengths: int) -> torch.Tensor:
    return torch.arange(6) >= torch.tensor(lengths)[:, None]


@CONFIGS
def test_looking_is_encoding_a_picture_alone(config: object) -> None:
    torch.manual_seed(0)
    encoder = Beit3Encoder(config).eval()  # type: ignore[arg-type]
    seen, whole = encoder.look(pictures(3)), encoder(pictures(3))
    torch.testing.assert_close(seen.encoded, whole.tokens, **ROUNDING)
    backbone = Beit3VisionBackbone(encoder)
    tokens, grid = backbone.embed(pictures(3))
    assert len(seen.tokens) == encoder.config.depth + 1 == len(seen.memory) + 1
    for block, expected in enumerate(seen.tokens[1:]):
        torch.testing.assert_close(seen.tokens[block], tokens, **ROUNDING)
        tokens = backbone.run_blocks(tokens, block, block + 1, grid)
        torch.testing.assert_close(expected, tokens, **ROUNDING)


def test_reading_is_one_sequence_whose_picture_does_not_see_the_text() -> None:
    torch.manual_seed(0)
    encoder = Beit3Encoder(CONFIG).eval()
    images, ids, padding = pictures(3), words(3), padding_of(6, 4, 2)
    read = encoder.read(ids, encoder.look(images), padding=padding)
    tokens = 5 + ids.shape[1]
    may_see = torch.ones(tokens, tokens, dtype=torch.bool)
    may_see[:5, 5:] = False
    whole = encoder(images, ids, padding=padding, attention_mask=may_see)
    for row, length in enumerate((6, 4, 2)):
        torch.testing.assert_close(read[row, :length], whole.text[row, :length], **ROUNDING)


@CONFIGS
def test_captions_are_trained_as_they_are_written(config: object) -> None:
    torch.manual_seed(0)
    model = Beit3ForCaptioning(config, picture_alone=True).eval()  # type: ignore[arg-type]
    images, ids = pictures(2), words(2)
    memory = model.remember(model.encoder.look(images))
    for place in range(3):
        # What comes is told at a mask token behind the words so far; later ones are not seen.
        hidden = ids.clone()
        hidden[:, place + 1] = MASK
        at = torch.zeros_like(ids, dtype=torch.bool)
        at[:, place + 1] = True
        logits = model(images, hidden, torch.zeros_like(at), at)
        found, memory = model.step(memory, ids[:, place], MASK)
        torch.testing.assert_close(found, logits.log_softmax(dim=1), **ROUNDING)


def test_without_fusion_experts_a_captioned_picture_is_one_alone() -> None:
    torch.manual_seed(0)
    model = Beit3ForCaptioning(CONFIG).eval()
    assert model.picture_alone
    fusing = Beit3ForCaptioning(FUSING).eval()
    with pytest.raises(ValueError, match="fusion experts"):
        fusing.remember(fusing.encoder.look(pictures(1)))
    alone = Beit3ForCaptioning(FUSING, picture_alone=True).eval()
    alone.load_state_dict(fusing.state_dict())
    of_pair, by_itself = fusing.start(pictures(1)), alone.start(pictures(1))
    assert not torch.allclose(of_pair.pictures[1].keys, by_itself.pictures[1].keys)


def test_answers_come_from_features_and_padding_is_not_read() -> None:
    torch.manual_seed(0)
    model = Beit3ForVqa(FUSING, num_answers=5, picture_alone=True).eval()
    images, ids, padding = pictures(3), words(3), padding_of(6, 4, 2)
    logits = model(images, ids, padding)
    torch.testing.assert_close(model.answer(model.encoder.look(images), ids, padding), logits)
    torch.testing.assert_close(model(images, ids.masked_fill(padding, PAD), padding), logits)
    assert not torch.allclose(logits[0], model(images[[1]], ids[[0]], padding[[0]])[0])
    assert not torch.allclose(logits[0], model(images[[0]], ids[[1]], padding[[0]])[0])
    with pytest.raises(ValueError, match="give pictures"):
        Beit3ForVqa(FUSING, num_answers=5).answer(model.encoder.look(images), ids)


def test_other_heads_read_features_as_they_read_pictures() -> None:
    torch.manual_seed(0)
    dual, classifier = (
        Beit3ForRetrieval(FUSING).eval(),
        Beit3ForImageClassification(CONFIG, num_classes=4).eval(),
    )
    images = pictures(3)
    torch.testing.assert_close(
        dual.project(dual.encoder.look(images)), dual.encode_images(images), **ROUNDING
    )
    seen = classifier.encoder.look(images)
    torch.testing.assert_close(classifier.classify(seen), classifier(images), **ROUNDING)


def test_features_are_cut_and_joined_picture_by_picture() -> None:
    encoder = Beit3Encoder(FUSING).eval()
    whole = encoder.look(pictures(3))
    again = PictureFeatures.join([whole.select(slice(row, row + 1)) for row in (0, 1, 2)])
    for ours, theirs in zip(again.tokens, whole.tokens, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(again.memory, whole.memory, strict=True):
        assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)
    assert torch.equal(again.encoded, whole.encoded)


def test_an_adapter_takes_what_its_vit_has_seen() -> None:
    torch.manual_seed(0)
    encoder = Beit3Encoder(FUSING).eval()
    adapter = ViTAdapter(Beit3VisionBackbone(encoder), ADAPTER).eval()
    images = pictures(2)
    seen = encoder.look(images).tokens
    ours, theirs = adapter(images, seen), adapter(images)
    for stride in theirs.strides:
        torch.testing.assert_close(ours[stride], theirs[stride], **ROUNDING)
    with pytest.raises(ValueError, match="of these pictures"):
        adapter(images[:1], seen)
    injecting = ViTAdapter(Beit3VisionBackbone(encoder), replace(ADAPTER, components="all")).eval()
    with pytest.raises(ValueError, match="injectors"):
        injecting(images, seen)


def joint(adapter: ViTAdapterConfig = ADAPTER) -> JointModel:
    torch.manual_seed(0)
    head = SemanticFpnConfig(neck_width=8, head_width=8)
    parts = {
        "vqa": Beit3ForVqa(replace(FUSING, output_norm=False), num_answers=5, picture_alone=True),
        "retrieval": Beit3ForRetrieval(FUSING),
        "segmentation": segmenter_on(FUSING, ADAPTER, head, num_classes=3),
        "other": segmenter_on(FUSING, adapter, head, num_classes=4),
    }
    return JointModel(Beit3Encoder(FUSING), parts).eval()


def test_a_joint_model_has_each_weight_once_and_all_parts_use_it() -> None:
    model = joint()
    names = list(model.state_dict())
    assert sum(name.endswith("vision_embedding.class_token") for name in names) == 1
    assert all(name.startswith("adapter.") for name in names if "spatial_prior" in name)
    pointers = [p.data_ptr() for p in model.parameters()]
    assert len(pointers) == len(set(pointers))
    before = [
        model("segmentation", pictures(1)),
        model("other", pictures(1)),
        model("vqa", pictures(1), words(1)),
    ]
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    after = [
        model("segmentation", pictures(1)),
        model("other", pictures(1)),
        model("vqa", pictures(1), words(1)),
    ]
    assert not any(torch.allclose(old, new) for old, new in zip(before, after, strict=True))


def test_parts_that_cannot_share_are_refused() -> None:
    with pytest.raises(ValueError, match="different adapters"):
        joint(replace(ADAPTER, stem_width=16))
    with pytest.raises(ValueError, match="retrieval: its encoder has other settings"):
        JointModel(Beit3Encoder(FUSING), {"retrieval": Beit3ForRetrieval(CONFIG)})
    with pytest.raises(ValueError, match="has no BEiT-3 encoder"):
        JointModel(Beit3Encoder(FUSING), {"linear": torch.nn.Linear(2, 2)})
