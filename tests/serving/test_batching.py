"""Requests that come together are computed together, and each gets its own result."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from pathlib import Path

import httpx
import numpy as np
import pytest

from imglish.inference.predictor import Predictor
from imglish.serving.batching import Batcher, Done
from imglish.serving.settings import Batching
from tests.inference.tiny_weights import write_run
from tests.serving.test_endpoints import same
from tests.serving.tiny_server import PATIENCE, form, picture, running, small_limits


class Recorder:
    """Computes the double of numbers, and remembers the batches; the number 13 cannot be computed."""

    def __init__(self) -> None:
        self.batches: list[tuple[Hashable, list[int]]] = []
        self.begin = threading.Event()
        self.begin.set()

    def __call__(self, key: Hashable, payloads: Sequence[int]) -> list[int]:
        self.begin.wait(PATIENCE)
        self.batches.append((key, list(payloads)))
        if 13 in payloads:
            raise ValueError("13")
        return [2 * number for number in payloads]


def results(futures: Sequence[Future[Done[int]]]) -> list[int]:
    return [future.result(PATIENCE).result for future in futures]


def test_a_full_batch_does_not_wait() -> None:
    seen: list[tuple[Hashable, int]] = []
    computed = Recorder()
    batcher = Batcher([computed], Batching(size=4, wait=1e6), lambda key, size: seen.append((key, size)))
    assert results([batcher.submit("a", number) for number in range(4)]) == [0, 2, 4, 6]
    assert computed.batches == [("a", [0, 1, 2, 3])] and seen == [("a", 4)]
    batcher.close()


def test_a_batch_that_is_not_full_waits_for_its_bound() -> None:
    computed = Recorder()
    batcher = Batcher([computed], Batching(size=4, wait=0.3), lambda key, size: None)
    begun = time.monotonic()
    futures = [batcher.submit("a", number) for number in range(3)]
    assert results(futures) == [0, 2, 4]
    assert time.monotonic() - begun >= 0.3 and computed.batches == [("a", [0, 1, 2])]
    first = futures[0].result()
    assert first.queued >= 0.3 > first.computed >= 0 and first.batch == 3
    batcher.close()


def test_newcomers_do_not_put_off_the_oldest() -> None:
    computed = Recorder()
    batcher = Batcher([computed], Batching(size=1000, wait=0.2), lambda key, size: None)
    first, others = batcher.submit("a", 0), list[Future[Done[int]]]()
    while not first.done() and len(others) < 200:  # one every 20 ms, so that there is always a young one
        others.append(batcher.submit("a", 1))
        time.sleep(0.02)
    assert first.done()
    batcher.close()


def test_keys_are_not_mixed_and_who_came_first_is_first() -> None:
    computed = Recorder()
    computed.begin.clear()
    batcher = Batcher([computed], Batching(size=3, wait=0.0), lambda key, size: None)
    first = batcher.submit("z", 0)  # keeps the only thread busy
    while batcher.waiting():
        time.sleep(0.001)
    later = [batcher.submit(key, number) for number, key in enumerate("bababab")]
    assert batcher.waiting() == 7
    computed.begin.set()
    assert results([first, *later]) == [0, *(2 * n for n in range(7))]
    assert computed.batches == [("z", [0]), ("b", [0, 2, 4]), ("a", [1, 3, 5]), ("b", [6])]
    batcher.close()


def test_one_that_cannot_be_computed_does_not_hurt_the_others() -> None:
    computed = Recorder()
    batcher = Batcher([computed], Batching(size=3, wait=5.0), lambda key, size: None)
    good, bad, other = (batcher.submit("a", number) for number in (1, 13, 2))
    assert results([good, other]) == [2, 4]
    with pytest.raises(ValueError, match="13"):
        bad.result(PATIENCE)
    assert [batch for _, batch in computed.batches] == [[1, 13, 2], [1], [13], [2]]
    assert results([batcher.submit("a", number) for number in (3, 4, 5)]) == [6, 8, 10]
    batcher.close()


def test_a_result_too_few_gives_nobody_the_result_of_another() -> None:
    def lose(key: Hashable, payloads: Sequence[int]) -> list[int]:
        return [2 * number for number in payloads[:1]]

    batcher = Batcher([lose], Batching(size=2, wait=5.0), lambda key, size: None)
    for numbers in ((1, 2), (3, 4)):  # the thread lives on
        futures = [batcher.submit("a", number) for number in numbers]
        assert [future.result(30).result for future in futures] == [2 * number for number in numbers]
    batcher.close()


def test_who_gave_up_is_left_out() -> None:
    computed = Recorder()
    computed.begin.clear()
    batcher = Batcher([computed], Batching(size=2, wait=0.0), lambda key, size: None)
    first = batcher.submit("z", 0)
    while batcher.waiting():
        time.sleep(0.001)
    gone, kept = batcher.submit("a", 1), batcher.submit("a", 2)
    assert gone.cancel()
    computed.begin.set()
    assert results([first, kept]) == [0, 4]
    assert computed.batches == [("z", [0]), ("a", [2])]
    batcher.close()


def test_who_gives_up_while_it_is_computed_hurts_nobody() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def compute(key: Hashable, payloads: Sequence[int]) -> list[int]:
        entered.set()
        go_on.wait(PATIENCE)
        return list(payloads)

    batcher = Batcher([compute], Batching(size=1, wait=0.0), lambda key, size: None)
    late = batcher.submit("a", 1)
    assert entered.wait(PATIENCE) and not late.cancel()
    go_on.set()
    assert results([late, batcher.submit("a", 2)]) == [1, 2]
    batcher.close()


def test_an_idle_thread_keeps_no_picture() -> None:
    def forget(key: Hashable, payloads: Sequence[set[int]]) -> list[None]:
        return [None] * len(payloads)

    batcher = Batcher([forget], Batching(size=1, wait=0.0), lambda key, size: None)
    payload = {1}
    kept = weakref.ref(payload)
    batcher.submit("a", payload).result(PATIENCE)
    del payload
    until = time.monotonic() + 10
    while kept() is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert kept() is None
    batcher.close()


def test_closing_computes_what_was_taken_at_once() -> None:
    computed = Recorder()
    batcher = Batcher([computed, computed], Batching(size=4, wait=60.0), lambda key, size: None)
    futures = [batcher.submit("a", number) for number in range(6)]
    batcher.close()
    assert all(future.done() for future in futures) and results(futures) == [2 * n for n in range(6)]
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit("a", 1)


def test_several_workers_compute_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=PATIENCE)

    def meet(key: Hashable, payloads: Sequence[int]) -> list[int]:
        both.wait()
        return list(payloads)

    batcher = Batcher([meet, meet], Batching(size=1, wait=0.0), lambda key, size: None)
    assert results([batcher.submit("a", 1), batcher.submit("a", 2)]) == [1, 2]
    batcher.close()


# In a server


async def ask(url: str, asked: Sequence[tuple[str, dict[str, object]]]) -> list[httpx.Response]:
    """All questions at once."""
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False, limits=limits) as client:
        posts = (client.post(f"/v1/{path}", **fields) for path, fields in asked)  # type: ignore[arg-type]
        return list(await asyncio.gather(*posts))


def test_requests_share_batches_and_get_the_results_of_single_calls(runs: Path, predictor: Predictor) -> None:
    pictures = [picture(30 + number, 40 - number, seed=number) for number in range(8)]
    questions = ["what colour is the star?", "a fish", "a dog and a cat"]
    asked: list[tuple[str, dict[str, object]]] = []
    for number, one in enumerate(pictures):
        question, count = questions[number % 3], str(1 + number % 3)
        asked += [
            ("answer", dict(form(picture=one, question=question, num_answers=count))),
            ("match", dict(form(picture=one, texts=questions[: 1 + number % 3]))),
            ("classify", dict(form(picture=one, num_classes=count))),
            ("caption", dict(form(picture=one if number % 4 else b"no picture"))),
        ]
    with running(runs, batching=Batching(size=16, wait=1.0)) as server:
        answers = asyncio.run(ask(server.url, asked))
        # Eight came of each kind, and two of the captions were none.
        for task, size in (("answer", 8), ("match", 8), ("classify", 8), ("caption", 6)):
            counted = f'{{tasks="{task}"}}'
            assert server.metric(f"imglish_batch_size_sum{counted}") == size
            assert server.metric(f"imglish_batch_size_count{counted}") <= size / 2
    for number, one in enumerate(pictures):
        question, count = questions[number % 3], 1 + number % 3
        answered, matched, classified, captioned = answers[4 * number : 4 * number + 4]
        expected = [answer._asdict() for answer in predictor.answer(one, question, count)]
        same(answered.json()["result"]["answers"], expected)
        cosines = [match["similarity"] for match in matched.json()["result"]["matches"]]
        np.testing.assert_allclose(cosines, predictor.match(one, questions[:count]), atol=1e-5)
        labels = [label._asdict() for label in predictor.classify(one, num_classes=count)]
        same(classified.json()["result"]["classes"], labels)
        if number % 4:
            assert captioned.json()["result"] == {"caption": predictor.caption(one)}
        else:
            assert captioned.status_code == 415  # and nobody else's batch was hurt


def test_more_than_the_queue_takes_are_told_to_come_again(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "captioning")
    limits, batching = small_limits(queue=3), Batching(size=16, wait=1.5)
    with running(tmp_path / "run", limits=limits, batching=batching) as server:
        answers = asyncio.run(ask(server.url, [("caption", dict(form(picture=picture())))] * 12))
        statuses = sorted(answer.status_code for answer in answers)
        assert set(statuses) == {200, 503} and statuses.count(200) >= 3
        for answer in answers:
            if answer.status_code == 503:
                assert answer.headers["retry-after"] == "1" and answer.json()["error"]["code"] == "busy"
        assert server.client().post("/v1/caption", **form(picture=picture())).status_code == 200


def test_what_waits_for_its_batch_is_counted_with_its_pixels_and_its_time(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "captioning")
    with running(tmp_path / "run", batching=Batching(size=2, wait=60.0)) as server:
        answers: list[httpx.Response] = []
        asked = form(picture=picture(40, 30))
        waiting = threading.Thread(
            target=lambda: answers.append(server.client().post("/v1/caption", **asked))
        )
        waiting.start()
        until = time.monotonic() + PATIENCE
        while server.metric("imglish_queue_length") != 1 and time.monotonic() < until:
            time.sleep(0.01)
        assert server.metric("imglish_decoded_pixels") == 40 * 30
        time.sleep(0.2)
        second = server.client().post("/v1/caption", **asked).json()
        waiting.join(PATIENCE)
    seconds = answers[0].json()["seconds"]
    assert seconds["queued"] >= 0.2 and seconds["queued"] > second["seconds"]["queued"]
    assert seconds["computed"] == second["seconds"]["computed"]  # one batch


def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "captioning")
    limits, batching = small_limits(seconds=0.5), Batching(size=16, wait=5.0)
    with running(tmp_path / "run", limits=limits, batching=batching) as server:
        asked = server.client().post("/v1/caption", **form(picture=picture()))
        assert asked.status_code == 504 and asked.json()["error"]["code"] == "too_late"
        assert server.metric("imglish_decoded_pixels") == 0


def test_copies_of_the_model_answer_alike(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "captioning")
    expected = Predictor(tmp_path / "run").caption(picture())
    with running(tmp_path / "run", batching=Batching(size=1, wait=0.0), copies=2) as server:
        answers = asyncio.run(ask(server.url, [("caption", dict(form(picture=picture())))] * 8))
        assert {answer.json()["result"]["caption"] for answer in answers} == {expected}
