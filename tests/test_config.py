import os
import re
from pathlib import Path

import pytest

from iree_migraphx.config import Flags
from iree_migraphx.errors import OptionError
from iree_migraphx.options import Options


@pytest.fixture
def config(tmp_path):
    """Options from a text in the file that IREE_CONFIG names."""

    def resolve(text, environment=(), **arguments):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return Options.resolve({"IREE_CONFIG": str(path), **dict(environment)}, **arguments)

    return resolve


def test_the_prototypes_list(config):
    assert config("- --a\n- --b=1\n").scoped_flags == Flags(("--a", "--b=1"))


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "flags:\n"])
def test_nothing(text, config):
    assert config(text) == Options.resolve({})


def test_flags_for_all_for_targets_and_for_anchors(config):
    options = config("flags: [--a]\ntargets:\n  gfx942: [--b]\n  host:\n    - --c\nanchors: {dot: [--d]}\n")
    assert options.flags == Flags(("--a",), {"gfx942": ("--b",), "host": ("--c",)}, {"dot": ("--d",)})


def test_any_other_setting(config):
    options = config("workers: 3\ntimeout: 2.5\ncache: false\narch: mi300x\ncache_readonly: [/a, /b]\ncache_dir: /c\n")
    assert (options.workers, options.timeout, options.cache, options.arch) == (3, 2.5, False, "mi300x")
    assert (options.cache_readonly, options.cache_dir) == ((Path("/a"), Path("/b")), Path("/c"))


def test_patterns_in_lists_and_texts(config):
    options = config(
        "include: ['dot_*', 'anchor=dot & output=1x*']\nexclude: a, b\n", {"IREE_MIGRAPHX_EXCLUDE": "c ,,d"}
    )
    assert (options.include, options.exclude) == (("dot_*", "anchor=dot & output=1x*"), ("c", "d"))
    assert config("exclude: a, b\n").exclude == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("operators=relu", "about 'operators', which no subgraph has; did you mean operator?"),
        ("a & b=c", "about 'b', which no subgraph has; known are name, anchor"),
        ("operator=", "a condition without anything to match"),
        ("&", "a condition without anything to match"),
    ],
)
def test_a_pattern_that_can_not_be(text, message):
    for option in ("include", "exclude"):
        with pytest.raises(OptionError, match=re.escape(message)):
            Options.resolve({}, **{option: (text,)})


def test_text_where_a_path_or_several_are_meant():
    options = Options(cache_dir="~/kernels", cache_readonly="/site", include="dot_*", flags="--a")
    assert (options.cache_dir, options.cache_readonly) == (Path.home() / "kernels", (Path("/site"),))
    assert (options.include, options.scoped_flags) == (("dot_*",), Flags(("--a",)))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"cache_dir": 3}, "cache_dir is 3; it must be a path"),
        ({"cache_dir": None}, "cache_dir is None; it must be a path"),
        ({"workers": "4"}, "workers is '4'; it must be a number"),
        ({"timeout": None}, "timeout is None; it must be a number"),
    ],
)
def test_an_argument_of_the_wrong_type(argument, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        Options(**argument)


def test_default_then_yaml_then_environment_then_argument(config):
    text = "workers: 3\nthreads: 3\ntimeout: 3\nflags: [--a]\n"
    options = config(text, {"IREE_MIGRAPHX_WORKERS": "4", "IREE_MIGRAPHX_THREADS": "4"}, threads=5)
    assert (options.workers, options.threads, options.timeout, options.debug_level) == (4, 5, 3.0, 0)
    assert config(text, flags=("--b",)).flags == ("--b",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flag: [--a]", "sets flag, which is not a setting; did you mean flags"),
        ("timeuot: 3", "did you mean timeout"),
        ("executor: x", "not a setting"),
        ("1: x", "sets 1, which is not a setting"),
        ("flags: --a", "sets flags: it must hold a YAML list"),
        ("flags: [a]", "sets flags: it must hold a YAML list"),
        ("targets: [--a]", "sets targets: it must hold a mapping"),
        ("anchors: {dot: --a}", "has dot, which must hold a YAML list"),
        ("text", "must hold a YAML list"),
        ("timeout: soon", "timeout in .*='soon' is not a number"),
        ("timeout: {a: 1}", "sets timeout: it must be one value"),
        ("cache_size: null", "sets cache_size: it must be one value"),
        ("timeout: -1", "must be a number of seconds above 0"),
        ("cache: perhaps", "neither on"),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(text, message, config):
    with pytest.raises(OptionError, match=message):
        config(text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(OptionError, match="can't be read"):
        Options.resolve({"IREE_CONFIG": str(tmp_path / "nowhere")})


def test_an_unknown_variable_is_named_with_the_nearest_right_one():
    with pytest.raises(OptionError, match="did you mean IREE_MIGRAPHX_CACHE_DIR"):
        Options.resolve({"IREE_MIGRAPHX_CACHEDIR": "/tmp"})


def test_read_only_folders():
    options = Options.resolve({"IREE_MIGRAPHX_CACHE_READONLY": os.pathsep.join(["/a", "", "~/b"])})
    assert options.cache_readonly == (Path("/a"), Path("~/b").expanduser())
