"""Levels by stage, and others' words apart from ours."""

import logging

import pytest

from iree_migraphx import binding, logs, pipeline
from iree_migraphx.binding import messages
from iree_migraphx.errors import OptionError
from iree_migraphx.options import Options
from splice.models import convolutions


@pytest.fixture
def said(capsys):
    """What a compile says on standard error with some settings: the loggers' names, and all of it."""

    def run(**settings):
        capsys.readouterr()
        options = Options(cache=False, quiet=True, **settings)
        pipeline.compile(binding.parse_onnx_buffer(convolutions()), binding.get_target("ref"), options=options)
        text = capsys.readouterr().err
        return {line.partition(": ")[0] for line in text.splitlines() if line.startswith("iree_migraphx.")}, text

    yield run
    logs.configure(0)


def test_nothing_by_default(said):
    assert said() == (set(), "")


def test_one_stage_alone(said):
    names, text = said(log="partition=debug")
    assert names == {"iree_migraphx.partition"}
    assert "convolution_add_relu_1: convolution broadcast add relu of 1x4x12x12 float" in text
    assert said(log="lowering=2")[1].count("func.func @iree_convolution_add_relu_") == 1


def test_every_stage_but_some(said):
    names, _ = said(debug=1, log="kernels=error,ir=critical")
    assert {
        "iree_migraphx.binding",
        "iree_migraphx.lowering",
        "iree_migraphx.splice",
        "iree_migraphx.pipeline",
    } <= names
    assert not any(name.startswith(("iree_migraphx.kernels", "iree_migraphx.ir")) for name in names)
    # The next compile has the levels of its own options.
    assert any(name.startswith("iree_migraphx.kernels") for name in said(debug=1)[0])


def test_what_the_compiler_prints_is_apart(said, tmp_path, monkeypatch):
    from kernels.sources import fake_compiler

    fake = fake_compiler(tmp_path / "fake", "echo 'first: remark' >&2; echo second >&2; exit 1")
    names, text = said(iree_bin=fake, log="from_iree=debug")
    assert names == {"iree_migraphx.from_iree"}
    lines = text.splitlines()
    assert lines[0].endswith(": first: remark")
    assert lines[1] == "iree_migraphx.from_iree: second"


def test_what_migraphx_prints_is_apart(said, capsys):
    logs.configure(0)
    messages.pass_on("[WARNING] one\ntwo\n")
    error = capsys.readouterr().err
    assert error == "iree_migraphx.from_migraphx: [WARNING] one\niree_migraphx.from_migraphx: two\n"
    logs.configure(2, "from_migraphx=error")
    messages.pass_on("three\n")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernel=debug", "names the stage 'kernel'; did you mean kernels?"),
        ("xyz=debug", "there are binding, capture"),
        ("kernels=debgu", "the level 'debgu'; did you mean debug?"),
        ("kernels", "is not of the form stage=level"),
        ("kernels=3", "gives kernels the level '3'"),
    ],
)
def test_wrong_levels(text, message):
    with pytest.raises(OptionError) as raised:
        Options.resolve({"IREE_MIGRAPHX_LOG": text})
    assert message in str(raised.value)


def test_levels():
    assert logs.parse_levels(" kernels=DEBUG, partition=1 ,") == {"kernels": logging.DEBUG, "partition": logging.INFO}


def test_every_logger_belongs_to_a_stage():
    from iree_migraphx.report import Report  # noqa: F401 -- everything that logs is imported by now

    ours = [name.split(".")[1] for name in logging.root.manager.loggerDict if name.startswith("iree_migraphx.")]
    assert set(ours) <= {*logs.STAGES, "gpu", "dropin", "cli"}
