"""`iree-migraphx cache`: look into the kernel cache and take care of it."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.errors import OptionError, Refusal
from iree_migraphx.options import Options

if TYPE_CHECKING:
    from iree_migraphx.kernels.cache import KernelCache
    from iree_migraphx.kernels.upkeep import Item
    from iree_migraphx.report import KernelResources

_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("cache", help="look into the kernel cache and take care of it")
    parser.add_argument("--dir", type=Path, help="another cache than that of IREE_MIGRAPHX_CACHE_DIR")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
        action.set_defaults(run=run)
        return action

    add("path", _path, "print where it is, and the read-only ones that are looked at first")
    add("list", _list, "print a line for each kernel, the last used first")
    add("show", _show, "print what is known of a kernel").add_argument("key", help="the beginning of its key")
    add("clear", _clear, "remove everything")
    prune = add("prune", _prune, "remove what was used longest ago")
    prune.add_argument("--size", type=_size, help="how much may stay: 500M, 2G; IREE_MIGRAPHX_CACHE_SIZE by default")
    prune.add_argument("--unused", type=_age, help="remove also what was not used for so long: 12h, 30d, 8w")
    add("verify", _verify, "read everything, and remove what is damaged; the exit status is 1 if anything is")


def _path(arguments: argparse.Namespace) -> int:
    options = _options(arguments)
    print(options.cache_dir)
    for folder in options.cache_readonly:
        print(f"{folder} (read-only)")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from iree_migraphx.kernels.entry import CorruptEntryError, read_entry
    from iree_migraphx.kernels.upkeep import items

    total, kernels = 0, 0
    for item in sorted(items(_existing(arguments)), key=lambda item: item.used, reverse=True):
        total += item.size
        if not item.path.is_dir():
            continue
        kernels += 1
        try:
            entry = read_entry(item.path)
            refused = f"  {entry.result.reason.value}" if isinstance(entry.result, Refusal) else ""
            what = f"{entry.made_of['target']:<12} {entry.made_of['symbol']}{refused}"
        except CorruptEntryError as error:
            what = f"damaged: {error}"
        print(f"{item.path.name[:12]}  {_day(item.used)}  {item.size >> 10:>6} KB  {what}")
    print(f"{kernels} kernels and refusals, {total / _UNITS['M']:.1f} MB in {_options(arguments).cache_dir}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
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
    print(f"folder     {path}")
    for file in sorted(path.iterdir()):
        print(f"           {file.name}, {file.stat().st_size} bytes")
    print(f"made       {_day(entry.made)}")
    if isinstance(entry.result, Refusal):
        print(f"refused    {entry.result}")
    else:
        for name, value in _resources(entry.result.resources):
            print(f"{name:<10} {value}")
    for name, text in entry.made_of.items():
        print(f"{name:<10} {_first_line(text)}")
    return 0


def _clear(arguments: argparse.Namespace) -> int:
    from iree_migraphx.kernels.upkeep import clear

    removed = clear(_cache(arguments))
    print(_removed(removed))
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    from iree_migraphx.kernels.upkeep import prune

    options = _options(arguments)
    limit = arguments.size if arguments.size is not None else (options.cache_size or 1 << 40) * _UNITS["M"]
    oldest = time.time() - arguments.unused if arguments.unused is not None else 0.0
    print(_removed(prune(_cache(arguments), limit, oldest)))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from iree_migraphx.kernels.upkeep import verify

    cache = _cache(arguments)
    damaged = 0
    for item, fault in verify(cache):
        damaged += 1
        print(f"{item.path}: {fault}; {'removed' if cache.remove(item.path) else 'it can not be removed'}")
    print(f"{damaged} damaged" if damaged else "everything is as it was written")
    return 1 if damaged else 0


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


def _removed(items: list[Item]) -> str:
    return f"{len(items)} removed, {sum(item.size for item in items) / _UNITS['M']:.1f} MB"


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
