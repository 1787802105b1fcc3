"""Configs survive YAML, and every mistake in one is named by its dotted path."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, strategies as st

from imglish.config.core import differences, from_yaml, override, to_yaml
from imglish.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Adam:
    kind: Literal["adam"] = "adam"
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate must be above 0; got {self.rate}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Momentum:
    kind: Literal["momentum"] = "momentum"
    rate: float = 0.1
    nesterov: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    num_steps: int = 10
    optimizer: Adam | Momentum = field(default_factory=Adam)
    warmup: Momentum | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    name: str
    out: Path | None = None
    level: Literal["easy", "full"] = "easy"
    limit: int | Literal["auto"] = "auto"
    sizes: tuple[int, ...] = ()
    train: Train = field(default_factory=Train)
    stages: tuple[Adam | Momentum, ...] = ()
    sources: dict[str, Train] = field(default_factory=dict)


rates = st.floats(min_value=1e-12, max_value=1e12)
adams = st.builds(Adam, rate=rates, betas=st.tuples(rates, rates))
momenta = st.builds(Momentum, rate=st.floats(allow_nan=False), nesterov=st.booleans())
trains = st.builds(Train, num_steps=st.integers(), optimizer=adams | momenta, warmup=st.none() | momenta)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
runs = st.builds(
    Run,
    name=texts | st.sampled_from(["3e-4", "null", "yes", "007", "1_000", "~"]),
    out=st.none() | st.sampled_from([Path("runs/demo"), Path("/data/1"), Path("null")]),
    level=st.sampled_from(["easy", "full"]),
    limit=st.integers() | st.just("auto"),
    sizes=st.lists(st.integers()).map(tuple),
    train=trains,
    stages=st.lists(adams | momenta, max_size=3).map(tuple),
    sources=st.dictionaries(texts, trains, max_size=2),
)


def error_of(text: str, base: Run | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        from_yaml(Run, text, "run.yaml", base)
    message = str(caught.value)
    assert "\n" not in message
    return message


@given(runs)
def test_a_config_survives_yaml(run: Run) -> None:
    assert from_yaml(Run, to_yaml(run), "run.yaml") == run


def test_yaml_lists_every_setting_in_field_order() -> None:
    lines = to_yaml(Run(name="a")).splitlines()
    assert lines[:4] == ["name: a", "out: null", "level: easy", "limit: auto"]
    assert "    kind: adam" in lines


def test_a_number_with_an_exponent_and_no_dot_is_a_number() -> None:
    run = from_yaml(Run, "name: a\ntrain: {optimizer: {kind: adam, rate: 3e-4}}", "run.yaml")
    assert run.train.optimizer.rate == 3e-4


def test_the_kind_chooses_among_dataclasses_of_a_union() -> None:
    run = from_yaml(Run, "name: a\nstages: [{kind: momentum, nesterov: true}, {kind: adam}]", "run.yaml")
    assert run.stages == (Momentum(nesterov=True), Adam())


def test_a_base_fills_what_the_text_leaves_out() -> None:
    base = Run(name="a", train=Train(num_steps=7, optimizer=Momentum(rate=0.5)))
    run = from_yaml(Run, "train: {optimizer: {nesterov: true}}", "run.yaml", base)
    assert run == Run(name="a", train=Train(num_steps=7, optimizer=Momentum(rate=0.5, nesterov=True)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Plain:
    """A member of a union that has no kind."""

    rate: float = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class WithPlain:
    optimizer: Plain | Adam | Momentum = Adam()


def test_the_member_of_a_union_without_a_kind_is_meant_where_no_kind_is_told() -> None:
    for optimizer in (Plain(rate=0.1), Adam(rate=0.1), Momentum()):
        config = WithPlain(optimizer=optimizer)
        assert from_yaml(WithPlain, to_yaml(config), "run.yaml") == config
    assert override(WithPlain(optimizer=Plain()), {"optimizer.kind": "momentum"}).optimizer == Momentum()
    # What is there already is changed, not replaced.
    assert override(WithPlain(optimizer=Momentum()), {"optimizer.rate": "3"}).optimizer == Momentum(rate=3)
    with pytest.raises(ConfigError, match=r"optimizer.kind is 'adan'; expected one of adam, momentum"):
        override(WithPlain(), {"optimizer.kind": "adan"})


def test_another_kind_takes_nothing_from_the_base() -> None:
    base = Run(name="a", train=Train(optimizer=Momentum(rate=0.5)))
    assert from_yaml(Run, "train: {optimizer: {kind: adam}}", "run.yaml", base).train.optimizer == Adam()


def test_an_empty_text_is_the_base() -> None:
    assert from_yaml(Run, "# nothing\n", "run.yaml", Run(name="a")) == Run(name="a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ntrain: {num_stpes: 3}", "train.num_stpes is not a setting; did you mean train.num_steps?"),
        ("name: a\nnum_steps: 3", "num_steps is not a setting; did you mean train.num_steps?"),
        (
            "name: a\ntrain: {zzz: 3}",
            "train.zzz is not a setting; expected one of num_steps, optimizer, warmup",
        ),
        ("level: easy", "name is missing; expected text"),
        ("name: a\ntrain: {num_steps: many}", "train.num_steps is 'many'; expected an integer"),
        ("name: a\ntrain: {num_steps: true}", "train.num_steps is True; expected an integer"),
        ("name: a\nsizes: [1, true]", "sizes is [1, True]; expected a list, each an integer"),
        ("name: 2024", "name is 2024; expected text"),
        ("name: a\nlevel: esay", "level is 'esay'; expected one of easy, full; did you mean 'easy'?"),
        ("name: a\nlimit: never", "limit is 'never'; expected an integer or one of auto"),
        ("name: a\ntrain: 3", "train is 3; expected a mapping with the settings of Train"),
        ("name: a\ntrain: {warmup: 3}", "train.warmup is 3; expected the settings of Momentum or null"),
        (
            "name: a\ntrain: {optimizer: {kind: adan}}",
            "train.optimizer.kind is 'adan'; expected one of adam, momentum; did you mean 'adam'?",
        ),
        ("name: a\nstages: [{}]", "stages.0.kind is missing; expected one of adam, momentum"),
        (
            "name: a\ntrain: {optimizer: {kind: adam, betas: [1]}}",
            "train.optimizer.betas is [1]; expected a list of 2: a number, a number",
        ),
        ("name: a\nstages: {kind: adam}", "stages is {'kind': 'adam'}; expected a list"),
        ("name: a\nsources: [1]", "sources is [1]; expected a mapping"),
        ("name: a\nsources: {web: {num_steps: x}}", "sources.web.num_steps is 'x'; expected an integer"),
        ("- 1", "Run is [1]; expected a mapping with the settings of Run"),
    ],
)
def test_a_mistake_is_named_with_its_path(text: str, message: str) -> None:
    assert error_of(text) == f"run.yaml: {message}"


def test_broken_yaml_is_a_config_error_that_names_the_line() -> None:
    assert error_of("name: [a").startswith("run.yaml: not readable as YAML: ")


def test_a_value_that_its_dataclass_refuses_is_named_with_its_path() -> None:
    assert (
        error_of("name: a\nstages: [{kind: adam, rate: -1}]")
        == "run.yaml: stages.0: rate must be above 0; got -1.0"
    )


def test_overrides_read_text_by_the_type_of_the_setting() -> None:
    changes = {
        "name": "100",
        "train.num_steps": "1000",
        "train.optimizer.rate": "3e-4",
        "train.optimizer.betas": "[0.8, 0.9]",
        "out": "null",
        "limit": "5",
        "train.warmup": "{nesterov: yes}",
    }
    run = override(Run(name="a", out=Path("x")), changes)
    optimizer = Adam(rate=3e-4, betas=(0.8, 0.9))
    train = Train(num_steps=1000, optimizer=optimizer, warmup=Momentum(nesterov=True))
    assert run == Run(name="100", limit=5, train=train)


def test_an_override_leaves_the_original_alone() -> None:
    run = Run(name="a")
    override(run, {"train.num_steps": "1"})
    assert run == Run(name="a")


def test_an_override_may_change_the_kind() -> None:
    changes = {"train.optimizer.kind": "momentum", "train.optimizer.nesterov": "true"}
    assert override(Run(name="a"), changes).train.optimizer == Momentum(nesterov=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trian.num_steps": "1"}, "override: trian is not a setting; did you mean train?"),
        (
            {"train.num_stpes": "1"},
            "override: train.num_stpes is not a setting; did you mean train.num_steps?",
        ),
        ({"train.num_steps": "1.5"}, "override: train.num_steps is '1.5'; expected an integer"),
        ({"train.optimizer.rate": "-1"}, "override: train.optimizer: rate must be above 0; got -1.0"),
        (
            {"train.num_steps.x": "1"},
            "override: train.num_steps.x is not a setting; train.num_steps is an integer",
        ),
        (
            {"train": "{}", "train.num_steps": "1"},
            "override: train.num_steps is given together with the whole of train; give one of them",
        ),
        (
            {"train.num_steps": "1", "train": "{}"},
            "override: train is given as a whole together with a part of it; give one of them",
        ),
    ],
)
def test_a_wrong_override_is_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(Run(name="a"), changes)
    assert str(caught.value) == message


def test_differences_are_listed_by_dotted_name() -> None:
    a = Run(name="a", train=Train(optimizer=Adam(rate=0.5)))
    b = Run(name="b", train=Train(optimizer=Momentum(rate=0.5)))
    assert differences(a, a) == {}
    assert differences(a, b) == {
        "name": ("a", "b"),
        "train.optimizer.kind": ("adam", "momentum"),
        "train.optimizer.betas": ((0.9, 0.98), None),
        "train.optimizer.nesterov": (None, False),
    }
