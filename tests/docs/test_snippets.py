"""Every command and snippet of README and docs/ is run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from iree_migraphx.options import Options

from .snippets import PAGES, REPOSITORY, Snippet, commands, indented, parse, snippets

ROOT = Path(sys.prefix).parent  # setup.sh's ROOT_DIR
RUNNABLE = ("bash", "python", "yaml")


def to_run(page: Path) -> list[Snippet]:
    return [snippet for snippet in snippets(page) if snippet.language in RUNNABLE]


@pytest.fixture(scope="session")
def model() -> str:
    """The tutorial's script that makes model.onnx."""
    (script,) = [s.text for s in snippets(REPOSITORY / "docs/tutorial.md") if s.detail == "make_model.py"]
    return script


@pytest.fixture
def folder(tmp_path: Path, model: str) -> Path:
    """A clone after `./setup.sh all`, with what the recipes talk about in it."""
    assert (ROOT / "env.sh").exists(), "run ./setup.sh all first"
    for path in {*REPOSITORY.iterdir(), ROOT}:
        if not path.name.startswith(".") or path == ROOT:
            (tmp_path / (".root" if path == ROOT else path.name)).symlink_to(path)
    run('python -c "$MODEL"', tmp_path, MODEL=model)
    weights = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    graph = helper.make_graph(nodes, "open", [x], [y], [weights])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "open.onnx"
    )
    script = (
        'import migraphx\nprogram = migraphx.parse_onnx("model.onnx")\nprogram.compile(migraphx.get_target("ref"))\n'
    )
    (tmp_path / "script.py").write_text(script)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text(script)
    (tmp_path / "tuned.mlir").write_text("module attributes {transform.with_named_sequence} {}\n")
    run("python -c \"from PIL import Image; Image.new('RGB', (90, 70), 'red').save('picture.png')\"", tmp_path)
    return tmp_path


def run(script: str, folder: Path, fails: bool = False, **settings: str) -> str:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("IREE_")}
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". {ROOT}/env.sh\n{script}"],
        cwd=folder, env={**environment, **settings}, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert (ended.returncode != 0) == fails, f"{script}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout + ended.stderr


def perform(snippet: Snippet, folder: Path, cache: Path) -> None:
    """Do with a snippet what its mark says."""
    # env.sh sets the cache as well, and is a part of some snippets.
    settings = f"export IREE_MIGRAPHX_CACHE_DIR={cache}\nKEY=$(ls {cache}/?? 2>/dev/null | sort | tail -1)\n"
    if snippet.mark in ("not run", "torch"):
        check_syntax(snippet)
    elif snippet.mark == "file":
        (folder / snippet.detail).write_text(snippet.text)
    elif snippet.language == "yaml":
        (folder / "settings.yaml").write_text(snippet.text)
        run(f"{settings}IREE_CONFIG=settings.yaml iree-migraphx compile model.onnx --arch gfx942 --dry-run", folder)
    elif snippet.language == "python":
        (folder / "snippet.py").write_text(snippet.text)
        interpreter = "python-virtual-gpu" if snippet.mark == "virtual gpu" else "python"
        run(f"{settings}{interpreter} snippet.py", folder)
    else:
        text = snippet.text.replace(". .root/env.sh\n", "")
        if snippet.mark == "virtual gpu":
            settings += 'iree-migraphx() { python-virtual-gpu -m iree_migraphx.cli.main "$@"; }\n'
        output = run(settings + text, folder, fails=snippet.mark == "fails")
        assert snippet.detail in output


def check_syntax(snippet: Snippet) -> None:
    """What can be said of a snippet that can't run here; the comment in front of it says why."""
    assert snippet.detail or snippet.mark == "torch", f"{snippet.page}: say why this is not run: {snippet.text}"
    if snippet.language == "python":
        compile(snippet.text, snippet.page, "exec")
    elif snippet.language == "yaml":
        yaml.safe_load(snippet.text)
    else:
        subprocess.run(["bash", "-n", "-c", snippet.text], check=True)
        for words in commands(snippet):
            if words[0] == "iree-migraphx":
                told = run(f"iree-migraphx {words[1]} --help", REPOSITORY)
                assert [word for word in words if word.startswith("--") and word not in told] == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "README.md" and to_run(page)], ids=lambda p: p.name
)
def test_page(page: Path, folder: Path, kernel_options: Options, tmp_path_factory: pytest.TempPathFactory) -> None:
    # The page on caches clears the one it has.
    cache = tmp_path_factory.mktemp("cache") if page.name == "cache.md" else kernel_options.cache_dir
    if page.name == "cache.md":
        run(f"IREE_MIGRAPHX_CACHE_DIR={cache} iree-migraphx compile model.onnx --ref", folder)
    for snippet in to_run(page):
        perform(snippet, folder, cache)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language_and_a_fence(page: Path) -> None:
    assert {snippet.language for snippet in snippets(page)} <= {*RUNNABLE, "text"}
    # What is indented otherwise is a drawing.
    assert [line for line in indented(page) if not line.startswith("parse ─►")] == []


def test_blocks_are_found_with_their_marks() -> None:
    text = "a\n\n```bash\nls\n```\n\n<!-- file: a.py -->\n```python\nx = 1\n```\n"
    text += "<!-- not run: no GPU -->\n```bash\nls\n```\n"
    assert parse("p", text) == [
        Snippet("p", "bash", "ls\n"),
        Snippet("p", "python", "x = 1\n", "file", "a.py"),
        Snippet("p", "bash", "ls\n", "not run", "no GPU"),
    ]
    with pytest.raises(ValueError, match="nobody knows"):
        parse("p", "<!-- skip -->\n```bash\nls\n```\n")


def test_a_snippet_that_does_not_work_is_noticed(folder: Path, tmp_path: Path) -> None:
    for bad in (
        Snippet("p", "bash", "iree-migraphx compile nothing.onnx --ref\n"),
        Snippet("p", "python", "import iree_migraphx\niree_migraphx.no_such_name\n"),
        Snippet("p", "yaml", "no_such_setting: 1\n"),
        Snippet("p", "bash", "true\n", "fails", "text"),
        Snippet("p", "bash", "iree-migraphx compile model.onnx --no-such-flag\n", "not run", "a reason"),
        Snippet("p", "bash", "true\n", "not run"),
    ):
        with pytest.raises(AssertionError):
            perform(bad, folder, tmp_path)
