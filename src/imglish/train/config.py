"""Settings of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW.

    Args:
        lr: Peak learning rate.
        betas: Decay of the two moments.
        eps: Added to the root of the second moment.
        weight_decay: Of matrices; vectors, biases and the model's own exceptions are not decayed.
        layer_decay: Learning rate of each layer relative to the one above it, in (0, 1]; the head has ``lr``.
        head_lr_scale: Factor on the learning rate of a new classification head, of a segmenter's neck and
            heads. The released code ignores it where layers decay, so the two exclude each other.
        decay_by: What says which weights decay: ``shape``, as above, or, of segmenters and detectors,
            ``name``, the rule of the official configs without layer decay: biases, norms and the tables of
            positions and levels do not, other vectors do; nor do biases of the heads take part in
            ``head_lr_scale``.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    head_lr_scale: float = 1.0
    decay_by: Literal["shape", "name"] = "shape"

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be positive; got {self.lr}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must lie in (0, 1]; got {self.layer_decay}")
        if self.head_lr_scale <= 0:
            raise ValueError(f"head_lr_scale must be positive; got {self.head_lr_scale}")
        if self.layer_decay < 1 and self.head_lr_scale != 1:
            raise ValueError(
                f"layer_decay {self.layer_decay} and head_lr_scale {self.head_lr_scale} exclude each other; "
                "set one of them to 1"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Linear warmup, then a cosine, a line or steps.

    Args:
        kind: ``cosine`` falls slowly at both ends; ``linear`` falls evenly and reaches ``final_lr``; ``poly``
            is the line of segmentation's recipes, which goes on during the warmup: that is a factor from
            ``warmup_lr`` over ``lr`` to 1 on it, and ``final_lr`` would be the rate after the last step;
            ``step`` is that of detection's recipes: a tenth after each of ``drops``.
        warmup_steps: Steps from ``warmup_lr`` to the peak.
        warmup_epochs: The same in passes over the training data; where it is not 0 it decides.
        warmup_lr: Learning rate of the first step, where there is a warmup.
        final_lr: Learning rate that the schedule runs towards; ``step`` has none.
        drops: Of ``step``: shares of the run, ascending in (0, 1), after each of which the rate is a tenth.
    """

    kind: Literal["cosine", "linear", "poly", "step"] = "cosine"
    warmup_steps: int = 0
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0
    final_lr: float = 1e-6
    drops: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.drops) != (self.kind == "step") or list(self.drops) != sorted(set(self.drops)):
            raise ValueError(f"drops belong to kind step and ascend; got kind {self.kind}, {self.drops}")
        if any(not 0 < share < 1 for share in self.drops):
            raise ValueError(f"drops must lie in (0, 1); got {self.drops}")
        for name in ("warmup_steps", "warmup_epochs", "warmup_lr", "final_lr"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One run of the loop.

    Args:
        num_steps: Optimiser updates.
        num_epochs: Length in passes over the training data, whole batches only; where it is not 0 it decides.
        grad_accumulation: Batches (micro steps) of one update.
        max_grad_norm: Gradients are scaled down to this norm; 0 leaves them.
        precision: ``bf16`` computes under autocast; ``auto`` does so where the device has it. ``bf16_params``
            has weights, activations and gradients in bf16 throughout, and updates an fp32 copy of the
            weights, which is what lies on the ranks, is averaged, scored and saved: activations take half the
            memory, weights are cast once a pass and travel as half the bytes. It goes with ``fsdp2``, also on
            one GPU. A run may be resumed with another precision.
        device: ``auto`` takes a GPU where there is one.
        strategy: ``auto`` is ``ddp`` under torchrun with several ranks, else ``single``, and ``fsdp2`` where
            ``precision`` is ``bf16_params``; ``fsdp2`` spreads weights, gradients and optimiser state over
            the ranks. A run may be resumed with another one.
        activation_checkpointing: True computes each block twice and keeps only what goes into it.
        compile: True compiles each block with `torch.compile`.
        ema_decay: Decay of the averaged weights; 0 keeps none.
        on_nonfinite: What a loss that is no number does: ``stop`` the run, or ``skip`` the update.
        log_every: Steps between two lines of the log.
        evaluate_every: Steps between two evaluations on the way; 0 has none. The end is always scored.
        save_every: Steps between two checkpoints; 0 saves at the end only.
        keep_checkpoints: How many are kept.
        save_in_background: True copies the state and writes it while training goes on.
        num_workers: Processes that make batches; 0 makes them in the training process.
        seed: Of weights, order of data and every random draw.
        tensorboard: True writes TensorBoard files beside the JSONL log.
    """

    num_steps: int = 100
    num_epochs: float = 0.0
    grad_accumulation: int = 1
    max_grad_norm: float = 3.0
    precision: Literal["auto", "fp32", "bf16", "bf16_params"] = "auto"
    device: str = "auto"
    strategy: Literal["auto", "single", "ddp", "fsdp2"] = "auto"
    activation_checkpointing: bool = False
    compile: bool = False
    ema_decay: float = 0.0
    on_nonfinite: Literal["stop", "skip"] = "stop"
    log_every: int = 10
    evaluate_every: int = 0
    save_every: int = 0
    keep_checkpoints: int = 2
    save_in_background: bool = False
    num_workers: int = 0
    seed: int = 0
    tensorboard: bool = True

    def __post_init__(self) -> None:
        for name in ("num_steps", "grad_accumulation", "log_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("num_epochs", "evaluate_every", "save_every", "num_workers", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")
        if self.precision == "bf16_params" and self.strategy in ("single", "ddp"):
            raise ValueError(
                f"precision bf16_params goes with strategy fsdp2, also on one GPU; got {self.strategy}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1); got {self.ema_decay}")
