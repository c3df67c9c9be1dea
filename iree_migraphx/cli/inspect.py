"""`iree-migraphx inspect`: one subgraph, from its operators to the instructions of its kernel."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from iree_migraphx.cli.devices import COMPUTE_UNITS, chip_of
from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.job import add_iree, add_target, options_of, report_of, write_reports
from iree_migraphx.cli.limits import occupancy, roof
from iree_migraphx.cli.model import add_half, add_model, in_half, read_model
from iree_migraphx.cli.output import print_json, print_rows, say
from iree_migraphx.cli.work import work_of
from iree_migraphx.config import did_you_mean
from iree_migraphx.errors import OptionError, Refusal

if TYPE_CHECKING:
    from iree_migraphx.cli.listing import Listing
    from iree_migraphx.partition.subgraph import Subgraph
    from iree_migraphx.report import SubgraphReport
    from iree_migraphx.study import Study

_DESCRIPTION = """Without --subgraph, lists the subgraphs of a model. With it, shows that one's MLIR, the flags that it
is compiled with, its kernel's instructions, what the kernel asks of the device, and which roof it is under. Without
--arch for this machine's CPU, or its GPU with --gpu."""

SECTIONS = ("summary", "mlir", "flags", "resources", "instructions")


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    text = "show one subgraph: its MLIR, flags, instructions and what limits it"
    parser = commands.add_parser("inspect", help=text, description=_DESCRIPTION)
    add_model(parser)
    group = parser.add_argument_group("what to show")
    group.add_argument(
        "--subgraph", metavar="NAME", help="its name, its number in the list, or the beginning of its key"
    )
    group.add_argument(
        "--show",
        action="append",
        choices=SECTIONS,
        default=[],
        help="only this section; may be repeated (default: all)",
    )
    group.add_argument("--json", action="store_true", help="as JSON")
    add_half(parser)
    add_target(parser)
    add_iree(parser, checks_only=True)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from iree_migraphx.kernels.targets import parse_target
    from iree_migraphx.study import study

    options = options_of(arguments)
    if options.disable:
        raise OptionError("IREE is switched off (IREE_DISABLE=1), so there is nothing to look into")
    report_file = report_of(arguments)
    own = None if arguments.target == "gpu" else options.arch or "host"
    targets: list[str | None] = [str(parse_target(name)) for name in arguments.arch]
    model = read_model(arguments)
    if model.is_compiled:
        raise OptionError(f"{arguments.model} is compiled already; give the model that it was made of")
    for note in model.notes():
        say(f"iree-migraphx: {note}")
    in_half(model.program, arguments)
    reports, shown = [], []
    for arch in targets or [own]:
        found = study(model.program, arch, options)
        reports.append(found.report)
        if arguments.subgraph is None:
            shown.append({"arch": str(found.target), "subgraphs": list(_list(found))})
        else:
            shown.append(_look(found, _find(found, arguments.subgraph), options, arguments.show or SECTIONS))
    if arguments.json:
        print_json(shown)
    else:
        for each in shown:
            _print_list(each) if arguments.subgraph is None else _print(each)
    if report_file is not None:
        write_reports(report_file, reports)
    return ExitCode.FALLBACK if arguments.strict and any(report.fallbacks for report in reports) else ExitCode.OK


def _list(found: Study) -> Iterator[dict[str, Any]]:
    for number, (subgraph, report) in enumerate(zip(found.plan.subgraphs, found.report.subgraphs, strict=True)):
        work = work_of(subgraph)
        yield {
            "number": number,
            "name": subgraph.name,
            "key": subgraph.key,
            "output": report.output,
            "flops": work.flops,
            "bytes": work.bytes,
            "provider": report.provider,
            "reason": report.reason.value if report.reason else None,
        }


def _print_list(shown: dict[str, Any]) -> None:
    rows = [
        (
            str(each["number"]),
            each["name"],
            each["key"][:8],
            each["output"],
            f"{each['flops'] / 1e6:.3g}",
            f"{each['bytes'] / 1e6:.3g}",
            "accepted" if each["provider"] == "iree" else str(each["reason"]),
        )
        for each in shown["subgraphs"]
    ]
    print_rows(("", "subgraph", "key", "output", "Mflop", "MB", shown["arch"]), rows)


def _find(found: Study, wanted: str) -> int:
    subgraphs = found.plan.subgraphs
    names = [subgraph.name for subgraph in subgraphs]
    if wanted in names:
        return names.index(wanted)
    if wanted.isdigit() and int(wanted) < len(names):
        return int(wanted)
    by_key = [number for number, subgraph in enumerate(subgraphs) if subgraph.key.startswith(wanted)]
    if by_key and len({subgraphs[number].key for number in by_key}) == 1:
        return by_key[0]
    hint = did_you_mean(wanted, names) or "; without --subgraph they are listed"
    raise OptionError(f"there is no subgraph {wanted!r}{hint}")


def _look(found: Study, number: int, options: Any, sections: Sequence[str]) -> dict[str, Any]:
    """What is known of a subgraph, by section."""
    from iree_migraphx.kernels.flags import compile_flags

    subgraph, report = found.plan.subgraphs[number], found.report.subgraphs[number]
    request = found.plan.requests.get(subgraph.key)
    shown: dict[str, Any] = {"arch": str(found.target)}
    if "summary" in sections:
        shown["summary"] = {**_summary(subgraph, report), "work": asdict(work_of(subgraph))}
    if "mlir" in sections:
        shown["mlir"] = request.mlir if request else None
    if "flags" in sections:
        shown["flags"] = [str(flag) for flag in compile_flags(found.target, options, subgraph.anchor)]
    listing = None
    if request and report.kernel and {"resources", "instructions"} & set(sections):
        from iree_migraphx.cli.listing import kernel_listing

        try:
            listing = kernel_listing(request, found.target, options)
        except Refusal as refusal:
            say(f"iree-migraphx: no instructions: {refusal}")
    if "resources" in sections:
        shown["resources"] = _resources(found, subgraph, report, listing)
    if "instructions" in sections:
        shown["instructions"] = listing.text if listing else None
    return shown


def _summary(subgraph: Subgraph, report: SubgraphReport) -> dict[str, Any]:
    return {
        "name": subgraph.name,
        "key": subgraph.key,
        "operators": list(subgraph.operators),
        "inputs": list(report.inputs),
        "output": report.output,
        "provider": report.provider,
        "reason": report.reason.value if report.reason else None,
        "detail": report.detail,
    }


def _resources(found: Study, subgraph: Subgraph, report: SubgraphReport, listing: Listing | None) -> dict[str, Any]:
    target, shown = found.target, dict[str, Any]()
    if listing is not None:
        shown.update(instructions=listing.counts, matrix_instructions=listing.matrix)
    if report.kernel is None or target.is_host:
        return shown
    shown["kernel"] = asdict(report.kernel)
    unit, chip = COMPUTE_UNITS.get(target.gfx), chip_of(target.name, target.gfx)
    full = occupancy(report.kernel, unit, chip[1].units if chip else None) if unit else None
    above = roof(work_of(subgraph), target.name, target.gfx)
    shown["occupancy"] = asdict(full) if full else None
    shown["roof"] = asdict(above) if above else None
    return shown


def _print(shown: dict[str, Any]) -> None:
    summary = shown.get("summary")
    if summary:
        work = summary["work"]
        print(f"{summary['name']} for {shown['arch']}, key {summary['key']}")
        print(f"operators   {' '.join(summary['operators'])}")
        print(f"operands    {', '.join(summary['inputs'])}\nresult      {summary['output']}")
        refused = f"MIGraphX: {summary['reason']}: {summary['detail']}"
        print(f"computed by {'IREE' if summary['provider'] == 'iree' else refused}")
        print(
            f"work        {work['flops'] / 1e6:.4g} Mflop ({work['matrix_flops'] / 1e6:.4g} in convolutions and dots), "
            f"{work['bytes'] / 1e6:.4g} MB at the least"
        )
    if "resources" in shown:
        print("\n".join(_resource_lines(shown["resources"], shown["arch"])))
    for name, text in (
        ("flags", "\n".join(shown.get("flags") or ())),
        ("mlir", shown.get("mlir")),
        ("instructions", shown.get("instructions")),
    ):
        if name in shown:
            print(f"\n{name}:\n{(text or 'none').rstrip()}", flush=True)


def _resource_lines(resources: dict[str, Any], arch: str) -> Iterator[str]:
    kernel, full, above = resources.get("kernel"), resources.get("occupancy"), resources.get("roof")
    if kernel:
        several = f", the largest of {kernel['launches']} launches" if (kernel["launches"] or 1) > 1 else ""
        yield f"launch      {kernel['workgroups']} workgroups of {kernel['workgroup_size']} work-items{several}"
        agprs = f" and {kernel['agprs']} accumulation" if kernel["agprs"] else ""
        yield f"registers   {kernel['vgprs']} vector{agprs}, {kernel['sgprs']} scalar, {kernel['spills']} spilled"
        yield f"LDS         {kernel['lds_bytes']} bytes a workgroup"
    if full:
        limits = ", ".join(f"{name} {waves}" for name, waves in full["limits"].items())
        by = f"limited by {full['limited_by']} ({limits})"
        yield f"occupancy   {full['waves']} of {full['most']} wavefronts a SIMD, {by}"
        if full["filled"] is not None and full["filled"] < 1:
            yield f"            its workgroups reach {full['filled']:.0%} of the compute units"
    if above:
        yield (
            f"roof        {above['bound']}: {above['intensity']:.3g} flop a byte, the ridge is at {above['ridge']:.3g} "
            f"({above['teraflops']:g} Tflop/s, {above['terabytes']:g} TB/s, {above['chip']}); "
            f"at least {above['seconds'] * 1e6:.3g} µs"
        )
    elif kernel:
        yield f"roof        not known: {arch} is not in the table of devices, or has no peak for this element type"
    if "instructions" in resources:
        counts = ", ".join(f"{count} {kind}" for kind, count in resources["instructions"].items())
        yield f"instructions {sum(resources['instructions'].values())}: {counts}"
        matrix = ", ".join(f"{count} {name}" for name, count in resources["matrix_instructions"].items())
        yield f"matrix      {matrix or 'no matrix instructions'}"
