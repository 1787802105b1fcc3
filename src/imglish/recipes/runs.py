"""All recipes by name, for the command line."""

from __future__ import annotations

from collections.abc import Callable

from imglish.recipes.config import RunConfig
from imglish.recipes.demo_tasks import captioning_demo, retrieval_demo, semantic_segmentation_demo, vqa_demo
from imglish.recipes.world import world_contrastive, world_masked_data_modeling, world_visual_tokenizer

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "world_contrastive": world_contrastive,
    "world_visual_tokenizer": world_visual_tokenizer,
    "world_masked_data_modeling": world_masked_data_modeling,
    "vqa_demo": vqa_demo,
    "retrieval_demo": retrieval_demo,
    "captioning_demo": captioning_demo,
    "semantic_segmentation_demo": semantic_segmentation_demo,
}
