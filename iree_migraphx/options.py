"""Every setting in one typed place: default < IREE_CONFIG < environment < argument. Nothing else reads the environment.

The names IREE_BIN, IREE_CONFIG, IREE_DEBUG and IREE_DISABLE are the prototype's and mean what they meant there.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iree_migraphx.config import BETWEEN, Flags, did_you_mean, read_config
from iree_migraphx.errors import OptionError
from iree_migraphx.logs import parse_levels
from iree_migraphx.selection import Pattern

_TRUE = {"1", "on", "true", "yes"}
_FALSE = {"", "0", "off", "false", "no"}


@dataclass(frozen=True, slots=True)
class Options:
    """How a program is compiled.

    Attributes:
        disable: leave everything to MIGraphX (IREE_DISABLE=1).
        debug: 0 one line, 1 what happens, 2 everything, on stderr (IREE_DEBUG); None is 0 with progress.
        log: other levels for some stages, "kernels=debug,from_migraphx=error" (IREE_MIGRAPHX_LOG; the names are in
            docs/debugging.md).
        iree_bin: the compiler, or the folder it is in (IREE_BIN); None searches IREE_TOOL_PATH, the wheel, PATH.
        iree_tool_path: a folder with IREE's tools (IREE_TOOL_PATH), searched after `iree_bin`.
        flags: extra flags for iree-compile (from the YAML file that IREE_CONFIG names); a tuple is for every kernel.
        eligible: "all" takes every convolution and dot that types and shapes allow, "migraphx" on the target "gpu" only
            what MIGraphX would give to its own kernel compiler (rocMLIR), so that nothing a tuned library does is
            replaced; None is "migraphx" for the target "gpu" and "all" for "ref" (IREE_MIGRAPHX_ELIGIBLE).
        extra: kernels of subgraphs without a convolution or dot too: reductions, softmax, pooling, gather, chains of
            pointwise operators; None is yes for the target "ref", whose own operators are slow, and no for "gpu"
            (IREE_MIGRAPHX_EXTRA).
        include: patterns of the subgraphs that IREE is to get, in the words of the report: "dot_*" (names),
            "operator=softmax", "anchor=convolution & output=1x64x*"; none is all (IREE_MIGRAPHX_INCLUDE, with commas
            between them).
        exclude: patterns of those that it is not to get, whatever `include` says (IREE_MIGRAPHX_EXCLUDE).
        arch: what IREE compiles for; None is this machine's CPU for the target "ref" and the current device for "gpu"
            (IREE_MIGRAPHX_ARCH).
        workers: compilers that run at once; 0 is one a core (IREE_MIGRAPHX_WORKERS).
        kernels_per_process: the most kernels of a GPU that one compiler gets at once, which saves the time of starting
            it; if it fails, each is compiled by itself. 1 is a process each, 0 is up to 16
            (IREE_MIGRAPHX_KERNELS_PER_PROCESS).
        timeout: seconds that one kernel may take (IREE_MIGRAPHX_TIMEOUT).
        capture_timeout: seconds that MIGraphX may take to optimise a program for the target "gpu" in a process of its
            own (IREE_MIGRAPHX_CAPTURE_TIMEOUT).
        cache: keep compiled kernels on disk (IREE_MIGRAPHX_CACHE=0 turns it off).
        cache_dir: where (IREE_MIGRAPHX_CACHE_DIR); below XDG_CACHE_HOME or ~/.cache by default.
        cache_readonly: further cache folders, looked at first and never written to (IREE_MIGRAPHX_CACHE_READONLY, with
            the separator of PATH between them).
        cache_size: megabytes that `cache_dir` may grow to before what was used longest ago goes; 0 is no limit
            (IREE_MIGRAPHX_CACHE_SIZE).
        failures: a folder for what is needed to report a failed compile, of every kernel that fails
            (IREE_MIGRAPHX_FAILURES); None keeps it for compilers that crash, and at debug 2 for all, in `cache_dir`.
        verify: run each kernel once on made-up operands before it is taken, and leave it out unless it computes what
            MIGraphX's ref target does; takes long (IREE_MIGRAPHX_VERIFY=1). `check` runs none for a gpu.
        executor: compiles kernels instead of processes of this machine: any concurrent.futures.Executor whose workers
            have this package and the same iree-compile. It is not shut down.
        threads: threads of a host kernel; 0 is one a core (IREE_MIGRAPHX_THREADS).
        quiet: leave out the one-line summary and the progress (IREE_MIGRAPHX_QUIET=1).
    """

    disable: bool = False
    debug: int | None = None
    log: str = ""
    iree_bin: Path | None = None
    iree_tool_path: Path | None = None
    flags: tuple[str, ...] | Flags = ()
    eligible: Literal["migraphx", "all"] | None = None
    extra: bool | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    arch: str | None = None
    workers: int = 0
    kernels_per_process: int = 0
    timeout: float = 120.0
    capture_timeout: float = 1200.0
    cache: bool = True
    cache_dir: Path = dataclasses.field(default_factory=lambda: _user_cache() / "iree_migraphx")
    cache_readonly: tuple[Path, ...] = ()
    cache_size: int = 4096
    failures: Path | None = None
    verify: bool = False
    executor: Executor | None = dataclasses.field(default=None, compare=False)
    threads: int = 0
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ("iree_bin", "iree_tool_path", "cache_dir", "failures"):
            if (value := getattr(self, name)) is not None or name == "cache_dir":
                object.__setattr__(self, name, _path(name, value))
        for name in ("flags", "include", "exclude", "cache_readonly"):
            # A lone one was meant as a whole, and not as its letters.
            if isinstance(value := getattr(self, name), (str, os.PathLike)):
                object.__setattr__(self, name, (value,))
        object.__setattr__(self, "cache_readonly", tuple(_path("cache_readonly", each) for each in self.cache_readonly))
        for name in ("workers", "kernels_per_process", "threads", "timeout", "capture_timeout", "cache_size"):
            _require(isinstance(value := getattr(self, name), (int, float)), name, value, "a number")
        _require(self.debug in (None, 0, 1, 2), "debug (IREE_DEBUG)", self.debug, "0, 1 or 2")
        parse_levels(self.log)
        _require(self.eligible in (None, "migraphx", "all"), "eligible", self.eligible, '"migraphx" or "all"')
        for pattern in (*self.include, *self.exclude):
            Pattern.parse(pattern)
        _require(self.workers >= 0, "workers", self.workers, "0 (one a core) or more")
        _require(self.kernels_per_process >= 0, "kernels_per_process", self.kernels_per_process, "0 (up to 16) or more")
        _require(self.threads >= 0, "threads", self.threads, "0 (one a core) or more")
        _require(self.timeout > 0, "timeout", self.timeout, "a number of seconds above 0")
        _require(self.cache_size >= 0, "cache_size", self.cache_size, "megabytes, or 0 for no limit")
        _require(self.capture_timeout > 0, "capture_timeout", self.capture_timeout, "a number of seconds above 0")

    @property
    def debug_level(self) -> int:
        """How much is said: `debug`, unset as 0."""
        return self.debug or 0

    @property
    def shows_progress(self) -> bool:
        """Whether progress is shown while kernels compile; who asks for level 0 wants one line and no more."""
        return not self.quiet and self.debug != 0

    @property
    def scoped_flags(self) -> Flags:
        """`flags`, a tuple of them as flags for every kernel."""
        return self.flags if isinstance(self.flags, Flags) else Flags(self.flags)

    @property
    def worker_count(self) -> int:
        """Compilers that run at once."""
        return self.workers or available_cores()

    @property
    def thread_count(self) -> int:
        """Threads of a host kernel."""
        return self.threads or available_cores()

    @classmethod
    def resolve(cls, environment: Mapping[str, str] | None = None, **arguments: Any) -> Options:
        """Build the options of one compile from the environment and the caller's arguments, which win.

        Raises:
            OptionError: an argument nobody knows, a variable with a value it can't have, an unreadable IREE_CONFIG.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in arguments:
            if name not in known:
                raise OptionError(f"no option named {name!r}{did_you_mean(name, known)}")
        environment = os.environ if environment is None else environment
        settings = _from_environment(environment)
        settings.update(arguments)
        return cls(**settings)


def rocm_path(environment: Mapping[str, str] | None = None) -> Path | None:
    """ROCm's folder (ROCM_PATH), searched for MIGraphX's libraries before any other; None where it is not set."""
    text = (os.environ if environment is None else environment).get("ROCM_PATH", "")
    return Path(text) if text else None


def variables_set(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that are set and matter here: ours, and MIGraphX's own, which it reads by itself."""
    environment = os.environ if environment is None else environment
    return {
        name: environment[name]
        for name in sorted(environment)
        if name in _VARIABLES or name == "ROCM_PATH" or name.startswith("MIGRAPHX_")
    }


def _user_cache() -> Path:
    """The user's cache folder, by the XDG Base Directory Specification, which wants whole paths."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path(os.path.expanduser("~/.cache"))  # not home(), which may raise


def likely_typos(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that are set and all but have the name of one of ours, and that name; IREE's tools have some too."""
    environment = os.environ if environment is None else environment
    found = {}
    for name in environment:
        if name.upper().startswith(("IREE_", "IREEMIGRAPHX")) and name not in _VARIABLES:
            close = difflib.get_close_matches(name.upper(), _VARIABLES, n=1, cutoff=0.85)
            if close:
                found[name] = close[0]
    return found


def inherited_environment(**changes: str) -> dict[str, str]:
    """The environment for a program that this package starts: its own, changed."""
    return {**os.environ, **changes}


def helper_environment(**changes: str) -> dict[str, str]:
    """The environment of a process in which MIGraphX compiles for us.

    What it says on its standard error is not held back there: the last words before a crash matter.
    """
    return inherited_environment(IREE_DEBUG="2", **changes)


def capture_environment(disabled: Sequence[str]) -> dict[str, str]:
    """The same, with MIGraphX leaving out these passes, and those that the user leaves out."""
    name = "MIGRAPHX_DISABLE_PASSES"
    return helper_environment(**{name: ",".join([*filter(None, [os.environ.get(name)]), *disabled])})


@dataclass(frozen=True, slots=True)
class MlirSettings:
    """What the user tells MIGraphX about its own use of MLIR (src/targets/gpu/fuse_mlir.cpp of release rocm-7.1.1).

    Attributes:
        disabled: MIGRAPHX_DISABLE_MLIR is on.
        requested: names in MIGRAPHX_MLIR_USE_SPECIFIC_OPS, "convolution" or "fused_dot" for instance.
        rejected: names there with "!" or "~" in front, without it.
        pairs: MIGRAPHX_ENABLE_MLIR_GEG_FUSION is on: a dot or convolution, a pointwise and a dot are one.
    """

    disabled: bool = False
    requested: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()
    pairs: bool = False


def mlir_settings(environment: Mapping[str, str] | None = None) -> MlirSettings:
    """MIGraphX's own variables about MLIR, read as it reads them."""
    environment = os.environ if environment is None else environment
    names = [name for name in environment.get("MIGRAPHX_MLIR_USE_SPECIFIC_OPS", "").split(",") if name]

    def enabled(name: str) -> bool:
        return environment.get(name, "") in ("1", "enable", "enabled", "yes", "true")  # env.cpp

    return MlirSettings(
        enabled("MIGRAPHX_DISABLE_MLIR"),
        frozenset(name for name in names if name[0] not in "!~"),
        frozenset(name[1:] for name in names if name[0] in "!~"),
        enabled("MIGRAPHX_ENABLE_MLIR_GEG_FUSION"),
    )


def debug_level(environment: Mapping[str, str] | None = None) -> int:
    """IREE_DEBUG by itself, for what has no Options at hand.

    Raises:
        OptionError: it is not a whole number.
    """
    text = (os.environ if environment is None else environment).get("IREE_DEBUG", "")
    return _int("IREE_DEBUG", text) if text else 0


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    for name in environment:
        if name.startswith("IREE_MIGRAPHX_") and name not in _VARIABLES:
            raise OptionError(f"the environment sets {name}, which is not a setting{did_you_mean(name, _VARIABLES)}")
    settings = {}
    for name, (option, read) in _VARIABLES.items():
        text = environment.get(name, "")
        if text:
            settings[option] = read(name, text)
    if "flags" not in settings:
        return settings
    readers = {option: read for option, read in _VARIABLES.values() if option != "flags"}
    return {**read_config(settings.pop("flags"), readers), **settings}


def _bool(name: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise OptionError(f"{name}={text!r} is neither on (1) nor off (0)")


def _int(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise OptionError(f"{name}={text!r} is not a whole number") from error


def _float(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise OptionError(f"{name}={text!r} is not a number") from error


def _require(condition: bool, name: str, value: object, wanted: str) -> None:
    if not condition:
        raise OptionError(f"{name} is {value!r}; it must be {wanted}")


def _path(name: str, value: object) -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise OptionError(f"{name} is {value!r}; it must be a path")
    return Path(value).expanduser()


def _paths(name: str, text: str) -> tuple[Path, ...]:
    return tuple(Path(part).expanduser() for part in re.split(f"[{os.pathsep}{BETWEEN}]", text) if part)


def _patterns(name: str, text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in re.split(f"[,{BETWEEN}]", text) if part.strip())


#: Variable -> the option it sets, and how its text is read.
_VARIABLES: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "IREE_DISABLE": ("disable", _bool),
    "IREE_DEBUG": ("debug", _int),
    "IREE_MIGRAPHX_LOG": ("log", lambda name, text: text),
    "IREE_BIN": ("iree_bin", lambda name, text: Path(text)),
    "IREE_TOOL_PATH": ("iree_tool_path", lambda name, text: Path(text)),
    "IREE_CONFIG": ("flags", lambda name, text: Path(text)),
    "IREE_MIGRAPHX_ELIGIBLE": ("eligible", lambda name, text: text),
    "IREE_MIGRAPHX_EXTRA": ("extra", _bool),
    "IREE_MIGRAPHX_INCLUDE": ("include", _patterns),
    "IREE_MIGRAPHX_EXCLUDE": ("exclude", _patterns),
    "IREE_MIGRAPHX_ARCH": ("arch", lambda name, text: text),
    "IREE_MIGRAPHX_WORKERS": ("workers", _int),
    "IREE_MIGRAPHX_KERNELS_PER_PROCESS": ("kernels_per_process", _int),
    "IREE_MIGRAPHX_TIMEOUT": ("timeout", _float),
    "IREE_MIGRAPHX_CAPTURE_TIMEOUT": ("capture_timeout", _float),
    "IREE_MIGRAPHX_CACHE": ("cache", _bool),
    "IREE_MIGRAPHX_CACHE_DIR": ("cache_dir", lambda name, text: Path(text).expanduser()),
    "IREE_MIGRAPHX_CACHE_READONLY": ("cache_readonly", _paths),
    "IREE_MIGRAPHX_CACHE_SIZE": ("cache_size", _int),
    "IREE_MIGRAPHX_FAILURES": ("failures", lambda name, text: Path(text).expanduser()),
    "IREE_MIGRAPHX_VERIFY": ("verify", _bool),
    "IREE_MIGRAPHX_THREADS": ("threads", _int),
    "IREE_MIGRAPHX_QUIET": ("quiet", _bool),
}
