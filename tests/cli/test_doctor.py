"""What doctor finds, on this machine and on one with something wrong."""

import pytest

from iree_migraphx.cli import doctor
from kernels.sources import fake_compiler


def by_subject(findings, subject):
    return [finding for finding in findings["findings"] if finding["subject"] == subject]


def test_an_installation_that_works(json_of, command):
    findings = json_of("doctor")
    assert {"ok", "warning"} >= {finding["status"] for finding in findings["findings"]}
    host, gpu = by_subject(findings, "trial")
    assert "ran, and is right" in host["text"]
    assert "can be launched" in gpu["text"]
    assert "libmigraphx.so" in by_subject(findings, "migraphx")[0]["text"]
    out, _ = command("doctor")
    assert out.startswith("ok   python ")


@pytest.mark.parametrize(
    ("variable", "value", "subject", "status", "text"),
    [
        ("IREE_BIN", "/no/such/compiler", "compiler", "error", "which is neither iree-compile"),
        ("IREE_MIGRAPHX_CACHEDIR", "x", "settings", "error", "did you mean IREE_MIGRAPHX_CACHE_DIR?"),
        ("IREE_MIGRAPHX_CACHE_READONLY", "/no/such/cache", "cache", "warning", "/no/such/cache holds no kernels"),
        ("IREE_MIGRAPHX_CACHE", "0", "cache", "warning", "it is switched off"),
        ("IREE_DISABLE", "1", "settings", "warning", "IREE is switched off"),
        ("IREE_DISBALE", "1", "settings", "warning", "IREE_DISBALE is set, which nothing reads"),
    ],
)
def test_what_is_wrong(variable, value, subject, status, text, monkeypatch):
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(doctor, "_trial", lambda options: iter(()))
    found = [each for each in doctor.examine() if each.subject == subject and each.status == status]
    assert any(text in each.text for each in found)
    assert all(each.advice for each in found if subject != "compiler")


def test_a_compiler_that_makes_wrong_kernels_fails_the_trial(monkeypatch, tmp_path, command):
    monkeypatch.setenv("IREE_BIN", str(fake_compiler(tmp_path / "fake", "exit 1")))
    out, _ = command("doctor", status=1)
    assert "FAIL trial" in out
    assert "compile-error" in out


def test_a_cache_that_everybody_may_write_to(tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("IREE_MIGRAPHX_CACHE_DIR", str(tmp_path / "open"))
    monkeypatch.setattr(doctor, "_trial", lambda options: iter(()))
    (found,) = [each for each in doctor.examine() if each.status == "error"]
    assert found.advice == f"chmod o-w {tmp_path}/open"
