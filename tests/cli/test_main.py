"""The command line itself: names, flags, and errors before any work."""

import subprocess
import sys

import pytest

from iree_migraphx.cli import driver
from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.main import COMMANDS, main, make_parser


def test_nothing_is_the_help(capsys):
    assert main([]) == ExitCode.USAGE
    out = capsys.readouterr().out
    assert all(f"    {name} " in out for name in COMMANDS)
    assert all(f"  {code.value:<4} {code.description}" in out for code in ExitCode)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compil", "m"], "there is no command 'compil'; did you mean compile?"),
        (["frobnicate"], "there is no command 'frobnicate'; there are read, compile"),
        (["params", "m"], "`iree-migraphx read` shows a model's parameters"),
        (["compile", "m", "--fp61"], "compile has no flag --fp61; did you mean --fp16?"),
        (["compile", "m", "--quantize"], "compile has no flag --quantize"),
        (["run", "m", "--iter"], "run has no flag --iter"),
        (
            ["read", "m", "--netron"],
            "migraphx-driver has: MIGraphX's C interface does not write it; --report FILE.html",
        ),
        (["run", "m", "--graphviz"], "migraphx-driver has: `iree-migraphx compile` writes the program"),
        (["read", "m", "--fp16"], "migraphx-driver has: it is for `iree-migraphx compile`"),
        (["verify", "m", "-b"], "verify looks at each subgraph by itself anyway"),
        (["read", "m", "n"], "read takes no further argument 'n'"),
        (["compile"], "compile: the following arguments are required: FILE"),
        (["perf", "m", "-n", "0"], "0 is not a whole number from 1 up"),
        (["perf", "m", "-n", "many"], "'many' is not a whole number"),
        (["perf", "m", "--plain-limit", "-1"], "is not a number of seconds"),
        (["run", "m", "--gpu", "--ref"], "not allowed with argument"),
    ],
)
def test_wrong_words(words, message, capsys):
    assert main(words) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("iree-migraphx: ")
    assert (out, err.count("\n")) == ("", 1)


def test_a_command_imports_no_other():
    code = (
        "import sys; from iree_migraphx.cli.main import make_parser; make_parser(['read']);"
        "print(*(m for m in sys.modules if m.startswith('iree_migraphx.cli.') or m.partition('.')[0] in"
        "('numpy', 'rich', 'iree', 'onnx', 'ml_dtypes')))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("iree_migraphx.cli.") for name in ended.stdout.split()}
    assert loaded <= {"main", "driver", "exit_codes", "lengths", "parser", "read", "model", "output"}


def test_versions(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert not ended.value.code
    package, migraphx, iree = capsys.readouterr().out.splitlines()
    assert package.startswith("iree-migraphx ")
    assert migraphx.startswith("MIGraphX 2.")
    assert iree.startswith("IREE compiler version 3.")


def test_every_command_has_a_help_text_for_each_flag():
    parser = make_parser()
    for name, command in next(iter(parser._subparsers._group_actions)).choices.items():
        for action in command.documented:
            assert action.help or action.metavar == "ACTION", (name, action)


def test_each_of_the_drivers_flags_is_here_or_said_why_not():
    parsers = next(iter(make_parser()._subparsers._group_actions)).choices
    for command, flags in driver.FLAGS.items():
        for flag in flags:
            assert (driver.missing(command, flag) is None) == (flag in parsers[command].flags), (command, flag)
    for name in driver.COMMANDS:
        assert name not in COMMANDS
