"""What a program compiled for the gpu does to its scratch memory, byte by byte, one instruction after another."""

from dataclasses import dataclass, field

SCRATCH = "hip::hip_allocate_memory"
COPIES = ("hip::copy", "hip::copy_to_gpu", "hip::copy_from_gpu")
VIEWS = ("load", "slice", "identity", "transpose", "reshape_lazy", "squeeze", "unsqueeze", "multibroadcast")


@dataclass
class Memory:
    """The scratch memory of a module after a run of it.

    Attributes:
        size: bytes.
        spans: place -> its first byte, and the one behind its last.
        uses: place -> indices of the instructions that used it.
        intact: places in use of which no other has taken a byte since.
        lost: (instruction, place) where an instruction used a place that is not intact.
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

    def use(self, places, index, instruction):
        for place in sorted(places - self.uses.keys()):
            self.intact = {other for other in self.intact if not overlap(self.spans[place], self.spans[other])}
            self.intact.add(place)
        for place in sorted(places):
            self.uses.setdefault(place, []).append(index)
            if place not in self.intact:
                self.lost.append((instruction.id, place))


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
        values = {*i.inputs, *(value for sub in i.modules for _, each in made.walk(sub) for value in each.inputs)}
        if i.name not in VIEWS and i.name != "get_tuple_elem":
            memory.use(set().union(*(where.get(value, ()) for value in values)), index, i)
        where[i.id] = set().union(*(where.get(value, ()) for value in same_memory(made, i)))
        if i.name == "@return":
            memory.returned |= where[i.id]
    return memory


def same_memory(made, instruction):
    """Values whose memory an instruction's result may be."""
    if instruction.modules:
        returned = {made.modules[name].instructions[-1].id for name in instruction.modules}
        inside = {each.id: each for name in instruction.modules for _, each in made.walk(name)}
        pending = list(returned)
        while pending:
            more = set(same_memory(made, inside[pending.pop()])) - returned
            returned |= more
            pending += more & inside.keys()
        return {*instruction.inputs, *returned}
    if instruction.name in COPIES:
        return instruction.inputs[1:]
    if instruction.name.startswith("gpu::") and instruction.inputs:
        return [instruction.inputs[instruction.operator.get("output_arg", -1)]]
    return instruction.inputs


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
