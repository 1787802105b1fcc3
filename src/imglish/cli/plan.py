"""``imglish plan RECIPE``: what a pretraining run will take, before it is started."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from imglish.cli.settings import choose
from imglish.cli.usage import UsageError, did_you_mean
from imglish.recipes.config import RunConfig
from imglish.recipes.plan import BUSY, H200_BYTES, Plan, PlanOptions, make_plan, to_json
from imglish.recipes.plan_work import PlannedTask
from imglish.recipes.runs import RECIPES

_MANY = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanCommand:
    """Say what a run will take: tokens, operations, memory, hours and storage. No data or weights are read.

    Args:
        json: Print JSON instead of tables.
        strategy: Instead of the recipe's train.strategy.
        activation_checkpointing: Compute each block twice, although the recipe does not.
        config: YAML file with the settings to change; options come after it.
        options: What a recipe does not say.
        settings: The recipe's own.
    """

    json: bool = False
    strategy: Literal["single", "ddp", "fsdp2"] | None = None
    activation_checkpointing: bool = False
    config: Path | None = None
    options: Annotated[PlanOptions, tyro.conf.arg(name="")] = PlanOptions()
    settings: Annotated[RunConfig, tyro.conf.arg(name="")]


def run(arguments: Sequence[str]) -> None:
    """Plan a recipe and print it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return
    name, *rest = arguments
    if name not in RECIPES:
        raise UsageError(f"there is no recipe {name!r}{did_you_mean(name, RECIPES)}; see imglish plan --help")
    config = choose(RECIPES[name](), rest)
    try:
        command = tyro.cli(
            PlanCommand,
            args=rest,
            prog=f"imglish plan {name}",
            default=PlanCommand(settings=config),
            config=(tyro.conf.AvoidSubcommands,),
        )
    except ValueError as error:  # of the options, which have no name of their own that the parser could tell
        raise UsageError(str(error)) from error
    train = command.settings.train
    train = replace(
        train,
        strategy=command.strategy or train.strategy,
        activation_checkpointing=command.activation_checkpointing or train.activation_checkpointing,
    )
    plan = make_plan(replace(command.settings, train=train), command.options)
    print(json.dumps(to_json(plan), indent=1) if command.json else describe(plan))


def overview() -> str:
    """Usage, and the recipes that have a plan."""
    made = {name: recipe for name, recipe in RECIPES.items() if isinstance(recipe().task, PlannedTask)}
    width = max(map(len, made))
    lines = [f"  {name:{width}}  {(recipe.__doc__ or '').splitlines()[0]}" for name, recipe in made.items()]
    return (
        "usage: imglish plan RECIPE [--gpus N] [--strategy ddp|fsdp2] [--activation-checkpointing] "
        "[--mfu SHARE] [--json] [--SETTING VALUE ...]\n\n"
        "Says what a run will take: tokens, operations, memory on each GPU, hours, storage. It reads no data "
        "and no weights.\n\n"
        + "\n".join(["recipes:", *lines])
        + "\n\nimglish plan RECIPE --help lists all options, and the recipe's settings."
    )


def describe(plan: Plan) -> str:
    """The plan as text of several paragraphs."""
    checkpointing = ", activation checkpointing" if plan.activation_checkpointing else ""
    gpus = "1 GPU" if plan.gpus == 1 else f"{plan.gpus} GPUs"
    head = f"{plan.recipe}: {plan.kind} on {gpus}, {plan.strategy}, {plan.precision}{checkpointing}"
    parts = (_length(plan), _streams(plan), _parameters(plan), _flops(plan), _memory(plan), _time(plan))
    return "\n\n".join([head, *parts, _storage(plan)])


def _length(plan: Plan) -> str:
    micro = f" x {plan.grad_accumulation} micro steps" if plan.grad_accumulation > 1 else ""
    each = f"{plan.samples_per_rank} samples on each GPU{micro}"
    if plan.steps is not None:
        epochs = f" ({plan.epochs:g} epochs)" if plan.epochs else ""
        return f"length: {plan.steps:,} steps{epochs}, {each}"
    option = f"--{plan.streams[0].name}"
    return f"length: {plan.epochs:g} epochs of data of unknown size (give {option} N), {each}"


def _streams(plan: Plan) -> str:
    rows = [
        ("stream", "samples", "tokens each", "tokens a step", "predicted", "samples in all", "tokens in all")
    ]
    for stream in plan.streams:
        whole = (stream.samples_of_run, stream.tokens_of_run)
        in_all = ["?" if number is None else _many(number) for number in whole]
        if stream.passes is not None:
            in_all[0] += f" ({stream.passes:.3g} passes)"
        rows.append(
            (
                stream.name,
                str(stream.samples),
                str(stream.tokens_per_sample),
                f"{stream.tokens:,}",
                f"{stream.hidden:,}",
                in_all[0],
                in_all[1],
            )
        )
    tokens = [stream.tokens_of_run for stream in plan.streams if stream.tokens_of_run is not None]
    rows.append(
        (
            "all",
            str(sum(stream.samples for stream in plan.streams)),
            "",
            f"{sum(stream.tokens for stream in plan.streams):,}",
            f"{sum(stream.hidden for stream in plan.streams):,}",
            "",
            _many(sum(tokens)) if tokens else "?",
        )
    )
    return _table(rows)


def _parameters(plan: Plan) -> str:
    rows = [("parameters", "")]
    rows += [(f"  {kind.replace('_', ' ')}", _many(number)) for kind, number in plan.parameters.items()]
    if plan.frozen_parameters:
        rows.append((f"  frozen: {plan.frozen_model}", _many(plan.frozen_parameters)))
    return _table(rows)


def _flops(plan: Plan) -> str:
    flops = plan.flops
    counted = flops.counted.forward + flops.counted.backward
    rows = [
        ("operations of a step", "FLOPs"),
        ("  forward", _many(flops.forward)),
        ("  backward", _many(flops.backward)),
        ("  forward and backward", _many(flops.model)),
        (f"  the same, counted on the meta device ({flops.difference:+.2%})", _many(counted)),
    ]
    if flops.frozen:
        rows.append((f"  forward of {plan.frozen_model}", _many(flops.frozen)))
    if flops.recomputed:
        rows.append(("  computed twice, not counted in MFU", _many(flops.recomputed)))
    return _table(rows)


def _memory(plan: Plan) -> str:
    memory, state = plan.memory, plan.memory.state
    sizes = {
        "weights": state.weights,
        "gradients": state.gradients,
        "moments of AdamW": state.moments,
        "averaged weights": state.averages,
        "buckets of DDP": state.buckets,
        "gathered by FSDP2": state.gathered,
        "bf16 copies of weights": state.casts,
        "activations": memory.activations,
        "logits and their softmax": memory.logits,
        "pictures": memory.pictures,
        f"weights of {plan.frozen_model}": memory.frozen,
    }
    rows = [("memory of each GPU", "GiB")]
    rows += [(f"  {name}", _gib(size)) for name, size in sizes.items() if size]
    rows.append(("  at the peak", _gib(memory.peak)))
    verdict = f"  fits an H200 ({_gib(H200_BYTES)} GiB)"
    if not plan.fits:
        verdict = f"  does not fit an H200 ({_gib(H200_BYTES)} GiB, a tenth left free)"
        verdict += f"; with {plan.remedy} it does" if plan.remedy else ""
    others = [
        f"{way.strategy}{' + checkpointing' if way.activation_checkpointing else ''} {_gib(way.peak)}"
        for way in plan.ways
    ]
    return "\n".join([_table(rows), verdict, f"  peak by strategy: {', '.join(others)}"])


def _time(plan: Plan) -> str:
    time = plan.time
    basis = "given"
    if time.assumed:
        basis = f"assumed: GPUs {BUSY:.0%} busy" + (
            ", twice-done work not counted" if plan.flops.recomputed else ""
        )
    rows = [
        ("time", ""),
        (f"  MFU, {basis}", f"{time.mfu:.2f}"),
        (f"  a step, at {time.peak_tflops:g} TFLOP/s a GPU", _duration(time.seconds_per_step)),
    ]
    if time.hours is not None and time.gpu_hours is not None:
        rows.append(("  the run", _duration(3600 * time.hours)))
        rows.append(("  GPU hours", f"{time.gpu_hours:,.1f}"))
    return _table(rows)


def _storage(plan: Plan) -> str:
    storage = plan.storage
    rows = [
        ("storage", "GiB"),
        ("  a checkpoint", _gib(storage.checkpoint)),
        ("  checkpoints kept, and one being written", _gib(storage.checkpoints)),
        ("  final weights", _gib(storage.weights)),
    ]
    if storage.stored_tokens is not None:
        pictures = _many(storage.stored_pictures)
        rows.append((f"  visual tokens of {pictures} pictures, if stored", _gib(storage.stored_tokens)))
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns: the first to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    return "\n".join(lines)


def _many(number: float) -> str:
    """A large number in four figures."""
    for unit, letter in _MANY:
        if number >= unit:
            return f"{number / unit:.4g} {letter}"
    return f"{number:.4g}"


def _gib(size: float) -> str:
    gib = size / 2**30
    return f"{gib:,.1f}" if gib >= 1 else f"{gib:.2g}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.3g} hours"
    return f"{seconds / 86400:.1f} days"
