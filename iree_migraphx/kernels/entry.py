"""One cache entry: a folder that a person can read, with a checksum over everything that is used of it.

`input.mlir`, `command.txt`, `meta.json` and the kernel as `kernel.hsaco` or `kernel.vmfb`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.model import Copy, Fill, GpuKernel, GpuSequence, HostKernel, Kernel, Launch, Region
from iree_migraphx.report import KernelResources

META = "meta.json"
MLIR = "input.mlir"
_COMMAND = "command.txt"
_KERNEL_FILES = {"gpu": "kernel.hsaco", "sequence": "kernel.hsaco", "host": "kernel.vmfb"}


class CorruptEntryError(Exception):
    """An entry that is not what was written; the message says how it shows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry says.

    Attributes:
        made_of: what its key is made of, the MLIR left out.
        made: when, in seconds since 1970, by the clock of the machine that made it.
        limit: seconds that its compile could take; of interest where it took longer.
    """

    key: str
    result: Kernel | Refusal
    made_of: Mapping[str, str]
    made: float = 0.0
    limit: float = 0.0


def cache_key(entries: Mapping[str, str]) -> str:
    """Digest of named texts in their order. No two different mappings feed the hash the same bytes."""
    digest = hashlib.blake2b(digest_size=20)
    for part in [text for entry in entries.items() for text in entry]:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def write_entry(folder: Path, entry: Entry, mlir: str, command: Sequence[str]) -> None:
    """Write an entry's files into a folder, which nobody else may know yet.

    Raises:
        OSError: they can't be written.
    """
    meta: dict[str, Any] = {"key": entry.key, "made_of": dict(entry.made_of), "made": entry.made, "limit": entry.limit}
    kernel = _describe(entry.result, meta)
    meta["checksum"] = _checksum(meta, kernel)
    (folder / MLIR).write_text(mlir, encoding="utf-8")
    (folder / _COMMAND).write_text(shlex.join(command) + "\n", encoding="utf-8")
    (folder / META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    if kernel:
        (folder / _KERNEL_FILES[meta["kind"]]).write_bytes(kernel)


def read_entry(folder: Path) -> Entry:
    """Read an entry and check that it is what was written, under the name it was written for.

    Raises:
        CorruptEntryError: it is not, or can't be read.
    """
    try:
        meta = json.loads((folder / META).read_bytes())
        checksum, kind = meta.pop("checksum"), meta["kind"]
        kernel = b"" if kind == "refusal" else (folder / _KERNEL_FILES[kind]).read_bytes()
        if checksum != _checksum(meta, kernel) or meta["key"] != folder.name:
            raise CorruptEntryError("its checksum is wrong")
        return Entry(meta["key"], _result(meta, kernel), meta["made_of"], meta["made"], meta["limit"])
    except OSError as error:
        raise CorruptEntryError(str(error)) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptEntryError(f"its {META} is damaged ({error})") from error


def check_source(folder: Path, entry: Entry) -> None:
    """Check also what is there for people: that the key is the digest of what it is said to be made of.

    Raises:
        CorruptEntryError: the MLIR is not the one that was compiled.
    """
    try:
        mlir = (folder / MLIR).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptEntryError(f"its {MLIR} can't be read ({error})") from error
    if cache_key({**entry.made_of, "mlir": mlir}) != entry.key:
        raise CorruptEntryError(f"its {MLIR} is not what the key is made of")


def _describe(result: Kernel | Refusal, meta: dict[str, Any]) -> bytes:
    """Write everything of a result but the kernel's bytes into `meta`; returns those."""
    if isinstance(result, Refusal):
        meta.update(kind="refusal", reason=result.reason.value, detail=result.detail)
        return b""
    if isinstance(result, HostKernel):
        meta.update(kind="host", symbol=result.symbol)
        return result.vmfb
    if isinstance(result, GpuSequence):
        meta.update(kind="sequence", symbol=result.symbol, arguments=result.arguments, results=result.results)
        steps = [{"kind": type(step).__name__, **asdict(step)} for step in result.steps]
        meta.update(temporaries=list(result.temporaries), steps=steps)
        return result.code_object
    meta.update(kind="gpu", symbol=result.symbol, workgroups=result.workgroups, workgroup_size=result.workgroup_size)
    meta.update(operands=list(result.operands), resources=asdict(result.resources))
    meta.update(workgroups_yz=list(result.workgroups_yz), workgroup_size_yz=list(result.workgroup_size_yz))
    meta.update(dynamic_lds=result.dynamic_lds)
    return result.code_object


def _result(meta: Mapping[str, Any], kernel: bytes) -> Kernel | Refusal:
    if meta["kind"] == "refusal":
        return Refusal(Reason(meta["reason"]), meta["detail"])
    if meta["kind"] == "host":
        return HostKernel(meta["symbol"], kernel)
    if meta["kind"] == "sequence":
        steps = tuple(map(_step, meta["steps"]))
        temporaries = tuple(meta["temporaries"])
        return GpuSequence(meta["symbol"], kernel, steps, meta["arguments"], meta["results"], temporaries)
    return GpuKernel(
        meta["symbol"],
        kernel,
        meta["workgroups"],
        meta["workgroup_size"],
        KernelResources(**meta["resources"]),
        tuple(meta["operands"]),
        *_more(meta),
    )


def _step(meta: Mapping[str, Any]) -> Launch | Fill | Copy:
    if meta["kind"] == "Fill":
        return Fill(Region(**meta["target"]))
    if meta["kind"] == "Copy":
        return Copy(Region(**meta["source"]), Region(**meta["target"]))
    pointers = tuple(Region(**region) for region in meta["pointers"])
    resources = KernelResources(**meta["resources"])
    return Launch(meta["symbol"], meta["workgroups"], meta["workgroup_size"], resources, pointers, *_more(meta))


def _more(meta: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, int], int]:
    """What only a MIGraphX with patches/ can give to a launch."""
    (a, b), (c, d) = meta["workgroups_yz"], meta["workgroup_size_yz"]
    # Entries from before it was known of have none of it.
    return (a, b), (c, d), meta.get("dynamic_lds", 0)


def _checksum(meta: Mapping[str, Any], kernel: bytes) -> str:
    text = json.dumps(meta, sort_keys=True).encode()
    return hashlib.blake2b(text + b"\0" + kernel, digest_size=20).hexdigest()
