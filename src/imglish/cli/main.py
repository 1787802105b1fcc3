"""The command ``imglish``: finds the sub-command, runs it, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 an error the user can mend, 2 a mistake in the command line, 130 interrupted.
Nothing heavy is imported before a sub-command is known, so that ``imglish --help`` answers at once.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from imglish.cli.usage import UsageError, did_you_mean
from imglish.errors import ImglishError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One sub-command.

    Args:
        summary: What it does, for the help.
        run: Imports what it needs and does it, given the arguments after its name.
        interrupted: What to tell somebody who stopped it.
    """

    summary: str
    run: Callable[[Sequence[str]], None]
    interrupted: str = "nothing is left half written"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments after the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except UsageError as error:
        return _fail(str(error), MISUSED)
    except ImglishError as error:
        return _fail(str(error), FAILED)
    except BrokenPipeError:  # who read our output has had enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        if error.filename is not None:
            return _fail(f"{error.filename}: {error.strerror}", FAILED)
        if error.errno == errno.ENOSPC:
            return _fail(
                "no space is left on the disk; what was complete before is kept: make room, then go on",
                FAILED,
            )
        raise
    except SystemExit as stop:  # the argument parser has said what is wrong
        return (stop.code or 0) if not isinstance(stop.code, str) else FAILED
    except KeyboardInterrupt:
        print(f"\nimglish: interrupted; {COMMANDS[arguments[0]].interrupted}", file=sys.stderr)
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    """Find the sub-command and run it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text(), flush=True)
        return 0 if arguments else MISUSED
    name, *rest = arguments
    if name == "--version":
        print(f"imglish {version('imglish')}")
        return 0
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        raise UsageError(
            f"there is no {what} {name!r}{did_you_mean(name, COMMANDS) or '; see imglish --help'}"
        )
    _show_logs()
    COMMANDS[name].run(rest)
    return 0


def help_text() -> str:
    """The overview of all commands."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
    return (
        "imglish: BEiT-3 and ViT-Adapter, from pretraining to every task\n\n"
        f"usage: imglish COMMAND [OPTIONS]\n\n{lines}\n\n"
        "imglish COMMAND --help lists a command's options. New here? Run imglish demo."
    )


class _ErrorStream(logging.Handler):
    """Prints to whatever the error stream is at that moment, so that a progress bar can make room."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        print(f"imglish: {self.format(record)}", file=sys.stderr)


def _show_logs() -> None:
    """Let the package's messages reach the terminal."""
    logger = logging.getLogger("imglish")
    if not logger.handlers:
        logger.addHandler(_ErrorStream())
        logger.setLevel(logging.INFO)


def _fail(message: str, code: int) -> int:
    print(f"imglish: error: {message}", file=sys.stderr)
    return code


def _demo(arguments: Sequence[str]) -> None:
    from imglish.cli.demo import run

    run(arguments)


def _world(arguments: Sequence[str]) -> None:
    from imglish.cli.world import run

    run(arguments)


def _plan(arguments: Sequence[str]) -> None:
    from imglish.cli.plan import run

    run(arguments)


def _train(arguments: Sequence[str]) -> None:
    from imglish.cli.train import run

    run(arguments)


def _submit(arguments: Sequence[str]) -> None:
    from imglish.cli.submit import run

    run(arguments)


def _evaluate(arguments: Sequence[str]) -> None:
    from imglish.cli.evaluate import run

    run(arguments)


def _predict(arguments: Sequence[str]) -> None:
    from imglish.cli.predict import run

    run(arguments)


def _visualize(arguments: Sequence[str]) -> None:
    from imglish.cli.visualize import run

    run(arguments)


def _serve(arguments: Sequence[str]) -> None:
    from imglish.cli.serve import run

    run(arguments)


def _index(arguments: Sequence[str]) -> None:
    from imglish.cli.index import run

    run(arguments)


def _search(arguments: Sequence[str]) -> None:
    from imglish.cli.search import run

    run(arguments)


def _convert(arguments: Sequence[str]) -> None:
    from imglish.cli.convert import run

    run(arguments)


def _export(arguments: Sequence[str]) -> None:
    from imglish.cli.export import run

    run(arguments)


def _benchmark(arguments: Sequence[str]) -> None:
    from imglish.cli.benchmark import run

    run(arguments)


def _doctor(arguments: Sequence[str]) -> None:
    from imglish.cli.doctor import run

    run(arguments)


def _data(arguments: Sequence[str]) -> None:
    from imglish.cli.data import run

    run(arguments)


def _shards(arguments: Sequence[str]) -> None:
    from imglish.cli.shards import run

    run(arguments)


def _tokenize(arguments: Sequence[str]) -> None:
    from imglish.cli.tokenize import run

    run(arguments)


def _tokenizer(arguments: Sequence[str]) -> None:
    from imglish.cli.tokenizer import run

    run(arguments)


COMMANDS: dict[str, Command] = {
    "demo": Command(
        summary="see the whole method work on drawn pictures, and get a report (8 minutes, no GPU)",
        run=_demo,
        interrupted="the same command goes on where it stopped",
    ),
    "world": Command(
        summary="draw a data set with captions, questions, boxes and masks, in the published formats",
        run=_world,
    ),
    "data": Command(summary="check tables of your own data before training on them", run=_data),
    "shards": Command(
        summary="pack pictures, texts or pairs into indexed tar shards",
        run=_shards,
        interrupted="the same command goes on after the last whole tar",
    ),
    "tokenize": Command(
        summary="write the visual tokens of shards once, for pretraining to read",
        run=_tokenize,
        interrupted="the same command goes on with the tars that are not done",
    ),
    "tokenizer": Command(summary="train a text tokenizer on shards or text files", run=_tokenizer),
    "plan": Command(
        summary="say what pretraining will take: tokens, operations, memory, hours, storage", run=_plan
    ),
    "train": Command(
        summary="train a recipe",
        run=_train,
        interrupted="the same command with --resume goes on from the last checkpoint",
    ),
    "submit": Command(summary="train a recipe as a Slurm job that goes on by itself", run=_submit),
    "evaluate": Command(summary="score a trained recipe on its validation data", run=_evaluate),
    "predict": Command(
        summary="caption, ask about, classify, search, match, judge or segment your own pictures",
        run=_predict,
    ),
    "visualize": Command(
        summary="draw what a model sees: attention, words on patches, visual tokens, features", run=_visualize
    ),
    "serve": Command(
        summary="answer questions about pictures over HTTP, with a page to ask them on",
        run=_serve,
    ),
    "index": Command(
        summary="make the pictures of a folder searchable, anew or what has changed",
        run=_index,
        interrupted="the same command goes on with the pictures that are not indexed yet",
    ),
    "search": Command(
        summary="find pictures of an indexed folder by words or by a picture, and those that are double",
        run=_search,
    ),
    "convert": Command(
        summary="official weights to imglish's names, to timm's, and back",
        run=_convert,
        interrupted="nothing is left half written; a download goes on with the same command",
    ),
    "export": Command(summary="write a model as ONNX files, checked in onnxruntime", run=_export),
    "benchmark": Command(
        summary="what the paper's segmenters cost on this machine, beside its numbers", run=_benchmark
    ),
    "doctor": Command(summary="say what this machine has and what imglish would use, and why", run=_doctor),
}
