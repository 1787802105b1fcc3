"""What a run is: a tree of frozen, validated settings."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from imglish.data.transforms.image import ImageTransform
from imglish.data.transforms.randaugment import RandAugment
from imglish.models.beit3.config import Beit3Config
from imglish.models.segmenters.config import SegmenterConfig, SemanticFpnConfig
from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.backbone_config import BackboneConfig
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vqkd.config import VqkdConfig
from imglish.recipes.beit_config import MaskedImageModelingTask
from imglish.recipes.data_config import DataConfig, WorldStreamData, at_least, shares
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.segmentation_config import SegmentationPictures, WholePictures
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastiveTask:
    """Contrastive training of a dual encoder on pairs: intermediate fine-tuning, and the World's CLIP.

    Args:
        model: The dual encoder.
        max_text_tokens: Texts are cut to this length.
        chunk_size: Pairs of a rank encoded at once, where its batch does not fit the memory; 0: all.
        batch_size: Over all ranks.
    """

    kind: Literal["contrastive"] = "contrastive"
    model: Beit3Config = Beit3Config()
    max_text_tokens: int = 48
    chunk_size: int = 0
    batch_size: int = 128

    def __post_init__(self) -> None:
        at_least(self, max_text_tokens=3, chunk_size=0, batch_size=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualTokenizerTask:
    """VQ-KD against a teacher.

    Args:
        tokenizer: Its sizes.
        teacher: ``run:FOLDER`` of a contrastive run, ``world``, ``timm:NAME``, or ``pixels``: the patches
            themselves, three numbers a pixel.
        beta: Weight of the commitment term.
        crop_scale: Smallest share of the area that a random crop of a training picture keeps; 1 never crops.
        flip: Chance that a training picture is flipped.
        batch_size: Over all ranks.
    """

    kind: Literal["visual_tokenizer"] = "visual_tokenizer"
    tokenizer: VqkdConfig = VqkdConfig()
    teacher: str = "timm:vit_base_patch16_clip_quickgelu_224.openai"
    beta: float = 1.0
    crop_scale: float = 1.0
    flip: float = 0.0
    batch_size: int = 128

    def __post_init__(self) -> None:
        at_least(self, beta=0, batch_size=1)
        shares(self, "crop_scale", "flip")


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedDataModelingTask:
    """Masked data modelling of three streams.

    Args:
        model: The Multiway Transformer.
        visual_tokenizer: Folder of a visual tokenizer run, ``world``, or an official tokenizer by name.
        stored_tokens: Folder of visual tokens that ``imglish tokenize`` wrote with that tokenizer; empty has
            it run on the fly. Stored tokens are those of whole pictures: no crop, no flip.
        num_images: Pictures of a batch; 0 leaves the stream out.
        num_texts: Texts of a batch; 0 leaves the stream out.
        num_pairs: Image-text pairs of a batch; 0 leaves the stream out.
        image_share: Share of patches to hide.
        masking: ``blocks`` hides rectangles of patches, ``random`` single patches anywhere.
        min_block: Smallest rectangle of hidden patches.
        text_share: Share of words to hide in texts.
        pair_text_share: Share of words to hide in texts of pairs.
        hide_answers: True hides, in texts of pairs with questions, the answers and nothing else, and asks for
            the answer of a single question at the class token; the paper has no such texts.
        clean_share: Share of pairs whose picture is left whole; 0 in the paper.
        max_text_tokens: Texts are cut to this length.
        pack_texts: True joins the texts of the stream of texts, with ``</s>`` between, up to that length.
        length_buckets: Lengths that the texts of a rank's batch are padded to, sorted into as many buckets,
            each of which goes through the blocks by itself: more of them waste fewer tokens, and have smaller
            matrices. Packed texts are in one. Nothing but the draws of drop path depends on it.
        crop_scale: Smallest share of the area that a random crop of an unpaired picture keeps.
        flip: Chance that an unpaired picture is flipped.
        color_jitter: Strength of random brightness, contrast and saturation of an unpaired picture.
        augment_pairs: True changes the pictures of pairs in the same ways; flips make a text's "left" wrong.
    """

    kind: Literal["masked_data_modeling"] = "masked_data_modeling"
    model: Beit3Config = Beit3Config()
    visual_tokenizer: str = ""
    stored_tokens: str = ""
    num_images: int = 2048
    num_texts: int = 2048
    num_pairs: int = 2048
    image_share: float = 0.4
    masking: Literal["blocks", "random"] = "blocks"
    min_block: int = 16
    text_share: float = 0.15
    pair_text_share: float = 0.5
    hide_answers: bool = False
    clean_share: float = 0.0
    max_text_tokens: int = 48
    pack_texts: bool = False
    length_buckets: int = 4
    crop_scale: float = 1.0
    flip: float = 0.5
    color_jitter: float = 0.0
    augment_pairs: bool = False

    def __post_init__(self) -> None:
        at_least(self, num_images=0, num_texts=0, num_pairs=0, min_block=1, max_text_tokens=3)
        at_least(self, length_buckets=1)
        shares(self, "image_share", "text_share", "pair_text_share", "clean_share", "crop_scale", "flip")
        shares(self, "color_jitter")
        if self.batch_size == 0:
            raise ValueError("num_images, num_texts and num_pairs are all 0; at least one stream is needed")

    @property
    def batch_size(self) -> int:
        """Samples of all three streams."""
        return self.num_images + self.num_texts + self.num_pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """How training pictures are changed at random; scored ones never are.

    Args:
        crop_scale: Smallest share of the area that a random crop keeps; 1 never crops.
        flip: Chance of a horizontal flip, which the released code uses even where left and right matter.
        rand_augment: True adds RandAugment with the settings of the released fine-tuning.
    """

    crop_scale: float = 1.0
    flip: float = 0.0
    rand_augment: bool = False

    def transform(self, size: tuple[int, int]) -> ImageTransform:
        """The transform to pictures of ``size`` (height, width)."""
        return ImageTransform(
            size=size,
            crop_scale=self.crop_scale,
            flip=self.flip,
            augment=RandAugment() if self.rand_augment else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class VqaTask:
    """Visual question answering.

    Args:
        model: The fusion encoder.
        augment: Of the training pictures.
        answers: An ``answer2label.txt`` with the answers that are classes; empty collects them.
        min_answer_count: An answer becomes a class from so many occurrences on; 9 on VQAv2.
        max_text_tokens: Questions are cut to this length.
        use_pictures: False shows grey pictures: the no-picture baseline.
        picture_alone: False as published: picture and question see each other. True: the picture does not see
            the question, so that it is encoded once, whatever is asked about it.
        batch_size: Over all ranks.
    """

    kind: Literal["vqa"] = "vqa"
    model: Beit3Config = Beit3Config()
    augment: Augment = Augment()
    answers: str = ""
    min_answer_count: int = 9
    max_text_tokens: int = 64
    use_pictures: bool = True
    picture_alone: bool = False
    batch_size: int = 128

    def __post_init__(self) -> None:
        at_least(self, min_answer_count=1, max_text_tokens=3, batch_size=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalTask:
    """Image-text retrieval.

    Args:
        model: The dual encoder.
        augment: Of the training pictures.
        max_text_tokens: Captions are cut to this length.
        chunk_size: Pairs of a rank encoded at once, where its batch does not fit the memory; 0: all.
        batch_size: Over all ranks.
    """

    kind: Literal["retrieval"] = "retrieval"
    model: Beit3Config = Beit3Config()
    augment: Augment = Augment()
    max_text_tokens: int = 64
    chunk_size: int = 0
    batch_size: int = 3072

    def __post_init__(self) -> None:
        at_least(self, max_text_tokens=3, chunk_size=0, batch_size=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptioningTask:
    """Image captioning.

    Args:
        model: The generator.
        augment: Of the training pictures.
        mask_share: Share of tokens to hide.
        smoothing: Label smoothing.
        drop_worst: Share of largest word losses that do not count.
        drop_after: Updates after which they are dropped.
        num_beams: Beams of generation.
        length_penalty: Exponent of the length that scores are divided by.
        max_text_tokens: Longest caption with special tokens.
        use_pictures: False shows grey pictures: the no-picture baseline.
        picture_alone: False as published: fusion experts, where the model has them, encode the picture too.
            True: it is encoded as one without a text, once for all that is asked about it.
        batch_size: Over all ranks.
    """

    kind: Literal["captioning"] = "captioning"
    model: Beit3Config = Beit3Config()
    augment: Augment = Augment()
    mask_share: float = 0.6
    smoothing: float = 0.1
    drop_worst: float = 0.0
    drop_after: int = 12_000
    num_beams: int = 3
    length_penalty: float = 0.6
    max_text_tokens: int = 32
    use_pictures: bool = True
    picture_alone: bool = False
    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least(self, num_beams=1, max_text_tokens=4, batch_size=1, length_penalty=0, drop_after=0)
        shares(self, "mask_share", "smoothing", "drop_worst")


@dataclass(frozen=True, kw_only=True, slots=True)
class Nlvr2Task:
    """Visual reasoning: is a statement about two pictures true?

    Args:
        model: The fusion encoder.
        augment: Of the training pictures, each drawn for itself.
        max_text_tokens: Statements are cut to this length.
        batch_size: Over all ranks.
    """

    kind: Literal["nlvr2"] = "nlvr2"
    model: Beit3Config = Beit3Config()
    augment: Augment = Augment()
    max_text_tokens: int = 64
    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least(self, max_text_tokens=3, batch_size=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierTraining:
    """How a classifier with a linear head is trained, whatever its encoder.

    Args:
        pictures: ``imagenet`` prepares them as the released ImageNet recipe (timm's augmentation, ImageNet's
            mean and deviation), ``model`` as the other tasks, by ``augment``.
        augment: Of the training pictures where ``pictures`` is ``model``.
        mix: True mixes pictures by MixUp and CutMix.
        mixup: Parameter of MixUp's beta distribution.
        cutmix: The same for CutMix.
        smoothing: Label smoothing.
        batch_size: Over all ranks.
    """

    pictures: Literal["model", "imagenet"] = "imagenet"
    augment: Augment = Augment()
    mix: bool = True
    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1
    batch_size: int = 1024

    def __post_init__(self) -> None:
        at_least(self, batch_size=1)
        shares(self, "smoothing")
        if self.mixup <= 0 or self.cutmix <= 0:
            raise ValueError(f"mixup {self.mixup} and cutmix {self.cutmix} must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageClassificationTask(ClassifierTraining):
    """Picture classification in its released form: mean of the patches, linear head.

    Args:
        model: Its vision side reads the pictures.
    """

    kind: Literal["image_classification"] = "image_classification"
    model: Beit3Config = Beit3Config()


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTClassificationTask(ClassifierTraining):
    """Picture classification with a plain ViT, as BEiT is fine-tuned: mean of the patches, norm, linear head.

    Args:
        model: The ViT.
    """

    kind: Literal["vit_classification"] = "vit_classification"
    model: ViTConfig = ViTConfig(absolute_positions=False, relative_positions="per_block", layer_scale=0.1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassNamesTask:
    """Picture classification as the paper does it: the dual encoder finds the name of the class.

    Args:
        model: The dual encoder.
        prompt: The text of a class; ``{name}`` is its name.
        augment: Of the training pictures.
        smoothing: Label smoothing.
        max_names: Names that compete in a training step; those of the batch always do.
        max_text_tokens: Names are cut to this length.
        batch_size: Over all ranks.
    """

    kind: Literal["class_names"] = "class_names"
    model: Beit3Config = Beit3Config()
    prompt: str = "{name}"
    augment: Augment = Augment()
    smoothing: float = 0.1
    max_names: int = 1024
    max_text_tokens: int = 16
    batch_size: int = 2048

    def __post_init__(self) -> None:
        at_least(self, max_names=2, max_text_tokens=3, batch_size=1)
        shares(self, "smoothing")
        if "{name}" not in self.prompt:
            raise ValueError(f"prompt {self.prompt!r} must hold {{name}}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationTask:
    """Semantic segmentation over a plain ViT, with ViT-Adapter or without.

    Args:
        model: The ViT: a BEiT-3, whose vision side is taken, or of kind ``vit`` (DeiT, AugReg, MAE, DINOv2),
            ``beit``, ``uniperceiver`` or ``timm``.
        backbone: ``vit_adapter``, or ``plain_vit``: maps of four blocks, enlarged and made smaller; for
            SETR-PUP, which reads one map, that of the last block as it is.
        adapter: Settings of the adapter; ``plain_vit`` has none.
        out_blocks: The four blocks of ``plain_vit``, counted from 0; empty means the last of each quarter.
            ``vit_adapter`` has none, and neither has SETR-PUP.
        segmenter: What stands on it: Semantic FPN, UPerNet, SETR-PUP or Mask2Former.
        pictures: How they are prepared: ``whole`` as they are, ``cropped`` by the official pipelines.
        auxiliary_weight: Weight of the auxiliary head's loss, where there is one.
        num_points: Points at which Mask2Former compares masks.
        batch_size: Over all ranks.
    """

    kind: Literal["semantic_segmentation"] = "semantic_segmentation"
    model: BackboneConfig = Beit3Config()
    backbone: Literal["vit_adapter", "plain_vit"] = "vit_adapter"
    adapter: ViTAdapterConfig = ViTAdapterConfig()
    out_blocks: tuple[int, ...] = ()
    segmenter: SegmenterConfig = SemanticFpnConfig()
    pictures: SegmentationPictures = WholePictures()
    auxiliary_weight: float = 0.4
    num_points: int = 12_544
    batch_size: int = 16

    def __post_init__(self) -> None:
        at_least(self, auxiliary_weight=0, num_points=1, batch_size=1)


JointPart = (
    VqaTask | CaptioningTask | RetrievalTask | ImageClassificationTask | SegmentationTask | DetectionTask
)


@dataclass(frozen=True, kw_only=True, slots=True)
class JointTask:
    """Several tasks that fine-tune one encoder in turn; a picture is then encoded once for all of them.

    Args:
        model: The encoder of all; each task's own ``model`` must be the same.
        vqa: With ``picture_alone``; None leaves a task out.
        captioning: The same.
        retrieval: The dual encoder.
        image_classification: Classes, with pictures of range ``model``.
        segmentation: Class maps, over an adapter that leaves the ViT as it is.
        detection: Objects, the same.
        turns: Updates of a task in each round, by its name; 1 where none are told.

    Raises:
        ValueError: There are fewer than two tasks, or turns of another.
    """

    kind: Literal["joint"] = "joint"
    model: Beit3Config = Beit3Config()
    vqa: VqaTask | None = None
    captioning: CaptioningTask | None = None
    retrieval: RetrievalTask | None = None
    image_classification: ImageClassificationTask | None = None
    segmentation: SegmentationTask | None = None
    detection: DetectionTask | None = None
    turns: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise ValueError("a joint run has at least two tasks")
        if strange := sorted(self.turns.keys() - self.parts.keys()):
            raise ValueError(f"turns names {', '.join(strange)}; expected some of {', '.join(self.parts)}")
        if any(turns < 1 for turns in self.turns.values()):
            raise ValueError(f"turns must be at least 1; got {self.turns}")

    @property
    def parts(self) -> dict[str, JointPart]:
        """The tasks by their names, in the order of the fields."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: part for name, part in named.items() if isinstance(part, JointPart)}

    @property
    def batch_size(self) -> int:
        """Samples of an update, on average over a round."""
        turns = {name: self.turns.get(name, 1) for name in self.parts}
        samples = sum(turns[name] * part.batch_size for name, part in self.parts.items())
        return round(samples / sum(turns.values()))


TaskConfig = (
    ContrastiveTask
    | VisualTokenizerTask
    | MaskedDataModelingTask
    | MaskedImageModelingTask
    | VqaTask
    | RetrievalTask
    | CaptioningTask
    | Nlvr2Task
    | ImageClassificationTask
    | ViTClassificationTask
    | ClassNamesTask
    | SegmentationTask
    | DetectionTask
    | JointTask
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One run: which task, on which data, from which weights, how long.

    Args:
        name: Of the recipe; also the default output folder under ``runs``.
        task: The task with its model.
        data: What it reads.
        text_tokenizer: A ``.spm`` file; empty trains one on the World's texts.
        init: Weights to start from: empty for scratch, ``world`` for the weights in the package, the folder
            of a run, or official weights by name or as a file. What they do not have, such as a new head,
            starts anew.
        optimizer: AdamW and its rates.
        schedule: Warmup and cosine.
        train: The loop.
    """

    name: str
    task: TaskConfig
    data: DataConfig = WorldStreamData()
    text_tokenizer: str = ""
    init: str = ""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
