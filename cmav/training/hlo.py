"""What can be read of a compiled program: XLA's text of it, as `jax.stages.Compiled.as_text` gives it."""

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

_SHAPE = re.compile(r"\b(pred|bf16|[suf]\d+(?:e\dm\d\w*)?|c64|c128)\[([\d,]*)\]")
_NAMES = re.compile(r"%([\w.-]+)")
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# These move nothing.
_FREE = ("parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all", "while", "conditional", "call")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line.

    Attributes:
      name: unique in its computation.
      opcode: such as "fusion".
      bytes: of its output.
      operands: names of what it takes; of a parameter its number.
      where: the path of what it was traced from, with the modules' names; "" where that is not known.
      cycles: that the compiler estimates; 0: it says nothing.
      calls: names of computations that it runs, by role: "body", "to_apply", ...
      trips: how often a loop's body is run.
      repeated: bytes of its output that are none of it.
    """

    name: str
    opcode: str
    bytes: int
    operands: tuple[str, ...]
    where: str
    cycles: int
    calls: Mapping[str, str]
    trips: int
    repeated: int = 0

    @property
    def made(self) -> int:
        """Bytes that are new in its output: what starts, and ends later, has its operands there too."""
        return self.bytes - self.repeated

    @property
    def layer(self) -> str:
        """The modules in whose layer it is, such as "video_encoder/layer_0/norm", and in which pass."""
        parts = re.sub(r"\([^()]*\)", "", self.where).split("/")
        modules = [part for part in parts if re.fullmatch(r"[a-z]\w*_(encoder|\d+)|norm|head|co_attention", part)]
        direction = "backward" if "transpose(" in self.where else "forward"
        return f"{'/'.join(dict.fromkeys(modules)) or parts[-1]}, {direction}" if self.where else self.opcode


class Program:
    """A compiled program, of one device."""

    def __init__(self, text: str):
        self._computations: dict[str, list[Instruction]] = {}
        self._entry = ""
        current: list[Instruction] = []
        for line in text.splitlines():
            if (header := re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line)) and not line.startswith(" "):
                current = self._computations[header[2]] = []
                if header[1]:
                    self._entry = header[2]
            elif instruction := _read(line):
                current.append(instruction)

    def cycles(self) -> int:
        """That the compiler estimates for a run of it; 0 on what it estimates nothing for."""
        return round(self._sum(lambda instruction, _: instruction.cycles))

    def bytes_moved(self) -> int:
        """By all its operations, in and out of memory: what each takes and makes, as if nothing stayed in a cache."""
        return round(self._sum(self._moved))

    def collectives(self) -> dict[str, tuple[int, int]]:
        """How many of each kind a run has, and the bytes of what they make together."""
        counts, sizes = Counter(), Counter()
        for instruction, times in self._all():
            kind = instruction.opcode.removesuffix("-start")
            if kind in _COLLECTIVES:
                counts[kind] += times
                sizes[kind] += times * instruction.made
        return {kind: (counts[kind], sizes[kind]) for kind in counts}

    def copies(self, at_least: int) -> list[Instruction]:
        """Operations that only give what is in memory another layout, of so many bytes or more."""
        found = [i for i, _ in self._all() if i.opcode in ("copy", "transpose") or self._only_moves(i)]
        return sorted((i for i in found if i.bytes >= at_least), key=lambda i: -i.bytes)

    def _only_moves(self, instruction: Instruction) -> bool:
        inner = self._computations.get(instruction.calls.get("calls", ""), ()) if instruction.opcode == "fusion" else ()
        return {i.opcode for i in inner} - {"parameter", "bitcast"} in ({"copy"}, {"transpose"})

    def largest(self, count: int) -> list[tuple[str, int]]:
        """Layers by the largest of what their operations leave in memory, and its bytes."""
        sizes: dict[str, int] = {}
        for instruction, _ in self._all():
            if instruction.opcode not in _FREE and not instruction.opcode.endswith(("-start", "-done")):
                sizes[instruction.layer] = max(sizes.get(instruction.layer, 0), instruction.bytes)
        return sorted(sizes.items(), key=lambda item: -item[1])[:count]

    def _moved(self, instruction: Instruction, sizes: Mapping[str, int]) -> int:
        # What goes on meanwhile is counted where it starts: of "async", in the computation that it runs.
        if instruction.opcode in (*_FREE, "async-start") or instruction.opcode.endswith("-done"):
            return 0
        operands = [sizes.get(name, 0) for name in instruction.operands]
        if instruction.opcode == "dynamic-slice":
            return 2 * instruction.bytes
        if instruction.opcode == "dynamic-update-slice":
            return 2 * operands[1]
        if instruction.opcode != "fusion":
            return instruction.made + sum(operands)
        # A fusion reads of an operand only the slices that it takes, and writes of a result only those that it changes.
        inner = self._computations[instruction.calls["calls"]]
        made = {i.name: i for i in inner}
        users: dict[str, list[Instruction]] = {}
        for i in inner:
            for name in i.operands:
                users.setdefault(name, []).append(i)

        def read(name: str, size: int) -> int:
            taken = 0
            for user in users.get(name, ()):
                if user.opcode == "bitcast":
                    taken += read(user.name, size)
                elif user.opcode in ("dynamic-slice", "slice"):
                    taken += user.bytes
                elif not (user.opcode == "dynamic-update-slice" and user.operands[0] == name):
                    return size
            return min(taken, size)

        moved = sum(read(i.name, operands[int(i.operands[0])]) for i in inner if i.opcode == "parameter")
        written = instruction.bytes
        for i in inner:
            if i.opcode == "dynamic-update-slice":
                written += made[i.operands[1]].bytes - i.bytes
        return moved + max(written, 0)

    def _all(self, name: str = "", times: int = 1) -> Iterator[tuple[Instruction, int]]:
        """Every operation that runs as one, and how often. What a fusion does inside is part of it."""
        for instruction in self._computations[name or self._entry]:
            yield instruction, times
            for called in self._runs(instruction):
                yield from self._all(called, times * instruction.trips)

    def _runs(self, instruction: Instruction) -> list[str]:
        roles = {"while": ("body",), "call": ("to_apply",), "async-start": ("calls",), "conditional": ()}
        called = [instruction.calls[role] for role in roles.get(instruction.opcode, ()) if role in instruction.calls]
        if instruction.opcode == "conditional":
            called = [name for role, name in instruction.calls.items() if "computation" in role]
        return [name for name in called if name in self._computations]

    def _sum(self, cost: Callable[[Instruction, Mapping[str, int]], float]) -> float:
        @functools.cache
        def of(name: str) -> float:
            sizes = {instruction.name: instruction.bytes for instruction in self._computations[name]}
            total = 0.0
            for instruction in self._computations[name]:
                inner = [of(called) for called in self._runs(instruction)]
                # Of a condition's branches one is run.
                inner_cost = max(inner, default=0.0) if instruction.opcode == "conditional" else sum(inner)
                total += cost(instruction, sizes) + instruction.trips * inner_cost
            return total

        return of(self._entry)


def _read(line: str) -> Instruction | None:
    match = re.match(r"\s+(?:ROOT )?%?([\w.-]+) = (.*)", line)
    if not match:
        return None
    name, rest = match.groups()
    end = _closing(rest) if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    call = re.match(r"([a-z][\w-]*)\(", rest)
    if not call:
        return None
    inner_end = _closing(rest[call.end() - 1 :]) + call.end() - 1
    operands, attributes = rest[call.end() : inner_end - 1], rest[inner_end:]
    where = re.search(r'op_name="([^"]*)"', attributes)
    cycles = re.search(r'"estimated_cycles":"(\d+)"', attributes)
    trips = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', attributes)
    calls = dict(re.findall(r"\b(\w+)=%([\w.-]+)", attributes))
    for role, names in re.findall(r"\b(\w+computations)=\{([^}]*)\}", attributes):
        calls |= {f"{role}_{number}": name for number, name in enumerate(_NAMES.findall(names))}
    sizes = [_size(*found) for found in _SHAPE.findall(shape)]
    repeats = call[1] in ("all-gather-start", "collective-permute-start", "copy-start")
    return Instruction(
        name=name,
        opcode=call[1],
        bytes=sum(sizes),
        # A copy's output stands before what it copies, the others' after it.
        repeated=sum(sizes) - sizes[0 if call[1] == "copy-start" else 1] if repeats and len(sizes) > 1 else 0,
        operands=(operands,) if call[1] == "parameter" else tuple(_NAMES.findall(operands)),
        where=where[1] if where else "",
        cycles=int(cycles[1]) if cycles else 0,
        calls=calls,
        trips=int(trips[1]) if trips else 1,
    )


def _closing(text: str) -> int:
    """The place after the parenthesis that closes the one that the text begins with."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place + 1
    return len(text)


def _size(dtype: str, dims: str) -> int:
    bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])  # of others the name says them
    return math.ceil(bits / 8 * math.prod(map(int, dims.split(",")) if dims else ()))
