"""A made-up run that fills every part of the report."""

from __future__ import annotations

import math

from imglish.evaluation.results import (
    Answer,
    CaptionExample,
    ClassScore,
    Codebook,
    Curve,
    DemoResults,
    Gallery,
    Half,
    Machine,
    MaskedAccuracy,
    MaskedExample,
    Match,
    Picture,
    QuestionKind,
    Score,
    SearchExample,
    SegmentationExample,
    Stage,
    StatementExample,
    TaskResult,
    VqaExample,
    Word,
)

# One grey pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="


def picture(label: str) -> Picture:
    return Picture(png=PNG, label=label)


def falling(name: str, start: float, end: float, count: int) -> Curve:
    """A loss that falls with ripples."""
    points = (
        (10 * i, end + (start - end) * math.exp(-i / 12) + 0.08 * math.sin(i * i))
        for i in range(1, count + 1)
    )
    return Curve(name=name, points=tuple(points))


def stage(name: str, half: Half, *curves: Curve) -> Stage:
    return Stage(
        name=name,
        half=half,
        purpose=f"What {name.lower()} is good for, in a sentence.",
        seconds=47.25,
        steps=600,
        samples=38400,
        status="shortened" if name == "Visual tokenizer" else "finished",
        curves=curves,
    )


def stages() -> tuple[Stage, ...]:
    pair = falling("pretrained", 2.0, 0.4, 40), falling("from scratch", 2.2, 1.1, 40)
    return (
        stage("Contrastive teacher", "nothing", falling("loss", 4.2, 0.9, 60)),
        stage("Visual tokenizer", "nothing", falling("loss", 1.0, 0.3, 20)),
        stage(
            "Masked data modelling",
            "nothing",
            falling("pictures", 5.5, 4.0, 60),
            falling("texts", 6.0, 2.0, 60),
            falling("pairs", 7.0, 3.1, 60),
        ),
        stage("Answering", "weights", *pair),
        stage(
            "Captioning",
            "weights",
            Curve(name="pretrained", points=((10, 1.25),)),
            Curve(name="from scratch", points=()),
        ),
    )


def tasks() -> tuple[TaskResult, ...]:
    return (
        TaskResult(
            name="Teacher's retrieval",
            half="nothing",
            how="Among 500 validation pairs.",
            scores=(Score(name="text to picture, R@1", pretrained=0.41, chance=0.002, target=0.04),),
        ),
        TaskResult(
            name="Visual question answering",
            half="weights",
            how="Fusion encoder over picture and question.",
            scores=(
                Score(
                    name="accuracy",
                    pretrained=0.7125,
                    scratch=0.381,
                    chance=0.0312,
                    no_picture=0.3649,
                    target=0.6149,
                    target_note="25 points above question-only",
                ),
            ),
            question_kinds=(
                QuestionKind(name="colour", count=400, prior=0.171, pretrained=0.84, scratch=0.21),
                QuestionKind(name="count", count=180, prior=0.552, pretrained=0.551, scratch=0.553),
            ),
        ),
        TaskResult(
            name="Retrieval",
            half="weights",
            how="Two towers, 500 pairs.",
            scores=(
                Score(name="text to picture, R@1", pretrained=0.634, scratch=0.622, chance=0.002, target=0.5),
                Score(
                    name="swapped captions rejected", pretrained=0.571, scratch=0.655, chance=0.5, target=0.8
                ),
            ),
        ),
        TaskResult(
            name="Captioning",
            half="weights",
            how="Beam search of 3.",
            scores=(
                Score(name="things named", pretrained=0.68, scratch=0.11, target=0.6),
                Score(name="CIDEr", pretrained=1.92, scratch=0.7345, unit="number"),
            ),
        ),
        TaskResult(
            name="Semantic segmentation",
            half="weights",
            how="At stride 4.",
            scores=(Score(name="mean IoU", pretrained=0.742, scratch=0.477, target=0.6),),
            classes=(
                ClassScore(name="sky", group="stuff", pretrained=0.971, scratch=0.953),
                ClassScore(name="star", group="thing", pretrained=0.512, scratch=None),
            ),
        ),
    )


def gallery() -> Gallery:
    return Gallery(
        masked=(
            MaskedExample(
                pictures=tuple(picture(label) for label in ("picture", "hidden", "guessed", "true tokens")),
                words=(Word(text="a"), Word(text="red", guess="red"), Word(text="star", guess="moon")),
                right=11,
                hidden=26,
            ),
        ),
        vqa=(
            VqaExample(
                picture=picture("scene"),
                question="what colour is the <star>?",
                truth="red",
                answers=(Answer(text="red", probability=0.875), Answer(text="blue", probability=0.0625)),
            ),
        ),
        statements=(
            StatementExample(
                left=picture("left"),
                right=picture("right"),
                statement="both pictures show a <star>",
                truth=False,
                probability=0.273,
            ),
        ),
        search=(
            SearchExample(
                query="a red star on the grass",
                matches=(
                    Match(picture=picture("first"), similarity=0.823, right=False),
                    Match(picture=picture("second"), similarity=0.791, right=True),
                ),
                rank=2,
            ),
        ),
        captions=(
            CaptionExample(
                picture=picture("scene"),
                caption="a red star",
                truth="a red star and a small blue fish",
                named=1,
                things=2,
                scratch="a green tree",
            ),
        ),
        segmentation=(
            SegmentationExample(
                picture=picture("picture"),
                truth=picture("truth"),
                prediction=picture("prediction"),
                mean_iou=0.613,
            ),
        ),
        class_colours=(("sky", "#87ceeb"), ("star", "#d62728")),
    )


def example_results() -> DemoResults:
    return DemoResults(
        command="imglish demo --minutes 8",
        date="2026-11-21",
        commit="1a2b3c4",
        seed=0,
        seconds=462.5,
        settings={"picture size": "64", "level": "easy"},
        machine=Machine(
            processor="a processor",
            cores=2,
            memory_gb=7.75,
            device="cpu",
            precision="float32",
            python="3.11.7",
            torch="2.14.0",
        ),
        stages=stages(),
        codebook=Codebook(size=512, usage=0.9375, perplexity=301.4),
        masked=(
            MaskedAccuracy(name="pictures: visual tokens", accuracy=0.124, unigram=0.051, count=13312),
            MaskedAccuracy(name="texts: words", accuracy=0.342, unigram=0.342, count=1800),
        ),
        tasks=tasks(),
        gallery=gallery(),
    )
