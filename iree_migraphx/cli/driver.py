"""migraphx-driver's commands and flags (src/driver/main.cpp of release rocm-7.1.1), and what there is instead of some.

Flags that are not named here are the same in `iree-migraphx`; docs/reference-commands.md has all of them.
"""

from __future__ import annotations

_LOADING = """--onnx --tf --migraphx --migraphx-json --batch --nhwc --nchw --input-dim --dim-param --dyn-input-dim
--default-dyn-dim --output-names --trim -t --trim-size -s --test --skip-unknown-operators --optimize -O --mlir
--apply-pass -p"""
_WRITING = "--graphviz -g --brief --cpp --python --py --json --text --binary --netron --output -o"
_COMPILING = """--fill0 --fill1 --load-arg --gpu --cpu --ref --enable-offload-copy --disable-fast-math
--exhaustive-tune --fp16 --bf16 --int8 --fp8 --int4-weights"""
_ALL = f"{_LOADING} {_COMPILING} {_WRITING}"

#: Command -> its flags. The driver's commands write the compiled program, so all of them have the flags for that.
FLAGS = {
    "read": f"{_LOADING} {_WRITING}".split(),
    "compile": _ALL.split(),
    "run": _ALL.split(),
    "perf": f"{_ALL} --iterations -n --detailed -d".split(),
    "verify": f"{_ALL} --rms-tol --atol --rtol --per-instruction -i --reduce -r --bisect -b --ref-use-double "
    "--compiled-model -c".split(),
}

#: Commands that are not here, and what to do instead.
COMMANDS = {
    "params": "`iree-migraphx read` shows a model's parameters",
    "time": "`iree-migraphx perf` times a model",
    "op": "migraphx-driver itself lists operators",
    "onnx": "migraphx-driver itself lists ONNX's operators",
    "tf": "migraphx-driver itself lists TensorFlow's operators",
    "roctx": "migraphx-driver itself marks a run for rocTX",
}

_PASSES = "MIGraphX's C interface runs no single passes"
_EACH = "verify looks at each subgraph by itself anyway"

#: Flags that no command here has, and why not or what to do instead.
MISSING = {
    "--test": "give a model; `iree-migraphx doctor` tries a small one",
    "--skip-unknown-operators": "MIGraphX's C interface has no such option",
    "--optimize": _PASSES,
    "-O": _PASSES,
    "--mlir": _PASSES,
    "--apply-pass": _PASSES,
    "-p": _PASSES,
    "--cpp": "MIGraphX's C interface does not write it",
    "--netron": "MIGraphX's C interface does not write it; --report FILE.html draws the program",
    "--int4-weights": "MIGraphX's C interface does not quantize to int4",
    "--per-instruction": _EACH,
    "-i": _EACH,
    "--reduce": _EACH,
    "-r": _EACH,
    "--bisect": _EACH,
    "-b": _EACH,
    "--ref-use-double": "MIGraphX's C interface has no such option; --onnxruntime is a second opinion",
}

#: Commands that leave writing the compiled program to `compile`.
_NO_PROGRAM = ("run", "perf", "verify")

#: What means something else here, by command and flag.
OTHER = {
    ("run", "--output"): "the results, as .npz; the program is written by `iree-migraphx compile`",
    ("run", "-o"): "the results, as .npz; the program is written by `iree-migraphx compile`",
    ("run", "--json"): "the results and the report",
    ("perf", "--json"): "the times and the report",
    ("verify", "--json"): "the comparisons and the report",
}


def missing(command: str, flag: str) -> str | None:
    """Why a command does not have a flag of migraphx-driver's, or what to do instead; None for any other flag."""
    if flag in MISSING:
        return MISSING[flag]
    own = FLAGS.get(command, [])
    if flag in own:
        leaves = command in _NO_PROGRAM and flag in _WRITING.split() and (command, flag) not in OTHER
        return "`iree-migraphx compile` writes the program" if leaves else None
    having = next((name for name, flags in FLAGS.items() if flag in flags), None)
    return f"it is for `iree-migraphx {having}`" if having else None
