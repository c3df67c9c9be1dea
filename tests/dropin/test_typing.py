"""What a user's type checker sees of the package."""

import subprocess
import sys

SCRIPT = """\
import numpy as np

import iree_migraphx as migraphx


def load(path: str) -> migraphx.program:
    program = migraphx.parse_onnx(path, map_input_dims={"x": [1, 3]}, default_dim_value=1)
    migraphx.quantize_fp16(program)
    program.compile(migraphx.get_target("ref"), offload_copy=False)
    other: migraphx.program = migraphx.compile(program, migraphx.get_target("gpu"), options=migraphx.Options(debug=1))
    report: migraphx.Report | None = other.iree_report
    shapes: dict[str, migraphx.shape] = program.get_parameter_shapes()
    assert report is not None and shapes
    with migraphx.install() as hook:
        count: int = hook.reports[0].swapped
    results: list[migraphx.argument] = program.run({"x": np.zeros((1, 3), np.float32)})
    print(count, np.asarray(results[0]), migraphx.__version__, migraphx.check(program, "gfx942").swapped)
    return migraphx.load_buffer(migraphx.save_buffer(program))
"""
MISTAKES = """\
import iree_migraphx as migraphx

program = migraphx.parse_onnx("model.onnx", map_input_dim={})
program.compile("ref")
program.complie(migraphx.get_target("ref"))
"""


def mypy(tmp_path, text):
    script = tmp_path / "script.py"
    script.write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--follow-imports=silent", str(script)]
    options = ["--python-version=3.11", f"--cache-dir={tmp_path / 'cache'}", "--config-file="]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def test_a_script_passes_strict_mypy(tmp_path):
    done = mypy(tmp_path, SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_mistakes_are_found(tmp_path):
    lines = mypy(tmp_path, MISTAKES).stdout.splitlines()
    assert [line.rpartition("[")[2] for line in lines if "error:" in line] == [
        "call-arg]",
        "arg-type]",
        "attr-defined]",
    ]
