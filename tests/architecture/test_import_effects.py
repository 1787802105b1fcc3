"""What importing costs and changes, seen in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = set("torch torchvision timm numpy PIL pydantic tyro rich yaml jinja2 sentencepiece".split())
OPTIONAL = set(
    "fastapi uvicorn onnx onnxscript onnxruntime pycocoevalcap transformers faiss submitit wandb "
    "pycocotools torchmetrics webdataset scipy pytest hypothesis".split()
)


def run(code: str) -> object:
    """What a fresh interpreter prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def loaded_by(code: str) -> set[str]:
    """Top-level names of the modules that some code loads."""
    names = run(
        f"import sys, json\n{code}\nprint(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
    )
    assert isinstance(names, list)
    return set(names)


def test_import_imglish_loads_nothing_else() -> None:
    assert not loaded_by("import imglish") & (HEAVY | OPTIONAL)


def test_help_loads_no_heavy_module() -> None:
    code = "import contextlib, io\nfrom imglish.cli.main import main\n"
    code += "with contextlib.redirect_stdout(io.StringIO()):\n    assert main(['--help']) == 0"
    assert not loaded_by(code) & (HEAVY | OPTIONAL)


EVERYTHING = """
import json, os, pkgutil, sys, threading
from importlib.util import find_spec
import timm, torch, torchvision  # what they do themselves is not ours

def state():
    return [
        dict(os.environ),
        torch.get_num_threads(),
        str(torch.get_default_dtype()),
        int(torch.random.get_rng_state().sum()),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        threading.active_count(),
    ]

before, loaded = state(), set(sys.modules)
import imglish
no_triton = find_spec("triton") is None  # torch brings it where it has GPUs
for module in pkgutil.walk_packages(imglish.__path__, "imglish."):
    if no_triton and module.name.startswith("imglish.ops.deformable.triton_"):
        continue
    if module.name != "imglish.__main__" and not module.name.startswith(("imglish.serving", "imglish.hf.")):
        __import__(module.name)
new = sorted({name.partition(".")[0] for name in set(sys.modules) - loaded})
print(json.dumps({"before": before, "after": state(), "new": new}))
"""


def test_importing_every_module_changes_no_global_and_needs_no_extra() -> None:
    seen = run(EVERYTHING)
    assert isinstance(seen, dict)
    assert seen["before"] == seen["after"]
    assert not set(seen["new"]) & OPTIONAL
