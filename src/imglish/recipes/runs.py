"""All recipes by name, for the command line."""

from __future__ import annotations

from collections.abc import Callable

from imglish.recipes import (
    beit,
    coco_captioning,
    demo_tasks,
    imagenet,
    nlvr2,
    retrieval,
    visual_tokenizers,
    vqav2,
    world,
)
from imglish.recipes.config import RunConfig

_ALL: tuple[Callable[[], RunConfig], ...] = (
    world.world_contrastive,
    world.world_visual_tokenizer,
    world.world_masked_data_modeling,
    world.world_yes_no,
    demo_tasks.vqa_demo,
    demo_tasks.retrieval_demo,
    demo_tasks.captioning_demo,
    demo_tasks.nlvr2_demo,
    demo_tasks.image_classification_demo,
    demo_tasks.class_names_demo,
    demo_tasks.semantic_segmentation_demo,
    vqav2.vqav2_base,
    vqav2.vqav2_large,
    vqav2.vqav2_large_768,
    vqav2.vqav2_giant,
    nlvr2.nlvr2_base,
    nlvr2.nlvr2_large,
    nlvr2.nlvr2_giant,
    coco_captioning.coco_captioning_base,
    coco_captioning.coco_captioning_large,
    coco_captioning.coco_captioning_giant,
    coco_captioning.nocaps_captioning_base,
    coco_captioning.nocaps_captioning_large,
    retrieval.coco_retrieval_base,
    retrieval.coco_retrieval_large,
    retrieval.coco_retrieval_giant,
    retrieval.flickr30k_retrieval_base,
    retrieval.flickr30k_retrieval_large,
    retrieval.flickr30k_retrieval_giant,
    retrieval.contrastive_base,
    retrieval.contrastive_large,
    retrieval.contrastive_giant,
    imagenet.imagenet_base,
    imagenet.imagenet_large,
    imagenet.imagenet21k_giant,
    imagenet.imagenet_giant,
    visual_tokenizers.vqkd_base_clip,
    visual_tokenizers.vqkd_base_clip_decoder1,
    visual_tokenizers.vqkd_base_dino,
    visual_tokenizers.vqkd_base_dino_decoder1,
    visual_tokenizers.vqkd_demo,
    beit.beit_base,
    beit.beit_large,
    beit.beit2_base,
    beit.beit2_large,
    beit.beit2_demo,
    beit.beit2_classification_demo,
)
RECIPES: dict[str, Callable[[], RunConfig]] = {recipe.__name__: recipe for recipe in _ALL}
