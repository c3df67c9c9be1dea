import json
import os
import re
import subprocess
import sys

import pytest

from iree_migraphx.cli.main import main
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.options import Options
from kernels.sources import INVALID, dot

DAY = 86400


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with a kernel, used just now, and a refusal, used ten days ago."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("IREE_MIGRAPHX_CACHE_DIR", str(folder))
    options = Options(cache_dir=folder, quiet=True)
    compile_kernels([dot(), INVALID], parse_target("gfx942"), options)
    entries = sorted(folder.glob("??/*"), key=lambda path: (path / "kernel.hsaco").exists())
    now = entries[0].stat().st_mtime
    os.utime(entries[0], (now - 10 * DAY, now - 10 * DAY))
    return entries


def test_path(cache, capsys, monkeypatch):
    monkeypatch.setenv("IREE_MIGRAPHX_CACHE_READONLY", "/site:/model")
    assert main(["cache", "path"]) == 0
    assert capsys.readouterr().out == f"{cache[0].parents[1]}\n/site (read-only)\n/model (read-only)\n"


def test_list(cache, capsys):
    assert main(["cache", "list"]) == 0
    kernel, refusal, total = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{cache[1].name[:12]}  \d+-\d+-\d+ \d+:\d+ +\d+ KB  gfx942 +iree_dot_add", kernel)
    assert refusal.endswith("iree_invalid  compile-error")
    assert re.fullmatch(r"2 kernels and refusals, 0\.\d MB in .*", total)


def test_list_of_what_is_damaged(cache, capsys):
    (cache[1] / "meta.json").write_text("{")
    assert main(["cache", "list"]) == 0
    assert "damaged: its meta.json is damaged" in capsys.readouterr().out


def test_show(cache, capsys):
    for entry in cache:
        assert main(["cache", "show", entry.name[:10]]) == 0
        out = capsys.readouterr().out
        assert f"folder     {entry}\n" in out
        assert "target     gfx942\n" in out
        assert "input.mlir" in out
    assert "workgroups " in out


def test_json(cache, capsys, monkeypatch):
    def json_of(*words, status=0):
        assert main(["cache", *words, "--json"]) == status
        return json.loads(capsys.readouterr().out)

    folder = str(cache[0].parents[1])
    assert json_of("path") == {"folder": folder, "readonly": []}
    listed = json_of("list")
    assert [(each["key"], each["symbol"], each["reason"]) for each in listed["entries"]] == [
        (cache[1].name, "iree_dot_add", None),
        (cache[0].name, "iree_invalid", "compile-error"),
    ]
    shown = json_of("show", cache[1].name)
    assert shown["kernel"]["vgprs"] > 0
    assert shown["files"]["kernel.hsaco"] == (cache[1] / "kernel.hsaco").stat().st_size
    assert json_of("show", cache[0].name)["refused"]["reason"] == "compile-error"
    (cache[0] / "input.mlir").write_text("")
    assert [each["folder"] for each in json_of("verify", status=1)["damaged"]] == [str(cache[0])]
    assert json_of("prune", "--size", "1G") == {"removed": [], "bytes": 0}
    assert json_of("clear")["removed"] == [str(cache[1])]


def test_show_what_is_not_there(cache, capsys):
    assert main(["cache", "show", "xyz"]) == 2
    assert "no key begins with 'xyz'" in capsys.readouterr().err
    assert main(["cache", "show", ""]) == 2
    assert "2 keys begin with ''" in capsys.readouterr().err
    (cache[0] / "meta.json").unlink()
    assert main(["cache", "show", cache[0].name]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_clear_takes_what_is_the_caches_and_nothing_else(cache, capsys):
    stranger = cache[0].parents[1] / "notes.txt"
    stranger.touch()
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out.startswith("2 removed, 0.")
    assert not any(entry.exists() for entry in cache)
    assert stranger.exists()
    assert main(["cache", "list"]) == 0


@pytest.mark.parametrize(
    ("arguments", "left"),
    [([], 2), (["--size", "1G"], 2), (["--size", "24K"], 1), (["--size", "0"], 0), (["--unused", "9d"], 1)],
)
def test_prune(arguments, left, cache, capsys):
    assert main(["cache", "prune", *arguments]) == 0
    assert f"{2 - left} removed" in capsys.readouterr().out
    assert [entry.exists() for entry in cache] == [left > 1, left > 0]


def test_verify(cache, capsys):
    assert main(["cache", "verify"]) == 0
    assert "everything is as it was written" in capsys.readouterr().out
    with (cache[0] / "input.mlir").open("a") as file:
        file.write("// not what was compiled\n")
    assert main(["cache", "verify"]) == 1
    out = capsys.readouterr().out
    assert f"{cache[0]}: its input.mlir is not what the key is made of; removed\n1 damaged\n" == out
    assert main(["cache", "verify"]) == 0


@pytest.mark.parametrize("action", [["list"], ["show", "a"], ["clear"], ["prune"], ["verify"]])
def test_no_cache(action, tmp_path, capsys):
    assert main(["cache", "--dir", str(tmp_path / "nowhere"), *action]) == 2
    assert f"there is no cache in {tmp_path}/nowhere" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("arguments", [["--size", "big"], ["--unused", "ages"]])
def test_a_size_and_a_time_that_are_none(arguments, cache, capsys):
    assert main(["cache", "prune", *arguments]) == 2
    assert repr(arguments[1]) in capsys.readouterr().err


def test_a_wrong_setting_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("IREE_MIGRAPHX_CACHEDIR", "x")
    assert main(["cache", "path"]) == 2
    assert "did you mean IREE_MIGRAPHX_CACHE_DIR?" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough(cache):
    command = [sys.executable, "-m", "iree_migraphx.cli.main", "cache", "list"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1
