"""The package as pip gets it: built from a source archive, installed into an environment of its own."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
#: What an installation without extras brings along, by the names of their modules.
CORE = ("_yaml", "elftools", "iree", "ml_dtypes", "msgpack", "numpy", "numpy.libs", "ml_dtypes.libs", "yaml")
SCRIPT = """\
import sys
import numpy as np
import migraphx

program = migraphx.parse_onnx(sys.argv[1])
program.compile(migraphx.get_target("ref"))
(result,) = program.run({"x": np.ones((1, 4, 6, 6), np.float32)})
print(program.iree_report.swapped, np.asarray(result).shape, program.iree_report.as_text() != "")
print(sorted({"rich", "platformdirs", "distributed", "onnx"} & set(sys.modules)))
"""


def run(*command, folder=None, **environment):
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A repository of the files as they are now, with one commit and no tag."""
    pytest.importorskip("setuptools_scm")
    folder = tmp_path_factory.mktemp("build") / "clone"
    if not (REPO / ".git").exists():
        pytest.skip("this is no git clone")
    for name in run("git", "ls-files", "-co", "--exclude-standard", folder=REPO).splitlines():
        if (REPO / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, folder / name)
    run("git", "init", "-q", folder=folder)
    run("git", "add", "-A", folder=folder)
    run("git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", "commit", "-qm", "All", folder=folder)
    return folder


def build(kind, source):
    """The path of what setuptools makes of the source, without asking any registry."""
    code = f"import setuptools.build_meta as b; print(b.build_{kind}('../{kind}'))"
    name = run(sys.executable, "-c", code, folder=source).splitlines()[-1]
    return source.parent / kind / name


@pytest.fixture(scope="module")
def sdist(clone):
    return build("sdist", clone)


@pytest.fixture(scope="module")
def wheel(sdist):
    """From the source archive, where there is no git."""
    folder = sdist.parent / "unpacked"
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (source,) = folder.iterdir()
    return build("wheel", source)


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return HeaderParser().parsestr(archive.read(name).decode())


@pytest.mark.parametrize(("tag", "expected"), [("v1.2.3", "1.2.3"), (None, "0.1.1.dev1+g"), ("no git", "0.1.0")])
def test_the_version_is_the_tag_s(clone, tmp_path, tag, expected):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("*.egg-info", *([".git"] if tag == "no git" else []))
    shutil.copytree(clone, source, ignore=ignored)
    if tag == "v1.2.3":
        run("git", "tag", tag, folder=source)
    code = "import setuptools.build_meta as b; print(b.prepare_metadata_for_build_wheel('.'))"
    made = run(sys.executable, "-c", code, folder=source).splitlines()[-1]
    version = made.partition("-")[2].removesuffix(".dist-info")
    assert version.startswith(expected) if tag is None else version == expected


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {"iree_migraphx", names[-1].partition("/")[0]}
    sources = {f"{path.relative_to(REPO)}" for path in (REPO / "iree_migraphx").rglob("*.py")}
    assert sources <= set(names)
    assert "iree_migraphx/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_archive_holds_what_the_tests_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "setup.sh",
        "README.md",
        "CHANGELOG.md",
        "tests/conftest.py",
        "docs/drop-in.md",
        "examples/run_onnx.py",
    } <= names


def test_the_core_needs_little(wheel):
    needed = [each for each in metadata(wheel).get_all("Requires-Dist") if "extra ==" not in each]
    names = {re.split("[<>]", each)[0] for each in needed}
    assert names == {
        "iree-base-compiler", "iree-base-runtime", "ml_dtypes", "msgpack", "numpy", "pyelftools", "pyyaml"
    }  # fmt: skip
    assert set(metadata(wheel).get_all("Provides-Extra")) >= {"rich", "dask", "dev", "examples"}


def test_it_works_in_a_clean_environment(wheel, tmp_path, onnx_file, kernel_options):
    """Installed by pip, with nothing but the core's packages beside it."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin/python", "--disable-pip-version-check"]
    run(*pip, "install", "-q", "--no-deps", "--no-index", wheel)
    installed = next(environment.glob("lib/python3*/site-packages"))
    core = tmp_path / "core"
    core.mkdir()
    for name in CORE:
        package = importlib.util.find_spec(name.partition(".")[0])
        if package is None:  # _yaml is there where yaml is compiled
            continue
        where = Path(next(iter(package.submodule_search_locations))).parent / name
        if where.exists():  # numpy.libs are there where numpy brings its libraries
            (core / name).symlink_to(where)
    assert "usage: iree-migraphx" in run(environment / "bin/iree-migraphx", "--help", PYTHONPATH=str(core))
    (tmp_path / "script.py").write_text(SCRIPT)
    # The interpreter that MIGraphX loads on, which on Debian is not the environment's; -S leaves its own packages out.
    paths = os.pathsep.join(map(str, (installed, core)))
    hook = [sys.executable, "-S", "-m", "iree_migraphx", "script.py", onnx_file]
    settings = {"PYTHONPATH": paths, "IREE_MIGRAPHX_CACHE_DIR": str(kernel_options.cache_dir)}
    assert run(*hook, folder=tmp_path, **settings) == "2 (1, 6, 6, 5) True\n[]\n"
