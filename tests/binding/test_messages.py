import logging
import os
import subprocess
import sys
import threading

import pytest

import iree_migraphx.binding as mx
from iree_migraphx.binding import capi, messages
from iree_migraphx.errors import MigraphxError
from iree_migraphx.logs import FROM_MIGRAPHX


def test_text_of_an_error_without_its_source_line():
    captured = messages.Captured()
    captured.text = "a warning\nmigraphx_parse_onnx: Error: src/onnx/a.cpp:67: parse<T>: PARSE: no such\nthing\n"
    assert captured.split() == ("a warning\n", "PARSE: no such\nthing")


def test_text_of_an_error_of_the_standard_library():
    captured = messages.Captured()
    captured.text = "migraphx_load: Error: insufficient bytes\n"
    assert captured.split() == ("", "insufficient bytes")


def test_failure_carries_migraphx_s_text_and_prints_nothing(capfd):
    with pytest.raises(MigraphxError, match="MIGraphX can't make the operator 'nope': Operator not found: nope"):
        mx.op("nope")
    assert capfd.readouterr() == ("", "")


def test_what_a_successful_call_prints_is_passed_on(capfd, caplog):
    with messages.capture(2) as captured:
        os.write(2, b"progress\n")
    assert capfd.readouterr().err == ""
    messages.pass_on(captured.split()[0])
    assert caplog.record_tuples == [(FROM_MIGRAPHX, logging.WARNING, "progress")]


def test_warning_of_a_successful_load_is_passed_on():
    code = "import iree_migraphx as mx; mx.load_buffer(mx.save_buffer(mx.program()).replace(b'2.', b'1.', 1))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert "[WARNING]: MXR File was created" in said


def test_python_s_own_stderr_stays_outside(capfd):
    sys.stderr.write("before ")
    with messages.capture(2) as captured:
        os.write(2, b"inside")
    assert captured.text == "inside"
    assert capfd.readouterr().err == "before "


def test_captures_nest(capfd):
    with messages.capture(2) as outer:
        os.write(2, b"1")
        with messages.capture(2) as inner:
            os.write(2, b"2")
        os.write(2, b"3")
    assert (outer.text, inner.text) == ("13", "2")


def test_stderr_comes_back_after_an_exception(capfd):
    with pytest.raises(KeyboardInterrupt), messages.capture(2):
        raise KeyboardInterrupt
    os.write(2, b"back")
    assert capfd.readouterr().err == "back"


def test_debug_level_2_lets_everything_through(capfd, monkeypatch):
    monkeypatch.setenv("IREE_DEBUG", "2")
    with pytest.raises(MigraphxError, match="see stderr"):
        mx.op("nope")
    assert "Operator not found: nope" in capfd.readouterr().err


def test_without_a_stderr():
    script = """
import iree_migraphx.binding as mx, os
os.close(2)
for name in ("first", "second"):
    try:
        mx.op(name)
    except RuntimeError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert "not found: first" in run.stdout
    assert "not found: second" in run.stdout


def test_failures_in_threads_keep_their_texts_apart():
    wrong = []

    def fail(name):
        for _ in range(20):
            with pytest.raises(MigraphxError) as error:
                mx.op(name)
            if not str(error.value).endswith(f"not found: {name}"):
                wrong.append(str(error.value))

    threads = [threading.Thread(target=fail, args=(f"nope{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_print_goes_through_python_s_stdout(capsys):
    mx.program().print()
    assert capsys.readouterr().out.startswith("module: ")


def test_no_descriptor_is_left_open():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        mx.load_buffer(mx.save_buffer(mx.program()))
        with pytest.raises(MigraphxError):
            capi.new("operation", "operation_create", b"nope", None, doing="try")
    assert len(os.listdir("/proc/self/fd")) == before
