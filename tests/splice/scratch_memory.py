"""What a program compiled for the gpu does to its scratch memory, byte by byte, one instruction after another."""

from dataclasses import dataclass, field

SCRATCH = "hip::hip_allocate_memory"
COPIES = ("hip::copy", "hip::copy_to_gpu", "hip::copy_from_gpu")
VIEWS = ("load", "slice", "identity", "transpose", "reshape_lazy", "squeeze", "unsqueeze", "multibroadcast")


@dataclass
class Memory:
    """The scratch memory of a module after a run of it.

    Attributes:
        owners: who used each byte last; a bytearray's worth of numbers, in runs: (begin, end) -> place.
        uses: place -> indices of the instructions that used it.
        lost: (instruction, place) where a place was used again after another had overwritten bytes of it.
        returned: places that the module's result is in.
    """

    size: int = 0
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    uses: dict[str, list[int]] = field(default_factory=dict)
    intact: set[str] = field(default_factory=set)
    lost: list[tuple[str, str]] = field(default_factory=list)
    returned: set[str] = field(default_factory=set)

    @property
    def most_alive(self):
        """The most bytes that lie here for somebody at one instruction: from the first use of each to the last."""
        instants = {index for used in self.uses.values() for index in used}
        return max((sum(self.alive(place, at) for place in self.uses) for at in instants), default=0)

    def alive(self, place, at):
        begin, end = self.spans[place]
        return end - begin if min(self.uses[place]) <= at <= max(self.uses[place]) else 0

    def use(self, place, index, instruction):
        if place not in self.uses:
            self.intact = {other for other in self.intact if not overlap(self.spans[place], self.spans[other])}
            self.intact.add(place)
        elif place not in self.intact:
            self.lost.append((instruction.id, place))
        self.uses.setdefault(place, []).append(index)


def overlap(a, b):
    return max(a[0], b[0]) < min(a[1], b[1])


def followed(made, name="main"):
    module = made.modules[name]
    memory = Memory(sum(i.shape.nbytes for i in module.instructions if i.name == SCRATCH))
    roots = {i.id for i in module.instructions if i.name == SCRATCH}
    where = {}
    for index, i in enumerate(module.instructions):
        if i.name == "load" and i.inputs[0] in roots:
            begin = i.operator["offset"]
            assert begin + i.shape.nbytes <= memory.size, f"{i.id} is not inside of the scratch memory"
            memory.spans[i.id] = (begin, begin + i.shape.nbytes)
            where[i.id] = {i.id}
            continue
        assert not roots & set(i.inputs), f"{i.id} uses the scratch memory as it is"
        inside = [each for submodule in i.modules for _, each in made.walk(submodule)]
        values = [*i.inputs, *(value for each in inside for value in each.inputs)]
        read = set().union(*(where.get(value, ()) for value in values))
        if i.name not in VIEWS and i.name != "get_tuple_elem":
            for place in sorted(read):
                memory.use(place, index, i)
        if i.name in COPIES or (i.name.startswith("gpu::") and not i.modules):
            # The result is the operand that it was written to; a copy to the host has none.
            values = [] if len(i.inputs) == 1 and i.name in COPIES else [i.inputs[i.operator.get("output_arg", -1)]]
        where[i.id] = set().union(*(where.get(value, ()) for value in values))
        if i.name == "@return":
            memory.returned |= where[i.id]
    return memory


def assert_nothing_is_overwritten(made):
    """All that an instruction reads is still what was written there."""
    for name in made.modules:
        memory = followed(made, name)
        assert not memory.lost, (name, memory.lost)
        if name != "main":
            for place in memory.returned:
                others = memory.spans.keys() - {place}
                assert not any(overlap(memory.spans[place], memory.spans[other]) for other in others), (name, place)


def assert_little_is_wasted(made):
    for name in made.modules:
        memory = followed(made, name)
        assert memory.size <= 1.15 * memory.most_alive, (name, memory.size, memory.most_alive)
