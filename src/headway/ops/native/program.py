"""A `Program`: a lowered model as plain data, a list of kernel calls over numbered row buffers.

`lower` makes one from a trace; `replay` hands it to the native library, which runs the whole list
for every step. An `Instruction` has what the library's own struct has (`abi.HwOp`), but with
handles and buffer numbers in place of addresses, so that a program can be compared and printed.

`share_buffers` is register allocation by linear scan: a buffer is alive from the instruction that
first writes it to the last that touches it, and two that are never alive together become one.
`describe` prints a program, one instruction a line, with the names of its weights; for example
`LINEAR     b1 int8 576 -> b4 add  layers.0.output`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from headway.native.abi import Activation, Epilogue, HwKind, HwWeightFormat
from headway.ops.native.weights import PackedMatrix
from headway.ops.protocol import AttentionSpec, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSpec:
    """One row for each token of a step: its format, and its elements before padding."""

    format: HwWeightFormat
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One call of a kernel; what its kind does not use stays at its default."""

    kind: HwKind
    source: int = -1
    """Buffer read, -1 for EMBED."""
    source2: int = -1
    """Second buffer read: the router's logits, for EXPERTS."""
    out: int = -1
    """Buffer written, -1 for LM_HEAD."""
    out2: int = -1
    """Second buffer written: the float32 rows, where NORM writes two formats."""
    epilogue: Epilogue = Epilogue.STORE
    activation: Activation = Activation.SILU
    matrix: int = -1
    """Number of the matrix among the weights; of the first expert's gate and up, for EXPERTS."""
    matrix2: int = -1
    """EXPERTS: number of the first expert's down."""
    weight: Vector | None = None
    spec: AttentionSpec | None = None
    experts: int = 0
    top_k: int = 0
    normalise: bool = False
    eps: float = 0.0
    scale: float = 1.0
    softcap: float = 0.0

    @property
    def reads(self) -> tuple[int, ...]:
        """Buffers whose contents it needs, those that it adds to included."""
        added = self.out if self.epilogue is Epilogue.ADD else -1
        return tuple(n for n in (self.source, self.source2, added) if n >= 0)

    @property
    def writes(self) -> tuple[int, ...]:
        return tuple(n for n in (self.out, self.out2) if n >= 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A model's kernel calls in order, and the buffers that they name by number."""

    instructions: tuple[Instruction, ...]
    buffers: tuple[BufferSpec, ...]


def share_buffers(program: Program) -> Program:
    """The same program over as few buffers as their formats, widths and lives allow."""
    last: dict[int, int] = {}
    for index, instruction in enumerate(program.instructions):
        for buffer in (*instruction.reads, *instruction.writes):
            last[buffer] = index
    kept: list[BufferSpec] = []
    free: defaultdict[BufferSpec, list[int]] = defaultdict(list)
    slot: dict[int, int] = {}
    instructions = []
    for index, instruction in enumerate(program.instructions):
        for buffer in instruction.writes:
            if buffer not in slot:
                spec = program.buffers[buffer]
                if not free[spec]:
                    kept.append(spec)
                    free[spec].append(len(kept) - 1)
                slot[buffer] = free[spec].pop()
        instructions.append(_renumbered(instruction, slot))
        for buffer in {*instruction.reads, *instruction.writes}:
            if last[buffer] == index:
                free[program.buffers[buffer]].append(slot[buffer])
    return Program(instructions=tuple(instructions), buffers=tuple(kept))


def _renumbered(instruction: Instruction, slot: dict[int, int]) -> Instruction:
    return replace(
        instruction,
        source=slot.get(instruction.source, -1),
        source2=slot.get(instruction.source2, -1),
        out=slot.get(instruction.out, -1),
        out2=slot.get(instruction.out2, -1),
    )


class NamedWeights(Protocol):
    """Weights with their names, in the order of their handles."""

    @property
    def matrices(self) -> Sequence[PackedMatrix]: ...

    @property
    def vector_names(self) -> Sequence[str]: ...


def describe(program: Program, weights: NamedWeights) -> str:
    """Lines of a program, in order; a buffer is given by its number, format and width."""
    return "\n".join(_line(program, each, weights) for each in program.instructions)


def _line(program: Program, instruction: Instruction, weights: NamedWeights) -> str:
    def buffer(index: int) -> str:
        spec = program.buffers[index]
        return f"b{index} {spec.format.name.lower()} {spec.width}"

    sources = [buffer(n) for n in (instruction.source, instruction.source2) if n >= 0]
    outs = [buffer(n) for n in instruction.writes]
    if instruction.epilogue is not Epilogue.STORE:
        outs.append(instruction.epilogue.name.lower())
    parts = [
        f"{instruction.kind.name:<10}",
        ", ".join(sources) or "tokens",
        "->",
        " ".join(outs) or "tokens",
        _names(instruction, weights),
    ]
    return " ".join(part for part in parts if part)


def _names(instruction: Instruction, weights: NamedWeights) -> str:
    found = [weights.matrices[n].name for n in (instruction.matrix, instruction.matrix2) if n >= 0]
    if instruction.weight is not None:
        found.append(weights.vector_names[instruction.weight.index])
    spec = instruction.spec
    if spec is not None:
        found.append(f"layer {spec.layer}")
        if instruction.kind is HwKind.ROPE:
            found += [weights.vector_names[norm.index] for norm in spec.norms or ()]
            found.append(f"rope {spec.rope.index}")
        elif spec.window is not None:
            found.append(f"window {spec.window}")
    return f" {', '.join(found)}" if found else ""
