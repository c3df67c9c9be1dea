"""`iree-migraphx cache`: look into the kernel cache and take care of it."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.output import print_json
from iree_migraphx.errors import OptionError, Refusal
from iree_migraphx.options import Options

if TYPE_CHECKING:
    from iree_migraphx.kernels.cache import KernelCache
    from iree_migraphx.kernels.upkeep import Item
    from iree_migraphx.report import KernelResources

_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


@dataclass(frozen=True)
class _Found:
    """What an action found or did: as data, and as lines."""

    data: dict[str, Any]
    lines: Sequence[str]
    status: ExitCode = ExitCode.OK


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("cache", help="look into the kernel cache and take care of it")
    parser.add_argument("--dir", type=Path, help="another cache than that of IREE_MIGRAPHX_CACHE_DIR")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def add(name: str, act: Callable[[argparse.Namespace], _Found], text: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
        action.add_argument("--json", action="store_true", help="as JSON")
        action.set_defaults(run=_run, act=act)
        return action

    add("path", _path, "print where it is, and the read-only ones that are looked at first")
    add("list", _list, "print a line for each kernel, the last used first")
    add("show", _show, "print what is known of a kernel").add_argument("key", help="the beginning of its key")
    add("clear", _clear, "remove everything")
    prune = add("prune", _prune, "remove what was used longest ago")
    prune.add_argument("--size", type=_size, help="how much may stay: 500M, 2G; IREE_MIGRAPHX_CACHE_SIZE by default")
    prune.add_argument("--unused", type=_age, help="remove also what was not used for so long: 12h, 30d, 8w")
    add("verify", _verify, "read everything, and remove what is damaged; the exit status is 1 if anything is")


def _run(arguments: argparse.Namespace) -> int:
    found: _Found = arguments.act(arguments)
    if arguments.json:
        print_json(found.data)
    else:
        for line in found.lines:
            print(line)
    return found.status


def _path(arguments: argparse.Namespace) -> _Found:
    options = _options(arguments)
    readonly = [str(folder) for folder in options.cache_readonly]
    data = {"folder": str(options.cache_dir), "readonly": readonly}
    return _Found(data, [str(options.cache_dir), *(f"{folder} (read-only)" for folder in readonly)])


def _list(arguments: argparse.Namespace) -> _Found:
    from iree_migraphx.kernels.entry import CorruptEntryError, read_entry
    from iree_migraphx.kernels.upkeep import items

    folder = _existing(arguments)
    everything = sorted(items(folder), key=lambda item: item.used, reverse=True)
    entries, lines = [], []
    for item in everything:
        if not item.path.is_dir():
            continue
        known: dict[str, Any] = {"key": item.path.name, "used": item.used, "bytes": item.size}
        try:
            entry = read_entry(item.path)
            known |= {"target": entry.made_of["target"], "symbol": entry.made_of["symbol"]}
            known["reason"] = entry.result.reason.value if isinstance(entry.result, Refusal) else None
            what = f"{known['target']:<12} {known['symbol']}{'  ' if known['reason'] else ''}{known['reason'] or ''}"
        except CorruptEntryError as error:
            known["damaged"] = str(error)
            what = f"damaged: {error}"
        entries.append(known)
        lines.append(f"{item.path.name[:12]}  {_day(item.used)}  {item.size >> 10:>6} KB  {what}")
    total = sum(item.size for item in everything)
    lines.append(f"{len(entries)} kernels and refusals, {total / _UNITS['M']:.1f} MB in {folder}")
    return _Found({"folder": str(folder), "bytes": total, "entries": entries}, lines)


def _show(arguments: argparse.Namespace) -> _Found:
    from iree_migraphx.kernels.entry import CorruptEntryError, read_entry

    folder = _existing(arguments)
    found = [path for path in folder.glob("[0-9a-f][0-9a-f]/*") if path.name.startswith(arguments.key)]
    if len(found) != 1:
        many = f"{len(found)} keys begin" if found else "no key begins"
        raise OptionError(f"{many} with {arguments.key!r} in {folder}; `iree-migraphx cache list` shows them")
    path = found[0]
    try:
        entry = read_entry(path)
    except CorruptEntryError as error:
        raise OptionError(f"{path} is damaged ({error}); `iree-migraphx cache verify` removes it") from error
    files = {file.name: file.stat().st_size for file in sorted(path.iterdir())}
    data: dict[str, Any] = {"key": path.name, "folder": str(path), "files": files, "made": entry.made}
    lines = [f"folder     {path}", *(f"           {name}, {size} bytes" for name, size in files.items())]
    lines.append(f"made       {_day(entry.made)}")
    if isinstance(entry.result, Refusal):
        data["refused"] = {"reason": entry.result.reason.value, "detail": entry.result.detail}
        lines.append(f"refused    {entry.result}")
    else:
        data["kernel"] = asdict(entry.result.resources)
        lines += [f"{name:<10} {value}" for name, value in _resources(entry.result.resources)]
    data["made_of"] = dict(entry.made_of)
    return _Found(data, [*lines, *(f"{name:<10} {_first_line(text)}" for name, text in entry.made_of.items())])


def _clear(arguments: argparse.Namespace) -> _Found:
    from iree_migraphx.kernels.upkeep import clear

    return _removed(clear(_cache(arguments)))


def _prune(arguments: argparse.Namespace) -> _Found:
    from iree_migraphx.kernels.upkeep import prune

    options = _options(arguments)
    limit = arguments.size if arguments.size is not None else (options.cache_size or 1 << 40) * _UNITS["M"]
    oldest = time.time() - arguments.unused if arguments.unused is not None else 0.0
    return _removed(prune(_cache(arguments), limit, oldest))


def _verify(arguments: argparse.Namespace) -> _Found:
    from iree_migraphx.kernels.upkeep import verify

    cache = _cache(arguments)
    damaged, lines = [], []
    for item, fault in verify(cache):
        removed = cache.remove(item.path)
        damaged.append({"folder": str(item.path), "fault": str(fault), "removed": removed})
        lines.append(f"{item.path}: {fault}; {'removed' if removed else 'it can not be removed'}")
    lines.append(f"{len(damaged)} damaged" if damaged else "everything is as it was written")
    return _Found({"damaged": damaged}, lines, ExitCode.FAILED if damaged else ExitCode.OK)


def _options(arguments: argparse.Namespace) -> Options:
    options = Options.resolve()
    return options if arguments.dir is None else replace(options, cache_dir=arguments.dir, cache_readonly=())


def _existing(arguments: argparse.Namespace) -> Path:
    folder = _options(arguments).cache_dir
    if not folder.is_dir():
        raise OptionError(f"there is no cache in {folder} (IREE_MIGRAPHX_CACHE_DIR and --dir name another folder)")
    return folder


def _cache(arguments: argparse.Namespace) -> KernelCache:
    from iree_migraphx.kernels.cache import KernelCache

    folder = _existing(arguments)
    cache = KernelCache(folder)
    if not cache.writable:
        raise OptionError(f"the cache {folder} can't be written to")
    return cache


def _removed(items: list[Item]) -> _Found:
    total = sum(item.size for item in items)
    data = {"removed": [str(item.path) for item in items], "bytes": total}
    return _Found(data, [f"{len(items)} removed, {total / _UNITS['M']:.1f} MB"])


def _resources(resources: KernelResources) -> Iterator[tuple[str, object]]:
    for name, value in asdict(resources).items():
        if value is not None:
            yield "kernel" if name == "symbol" else name, value


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _first_line(text: str) -> str:
    first, _, rest = text.partition("\n")
    return first + (" …" if rest else "")


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?", text.upper())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500M or 2G")
    return int(float(found[1]) * _UNITS[found[2]])


def _age(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 12h, 30d or 8w")
    return float(found[1]) * _SECONDS[found[2]]
