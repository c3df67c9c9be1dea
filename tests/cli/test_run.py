"""compile, run, perf and verify on a small model, with the real MIGraphX and the real compiler."""

import json
import re

import numpy as np
import pytest

import iree_migraphx as migraphx
from iree_migraphx.cli import trial, verify
from iree_migraphx.cli.comparison import judged
from iree_migraphx.cli.instruction_times import read_trace
from iree_migraphx.cli.times import Times
from iree_migraphx.cli.values import all_values, generate
from splice.models import X, expected


def test_compile_prints_a_line_for_each_kernel(command, model):
    out, err = command("compile", model, "--ref")
    header, *lines = out.splitlines()
    assert header.split()[:2] == ["count", "operators"]
    assert {tuple(line.split()[1:]) for line in lines} == {("convolution", "add", "relu", "1x4x12x12", "float", "iree")}
    assert sum(int(line.split()[0]) for line in lines) == 3
    assert "3 of 3 subgraphs on IREE (host)" in err
    first, *_, last = err.splitlines()
    assert first.startswith("Running [ MIGraphX Version: 2.")
    assert "Complete(" in last


def test_compile_for_devices_alone(command, model, tmp_path):
    out, err = command("compile", model, "--arch", "gfx942", "--arch", "gfx1100", "--report", tmp_path / "r.json")
    assert out.count("accepted") == 2
    assert "on IREE" not in err
    report = json.loads((tmp_path / "r.json").read_text())
    assert [report["arch"], *(check["arch"] for check in report["checks"])] == ["gfx942", "gfx1100"]


def test_a_dry_run_compiles_nothing(command, model, tmp_path):
    out, err = command("compile", model, "--dry-run", "--cache-dir", tmp_path / "empty")
    assert out.splitlines()[1].endswith("undecided")
    assert re.search(r"3 subgraphs for IREE \(host\), (\d) distinct kernels; 0 in the cache, \1 to be compiled", err)
    assert not list(tmp_path.glob("empty/??/*"))
    command("compile", model)
    assert re.search(r"(\d) distinct kernels; \1 in the cache, 0 to be compiled", command("run", model, "--dry-run")[1])
    assert "in the cache" in command("compile", model, "--dry-run")[0]


def test_compile_calibrates_on_inputs_that_are_made_up(command, model):
    out, err = command("compile", model, "--ref", "--int8", "--dry-run", "--seed", 3)
    assert "dequantizelinear convolution add relu" in " ".join(out.split())
    assert "Quantizing to int8" in err


def test_strict(command, model, monkeypatch):
    command("compile", model, "--strict")
    monkeypatch.setenv("IREE_MIGRAPHX_TIMEOUT", "0.01")
    monkeypatch.setenv("IREE_MIGRAPHX_CACHE", "0")
    error = command("compile", model, "--strict", status=3)[1]
    assert error.count("--strict: convolution_add_relu_") == 3
    assert "timeout" in error
    command("compile", model)


def test_verify_while_compiling(command, model, monkeypatch, tmp_path):
    command("compile", model, "--verify", "--strict")
    from iree_migraphx.splice.compare import Tolerance

    monkeypatch.setattr(Tolerance, "problem", lambda *_: "all of it")
    error = command("run", model, "--verify", status=4)[1]
    assert "convolution_add_relu_1: wrong-result: all of it" in error


@pytest.mark.parametrize("words", [["--strict"], ["--arch", "gfx942"]])
def test_no_iree_and_what_needs_it(words, command, model):
    assert "leaves nothing to do" in command("compile", model, "--no-iree", *words, status=2)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arch", "gfx924"], "did you mean gfx942"),
        (["--report", "report.xml"], "must end in .json"),
        (["--output", "out.mxr"], "can't be saved"),
        (["--output", "out.mxr", "--dry-run"], "no program is made"),
        (["--output", "out.mxr", "--arch", "gfx942"], "no program is made"),
        (["--cpu"], "no target 'cpu'"),
    ],
)
def test_compile_with_arguments_that_do_not_fit(words, message, command, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in command("compile", model, *words, status=2)[1]
    assert not list(tmp_path.iterdir())


def test_no_iree_saves_migraphxs_program(command, model, tmp_path):
    command("compile", model, "--no-iree", "--output", tmp_path / "plain.mxr", "--enable-offload-copy")
    assert migraphx.load(tmp_path / "plain.mxr").is_compiled()
    assert "output_0" in command("run", tmp_path / "plain.mxr")[0]
    assert "is compiled already" in command("compile", tmp_path / "plain.mxr", status=2)[1]
    assert "is compiled already, so --fp16 can't be" in command("run", tmp_path / "plain.mxr", "--fp16", status=2)[1]


def test_run_gives_the_models_results(command, model, tmp_path):
    np.save(tmp_path / "x.npy", X)
    words = ["--load-arg", "@x", tmp_path / "x.npy", "--output", tmp_path / "out.npz"]
    out, _ = command("run", model, *words)
    assert "output_0  1x4x12x12  float32" in out
    (wanted,) = expected(model.read_bytes(), {"x": X})
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["output_0"], wanted, rtol=1e-4, atol=1e-5)


def test_run_as_json(json_of, model):
    zeros, ones = json_of("run", model, "--fill0", "x"), json_of("run", model, "--fill1", "x")
    assert zeros["outputs"][0]["shape"] == [1, 4, 12, 12]
    assert zeros["outputs"][0]["max"] != ones["outputs"][0]["max"]
    assert zeros["reports"][0]["summary"]["iree"] == 3
    assert json_of("run", model, "--fp16", "--no-iree")["reports"][0]["reason"] == "disabled"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fill0", "y"], "the model has no input 'y'"),
        (["--fill0", "x", "--fill1", "x"], "is given twice"),
        (["--load-arg", "x"], "--load-arg has 'x'"),
        (["--load-arg", "@x"], "names no file"),
        (["--load-arg", "@x", "nowhere.npy"], "can't read nowhere.npy"),
        (["--load-arg", "@x", __file__], "test_run.py"),
        (["--output", "out.txt"], "must end in .npz"),
    ],
)
def test_values_that_can_not_be(words, message, command, model):
    assert message in command("run", model, *words, status=2)[1]


def test_made_up_values_do_not_depend_on_those_given():
    shapes = {name: migraphx.shape(type="float", lens=[2, 2]) for name in "ab"}
    both, one = all_values({}, shapes, 5), all_values({"a": np.ones((2, 2), np.float32)}, shapes, 5)
    np.testing.assert_array_equal(both["b"], one["b"])
    assert set(generate(migraphx.shape(type="int64_type", lens=[50]), np.random.default_rng(0))) == {0, 1}


def test_perf_compares_both(json_of, command, model):
    measured = json_of("perf", model, "-n", 5)
    assert [measured[who]["runs"] for who in ("iree", "migraphx")] == [5, 5]
    assert measured["ratio"] == measured["migraphx"]["median"] / measured["iree"]["median"]
    assert measured["note"] == ""
    for who, name in (("iree", "iree_convolution_add_relu_"), ("migraphx", "ref::convolution")):
        kinds = {each["name"]: each["count"] for each in measured[who]["groups"]}
        assert sum(count for kind, count in kinds.items() if kind.startswith(name)) == 3
        assert all(each["seconds"] > 0 for each in measured[who]["instructions"])


def test_perf_prints_what_the_driver_does(command, model):
    out, _ = command("perf", model, "-n", 2, "--batch", 2, "--detailed")
    assert out.count("Batch size: 2\nRate: ") == 2
    assert "Ratio: IREE is " in out
    line = r"@\d+ = ref::convolution\[.*\]\(x,@\d+\) -> float_type, \{1, 4, 12, 12\}, .*: [\d.e-]+ms, \d+%"
    assert re.search(line, out)
    assert re.search(r"\nSummary:\n(.+: [\d.e-]+ms / \d+ = [\d.e-]+ms, \d+%\n)+\nBatch size", out)
    assert re.search(r"\nref::convolution<float_type\(1x4x12x12, 4x4x3x3\)>: .* / 3 = ", out)
    assert re.search(r"\niree_convolution_add_relu_[0-9a-f]{8}<float_type\(1x12x12x4\)>: ", out)
    assert len(re.findall(r"\nTotal instructions time: .*ms\nOverhead time: .*ms\nOverhead: -?\d+%", out)) == 2


def test_perf_says_why_there_are_no_instructions(json_of, model, monkeypatch):
    monkeypatch.setenv("IREE_MIGRAPHX_CACHE", "0")
    assert "without the cache" in json_of("perf", model, "-n", 1, "--plain-limit", 0)["note"]
    monkeypatch.delenv("IREE_MIGRAPHX_CACHE")
    monkeypatch.setattr(trial, "_CHILD", "import sys; sys.exit('out of order')")
    measured = json_of("perf", model, "-n", 1, "--plain-limit", 0)
    assert measured["note"].endswith("could not be had: out of order")
    assert measured["iree"]["runs"] == 1


TRACE = """\
Run instruction: x = @param:x -> float_type, {1, 2}, {2, 1}
Time: 9ms, 9ms
iree-migraphx: warm
Run instruction: x = @param:x -> float_type, {1, 2}, {2, 1}
Time: 0.5ms, 1e-3ms
Run instruction: @1 = loop[max_iterations=2](x), [body] -> float_type, {2, 3}, {1, 2}
Run instruction: body:@0 = gpu::code_object[code_object=9,symbol_name=iree_dot_1,](x,@1) -> int8_type, {}, {}
Time: 1ms, 2ms
Run instruction: body:@0 = gpu::code_object[code_object=9,symbol_name=iree_dot_1,](x,@1) -> int8_type, {}, {}
Time: 1ms, 4ms
Time: 7ms, 8ms
"""


def test_times_of_instructions_are_read_from_what_migraphx_prints():
    found = read_trace(TRACE.splitlines(keepends=True), detailed=False)
    assert [(each.group, each.seconds) for each in found.times] == [
        ("@param", 1e-6),
        ("gpu::code_object::iree_dot_1", pytest.approx(0.003)),
        ("loop", 0.008),
    ]
    detailed = read_trace(TRACE.splitlines(), detailed=True)
    assert detailed.times[1].group == "gpu::code_object::iree_dot_1<int8_type(1x2, 2x3:1x2)>"


def test_perf_of_each_kernel(json_of, command, model):
    words = ["perf", model, "-n", 3, "--plain-limit", 0, "--no-instructions", "--kernels"]
    kernels = json_of(*words)["kernels"]
    assert sum(kernel["subgraphs"] for kernel in kernels) == 3
    weights = [kernel["seconds"] * kernel["subgraphs"] for kernel in kernels]
    assert weights == sorted(weights, reverse=True)
    for kernel in kernels:
        assert kernel["gigaflops"] == pytest.approx((2 * 144 * 144 + 2 * 576) / kernel["seconds"] / 1e9)
    assert "Summary of IREE's kernels" in command(*words)[0]
    assert "--kernels times IREE's kernels for the CPU" in command(*words, "--no-iree", status=2)[1]


def test_perf_without_migraphx_alone(json_of, model):
    measured = json_of("perf", model, "-n", 2, "--plain-limit", 0, "--no-instructions")
    assert "instructions" not in measured["iree"]
    assert measured["migraphx"] is measured["ratio"] is None
    assert "--plain-limit 0" in measured["note"]


def test_perf_says_that_migraphx_was_too_slow(json_of, model, monkeypatch):
    monkeypatch.setattr(trial, "_START", 0.0)
    measured = json_of("perf", model, "-n", 2, "--plain-limit", 0.05, "--no-instructions")
    assert "did not run once within 0.05 s" in measured["note"]
    assert measured["ratio"] is None


def test_perf_of_a_program_without_iree(json_of, model):
    measured = json_of("perf", model, "-n", 2, "--no-iree", "--no-instructions")
    assert measured["iree"] is None
    assert "IREE computes nothing in this program" in measured["note"]


def test_statistics_are_the_drivers():
    times = Times.of([5.0, 1.0, 2.0, 3.0, 100.0])
    assert (times.total, times.median, times.min, times.max, times.mean) == (10 / 3, 3.0, 1.0, 100.0, 22.2)
    assert (times.percentile_90, times.percentile_99) == (5.0, 5.0)


def test_verify(json_of, command, model):
    found = json_of("verify", model, "--seeds", 2, "--onnxruntime")
    kinds = [(each["name"], each["against"], each["seed"]) for each in found["comparisons"]]
    assert kinds[:2] == [("convolution_add_relu_1", "migraphx", seed) for seed in (0, 1)]
    assert kinds[-4:] == [("output_0", who, seed) for seed in (0, 1) for who in ("migraphx", "onnxruntime")]
    kernels = found["reports"][0]["summary"]["distinct"]
    assert len(kinds) == 2 * kernels + 4
    assert all(each["provider"] == "iree" and not each["problem"] for each in found["comparisons"])
    assert len({each["largest"] for each in found["comparisons"][:2]}) == 2
    out, _ = command("verify", model, "--seeds", 1, "--subgraph", "convolution_add_relu_1")
    assert out.splitlines()[-1] == "1 comparisons passed, 0 failed, 0 not made"


def test_verify_finds_a_difference(json_of, command, model, monkeypatch):
    found = json_of("verify", model, "--whole", "--rms-tol", 1e-12, status=4)
    assert "RMS difference" in found["comparisons"][0]["problem"]
    right = verify.LoneKernel.run
    monkeypatch.setattr(verify.LoneKernel, "run", lambda self, memory: right(self, memory) + np.float32(0.01))
    out, _ = command("verify", model, "--subgraph", "convolution_add_relu_1", "--seeds", 1, status=4)
    assert "FAILED: 576 of 576 elements differ" in out


def test_verify_says_what_was_not_compared(json_of, model):
    found = json_of("verify", model, "--limit", 0)
    assert found["comparisons"] == []
    first, *_, last = found["not_compared"]
    assert (first, last) == ("convolution_add_relu_1", "the model")


def test_verify_does_not_begin_what_would_take_too_long(json_of, model, monkeypatch):
    # 62208 multiplications and as many additions, at the ref target's 0.1 microseconds each.
    found = json_of("verify", model, "--whole", "--limit", 0.01)
    why = "it would take MIGraphX's ref target about 0.0124 s, and 0.01 of 0.01 s are left (--limit)"
    assert found["not_compared"] == {"the model": why}
    assert json_of("verify", model, "--whole", "--limit", 60, "--seeds", 1)["not_compared"] == {}


def test_verify_a_program_that_was_compiled_before(json_of, command, model, tmp_path):
    command("compile", model, "--ref", "--no-iree", "-o", tmp_path / "c.mxr")
    found = json_of("verify", model, "--ref", "-c", tmp_path / "c.mxr", "--seeds", 1)
    assert [(each["provider"], each["largest"]) for each in found["comparisons"]] == [("the file", 0.0)]
    command("read", model, "-o", tmp_path / "r.mxr")
    assert "r.mxr is not compiled" in command("verify", model, "-c", tmp_path / "r.mxr", status=2)[1]
    assert "as a whole" in command("verify", model, "-c", tmp_path / "c.mxr", "--subgraph", "s", status=2)[1]


def test_nan_and_infinities_are_compared():
    bounds = {"rms_tol": 1.0, "atol": 0.1, "rtol": 0.1}
    wanted = np.array([1.0, np.nan, np.inf, -np.inf], np.float32)

    def problem(*values):
        return judged("o", "migraphx", 0, "iree", np.array(values, np.float32), wanted, bounds).problem

    assert problem(1.0, np.nan, np.inf, -np.inf) == ""
    for wrong in ([1, 0, np.inf, -np.inf], [1, np.nan, 9, -np.inf], [1, np.nan, np.inf, np.inf], [np.nan] * 4):
        assert "elements; [" in problem(*wrong), wrong


def test_verify_with_arguments_that_do_not_fit(command, model, tmp_path):
    assert "leave nothing to compare" in command("verify", model, "--whole", "--subgraph", "a", status=2)[1]
    assert "did you mean convolution_add_relu_1" in command("verify", model, "--subgraph", "convolution_1", status=2)[1]
    command("read", model, "-o", tmp_path / "m.mxr")
    assert "is no ONNX file" in command("verify", tmp_path / "m.mxr", "--onnxruntime", status=2)[1]
