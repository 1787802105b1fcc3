"""Plans of pretraining runs: operations as counted, memory as kept, no data and no weights read."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from imglish.errors import ConfigError
from imglish.models.vqkd.model import Vqkd
from imglish.recipes.config import ContrastiveTask, MaskedDataModelingTask, RunConfig
from imglish.recipes.plan import H200_BYTES, PlanOptions, make_plan
from imglish.recipes.plan_count import count_tokenizing
from imglish.recipes.plan_work import frozen_of, model_of, planned, streams_of, work_of
from imglish.recipes.pretraining import beit3_demo_pretraining, beit3_giant_pretraining
from imglish.recipes.runs import RECIPES
from imglish.recipes.world import WORLD_MODEL, world_masked_data_modeling
from imglish.train.memory import model_sizes, state_bytes

# One of each kind of run that is planned, small ones among them; `RECIPES` has more of each.
KINDS = (
    "beit3_demo_pretraining",
    "beit3_base_pretraining",
    "world_contrastive",
    "coco_retrieval_base",
    "beit2_demo",
    "beit_base",
    "vqkd_demo",
    "vqkd_base_clip",
)


@pytest.mark.parametrize("name", KINDS)
def test_formula_and_count_agree(name: str) -> None:
    plan = make_plan(RECIPES[name](), PlanOptions())
    flops = plan.flops
    assert flops.forward == pytest.approx(flops.counted.forward, rel=1e-3)
    assert flops.backward == pytest.approx(flops.counted.backward, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beit3_large_pretraining", "beit3_giant_pretraining", "beit2_large"])
def test_formula_and_count_agree_at_size(name: str) -> None:
    assert abs(make_plan(RECIPES[name](), PlanOptions(gpus=8)).flops.difference) < 0.01


def test_the_tokenizer_is_counted_on_the_grid_of_the_model() -> None:
    frozen = frozen_of(planned(beit3_giant_pretraining().task))  # patches of 14: a view of 256 x 256
    assert frozen.config is not None
    with torch.device("meta"):
        counted = count_tokenizing(Vqkd(frozen.config), torch.empty(3, 3, 256, 256))
    assert 3 * frozen.flops == pytest.approx(counted, rel=1e-3)


def demo(**changes: object) -> RunConfig:
    """The demo, with changes to its task."""
    config = beit3_demo_pretraining()
    assert isinstance(config.task, MaskedDataModelingTask)
    return replace(config, task=replace(config.task, **changes))  # type: ignore[arg-type]


def test_tokens_of_a_step_and_of_the_run() -> None:
    options = PlanOptions(text_tokens=40, pair_tokens=20, images=6400)
    plan = make_plan(demo(max_text_tokens=48), options)
    streams = {stream.name: stream for stream in plan.streams}
    assert streams["images"].tokens == 32 * 17
    assert streams["texts"].tokens == 32 * 40
    assert streams["pairs"].tokens == 32 * (17 + 20)
    assert streams["images"].hidden == 32 * round(0.4 * 16)
    assert streams["images"].samples_of_run == 400 * 32
    assert streams["images"].passes == 2
    assert streams["texts"].passes is None


@pytest.mark.parametrize("left_out", ["images", "texts", "pairs"])
def test_a_stream_may_be_left_out(left_out: str) -> None:
    whole, less = (make_plan(config, PlanOptions()) for config in (demo(), demo(**{f"num_{left_out}": 0})))
    assert left_out not in [stream.name for stream in less.streams]
    assert less.flops.forward < whole.flops.forward
    assert less.flops.forward == pytest.approx(less.flops.counted.forward, rel=1e-3)


def test_stored_tokens_need_no_tokenizer() -> None:
    stored = make_plan(demo(stored_tokens="tokens"), PlanOptions())
    assert stored.flops.frozen == 0 < make_plan(demo(), PlanOptions()).flops.frozen
    assert stored.storage.stored_tokens == 1_000_000 * 16 * 2


def test_checkpointing_costs_one_more_forward_pass_of_the_blocks_and_no_mfu() -> None:
    config = demo()
    again = replace(config, train=replace(config.train, activation_checkpointing=True))
    plain, twice = (make_plan(each, PlanOptions()) for each in (config, again))
    assert plain.flops.recomputed == 0 < twice.flops.recomputed < twice.flops.forward
    assert twice.flops.useful == plain.flops.useful
    assert twice.memory.activations < plain.memory.activations
    assert twice.time.mfu < plain.time.mfu  # as busy, but with work that does not count
    given = [make_plan(each, PlanOptions(mfu=0.3)).time.seconds_per_step for each in (config, again)]
    assert given[0] == given[1]


def test_hours_follow_from_operations_and_mfu() -> None:
    plan = make_plan(demo(), PlanOptions(gpus=4, mfu=0.5, peak=100))
    seconds = plan.flops.useful / (4 * 0.5 * 100e12)
    assert plan.time.seconds_per_step == pytest.approx(seconds)
    assert plan.time.hours == pytest.approx(400 * seconds / 3600)
    assert plan.time.gpu_hours == pytest.approx(4 * 400 * seconds / 3600)


def test_epochs_need_the_size_of_the_data() -> None:
    recipe = RECIPES["contrastive_base"]()
    assert make_plan(recipe, PlanOptions(gpus=8)).time.hours is None
    plan = make_plan(recipe, PlanOptions(gpus=8, pairs=16_384 * 10 + 5))
    assert plan.steps == 5 * 10
    with pytest.raises(ConfigError, match="only 100 training samples"):
        make_plan(recipe, PlanOptions(gpus=8, pairs=100))


def test_chunks_and_micro_steps_are_proposed_where_memory_is_short() -> None:
    recipe = RECIPES["contrastive_base"]()
    plan = make_plan(recipe, PlanOptions(gpus=8))
    assert not plan.fits
    option, _, chunk = plan.remedy.partition(" ")
    assert option == "--task.chunk-size" and isinstance(recipe.task, ContrastiveTask)
    mended = replace(recipe, task=replace(recipe.task, chunk_size=int(chunk)))
    better = make_plan(mended, PlanOptions(gpus=8))
    assert better.fits and better.memory.peak < H200_BYTES
    assert better.flops.recomputed == pytest.approx(better.flops.forward, rel=0.05)

    base = RECIPES["beit3_base_pretraining"]()
    plan = make_plan(base, PlanOptions(gpus=4))
    option, _, steps = plan.remedy.partition(" ")
    assert not plan.fits and option == "--train.grad-accumulation"
    assert make_plan(
        replace(base, train=replace(base.train, grad_accumulation=int(steps))), PlanOptions(gpus=4)
    ).fits


def test_the_state_is_what_adamw_holds() -> None:
    task = planned(demo().task)
    with torch.device("meta"):
        meta = model_of(task, frozen_of(task))
    model = meta.to_empty(device="cpu")
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    held = sum(
        tensor.untyped_storage().nbytes()
        for state in optimizer.state.values()
        for tensor in (state["exp_avg"], state["exp_avg_sq"])
    )
    state = state_bytes(model_sizes(model), "ddp", world_size=2, precision="bf16")
    assert state.moments == held
    assert state.weights == state.gradients == state.buckets == held / 2


def test_sharding_shares_the_state_and_gathers_blocks() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(10, 10, bias=False) for _ in range(3))
            self.head = nn.Linear(10, 7, bias=False)

    sizes = model_sizes(Model())
    assert (sizes.total, sizes.largest_block, sizes.outside) == (370, 100, 70)
    for precision, gathered, casts in (
        # Weights and gradients outside, weights of two blocks and gradients of one, and their sum in fp32.
        ("fp32", 4 * 140 + 4 * 400, 0),
        ("bf16", 4 * 140 + 4 * 400, 2 * 370),
        ("bf16_params", 2 * 140 + 2 * 300 + 4 * 100, 0),
    ):
        state = state_bytes(sizes, "fsdp2", world_size=10, precision=precision)  # type: ignore[arg-type]
        assert (state.weights, state.moments, state.gathered, state.casts) == (148, 296, gathered, casts)
    accumulated = state_bytes(sizes, "fsdp2", world_size=10, precision="fp32", accumulates=True)
    assert accumulated.gradients == 4 * 370


def test_a_ranks_share_is_a_part_of_the_batch() -> None:
    config = demo()
    one, four = (make_plan(config, PlanOptions(gpus=gpus)) for gpus in (1, 4))
    # The number of hidden words is rounded in each share.
    assert one.memory.activations == pytest.approx(4 * four.memory.activations, rel=1e-3)
    assert one.flops.forward == four.flops.forward
    with pytest.raises(ConfigError, match="does not divide"):
        make_plan(config, PlanOptions(gpus=5))


def test_logits_are_those_of_hidden_places() -> None:
    task = planned(demo(num_texts=0, num_pairs=0).task)
    streams, frozen = streams_of(task), frozen_of(task)
    logits = work_of(task, streams, frozen, precision="bf16").logits
    assert logits == 10 * 32 * round(0.4 * 16) * 256


def test_nothing_is_read_but_configs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    make_plan(RECIPES["beit3_base_pretraining"](), PlanOptions(gpus=8))
    make_plan(RECIPES["vqkd_base_dino"](), PlanOptions())
    assert not os.listdir(tmp_path)
    with pytest.raises(ConfigError, match=r"visual_tokenizer is 'runs/world/visual_tokenizer', whose sizes"):
        make_plan(world_masked_data_modeling(), PlanOptions())
    with pytest.raises(ConfigError, match=r"teacher is 'run:runs/world/contrastive', whose sizes"):
        make_plan(RECIPES["world_visual_tokenizer"](), PlanOptions())


def test_what_has_no_plan_is_refused() -> None:
    with pytest.raises(ConfigError, match="a run of vqa has no plan; imglish plan knows masked_data"):
        make_plan(RECIPES["vqav2_base"](), PlanOptions())
    with pytest.raises(ConfigError, match="--pair-tokens is 100, but texts are cut to 48"):
        make_plan(demo(model=WORLD_MODEL), PlanOptions(pair_tokens=100))
    config = demo()
    alone = replace(config, train=replace(config.train, strategy="fsdp2"))
    with pytest.raises(ConfigError, match="sharded over several ranks"):
        make_plan(alone, PlanOptions())
    with pytest.raises(ValueError, match="mfu is a share"):
        PlanOptions(mfu=45)


def test_bf16_weights_are_fsdp2s_affair() -> None:
    config = demo(model=replace(WORLD_MODEL, stem="linear"))
    halved = replace(config, train=replace(config.train, precision="bf16_params"))
    plan, before = make_plan(halved, PlanOptions(gpus=2)), make_plan(config, PlanOptions(gpus=2))
    assert plan.strategy == "fsdp2" and {way.strategy for way in plan.ways} == {"fsdp2"}
    # Of 40 bytes for each feature and token in a block, autocast's copies and float32 norms are 8.
    assert plan.memory.activations == pytest.approx(32 / 40 * before.memory.activations, rel=0.03)
