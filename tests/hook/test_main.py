"""python -m iree_migraphx, against python itself."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """\
import sys

import numpy as np

import migraphx

program = migraphx.parse_onnx(sys.argv[1])
program.compile(migraphx.get_target("ref"))
x = np.random.default_rng(1).standard_normal((1, 4, 6, 6), np.float32)
np.save(sys.argv[2], np.array(program.run({"x": x})[0]))
print(program.get_parameter_names(), migraphx.__version__[:4])
"""
ODDITIES = """\
import atexit, os, sys
import neighbour
print(__name__, __file__, sys.argv, sys.path[0], neighbour.__name__, sys.modules["__main__"].__file__)
atexit.register(lambda: print("at exit", __name__, sys.argv[1:]))
if "fail" in sys.argv:
    def deep():
        raise KeyError("gone")
    deep()
sys.exit(7)
"""


def python(*arguments, folder=None, path=()):
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [here, *map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "IREE_MIGRAPHX_QUIET": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def cached(monkeypatch, kernel_options):
    monkeypatch.setenv("IREE_MIGRAPHX_CACHE_DIR", str(kernel_options.cache_dir))


def test_a_script_for_plain_migraphx_computes_the_same(tmp_path, onnx_file, rocm_folder, cached):
    """Unchanged under the hook, with ROCm's module and without it, and with nothing but the import swapped."""
    script, swapped = tmp_path / "plain.py", tmp_path / "swapped.py"
    script.write_text(SCRIPT)
    swapped.write_text(SCRIPT.replace("import migraphx", "import iree_migraphx as migraphx"))
    hook = ["-m", "iree_migraphx", "--report", tmp_path / "reports.json"]
    runs = {
        "plain": ([script], [rocm_folder]),
        "hook": ([*hook, script], []),
        "hook on ROCm's": ([*hook, script], [rocm_folder]),
        "swapped": ([swapped], []),
        "swapped on ROCm's": ([swapped], [rocm_folder]),
    }
    outputs = {}
    for name, (command, path) in runs.items():
        done = python(*command, onnx_file, tmp_path / "y.npy", path=path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "['x'] 2.14\n", ""), name
        outputs[name] = np.load(tmp_path / "y.npy")
        if "hook" in name:
            (report,) = json.loads((tmp_path / "reports.json").read_text())
            assert report["summary"]["iree"] == report["summary"]["eligible"] == 2
            (tmp_path / "reports.json").unlink()
    plain = outputs.pop("plain")
    for name, output in outputs.items():
        np.testing.assert_allclose(output, plain, rtol=1e-5, atol=1e-5, err_msg=name)
        assert output.tobytes() != plain.tobytes(), f"{name}: not IREE's kernels"


@pytest.mark.parametrize("end", ["exit", "fail"])
@pytest.mark.parametrize("how", ["file", "module"])
def test_a_script_runs_as_python_runs_it(tmp_path, how, end):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/odd.py").write_text(ODDITIES)
    (tmp_path / "scripts/neighbour.py").write_text("")
    command, folder = (["scripts/odd.py"], tmp_path) if how == "file" else (["-m", "odd"], tmp_path / "scripts")
    expected = python(*command, end, "--report", folder=folder)
    done = python("-m", "iree_migraphx", *command, end, "--report", folder=folder)
    assert done.returncode == expected.returncode == (7 if end == "exit" else 1)
    assert done.stdout == expected.stdout
    assert "at exit __main__" in done.stdout
    if how == "file":
        assert done.stderr == expected.stderr
    else:  # python shows its own frames there
        assert expected.stderr.endswith(done.stderr.partition("(most recent call last):\n")[2])


@pytest.mark.parametrize("packed", [False, True])
def test_folders_and_zip_files_run(tmp_path, packed):
    import shutil

    (tmp_path / "app").mkdir()
    (tmp_path / "app/__main__.py").write_text("import part, sys; print(__name__, part.here, sys.argv[1:])")
    (tmp_path / "app/part.py").write_text("here = True")
    app = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "app") if packed else tmp_path / "app"
    done = python("-m", "iree_migraphx", app, "x")
    assert (done.returncode, done.stdout) == (0, "__main__ True ['x']\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no script named"),
        (["nowhere.py"], "can't open file"),
        (["--reports", "x"], "unknown option --reports"),
        (["--report"], "--report needs a value"),
        (["-m"], "-m needs a value"),
    ],
)
def test_mistakes_in_the_command_are_told(tmp_path, arguments, said):
    done = python("-m", "iree_migraphx", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "usage: python -m iree_migraphx" in done.stderr


def test_the_report_is_written_though_the_script_fails(tmp_path):
    (tmp_path / "fail.py").write_text("raise SystemExit('no')")
    done = python("-m", "iree_migraphx", "--report=r.json", "fail.py", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "no\n")
    assert json.loads((tmp_path / "r.json").read_text()) == []
