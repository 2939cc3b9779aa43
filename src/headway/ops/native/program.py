"""A lowered program as plain data: operations over numbered row buffers.

The same things as `headway.native.abi` has, but with handles in place of addresses, so that a
program can be compared and printed.

Lets buffers that are never needed at the same time share memory.

A linear scan: a buffer is alive from the operation that first writes it to the last that touches
it. One operation never writes where it reads (unless it was lowered so), because what it writes
is placed before what it read is let go.

A program for people to read: one line an operation, with the names of its weights.

For example: `LINEAR     b1 int8 576 -> b4 add  layers.0.output`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from headway.native.abi import Activation, Epilogue, HwForm, HwKind
from headway.ops.native.weights import PackedMatrix
from headway.ops.protocol import AttentionSpec, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSpec:
    """One row for each token: its form and its elements before padding."""

    form: HwForm
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One operation; what its kind does not use stays at its default."""

    kind: HwKind
    source: int = -1
    """Buffer read, -1 for EMBED."""
    source2: int = -1
    """EXPERTS: the router's scores."""
    out: int = -1
    """Buffer written, -1 for HEAD."""
    out2: int = -1
    epilogue: Epilogue = Epilogue.STORE
    activation: Activation = Activation.SILU
    matrix: int = -1
    matrix2: int = -1
    weight: Vector | None = None
    spec: AttentionSpec | None = None
    experts: int = 0
    chosen: int = 0
    normalise: bool = False
    eps: float = 0.0
    scale: float = 1.0
    softcap: float = 0.0

    @property
    def reads(self) -> tuple[int, ...]:
        """Buffers whose contents it needs."""
        added = self.out if self.epilogue is Epilogue.ADD else -1
        return tuple(n for n in (self.source, self.source2, added) if n >= 0)

    @property
    def writes(self) -> tuple[int, ...]:
        return tuple(n for n in (self.out, self.out2) if n >= 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A whole program."""

    operations: tuple[Instruction, ...]
    buffers: tuple[BufferSpec, ...]


def share_buffers(listing: Program) -> Program:
    """The same program over as few buffers as their forms, widths and lives allow."""
    last: dict[int, int] = {}
    for index, operation in enumerate(listing.operations):
        for buffer in (*operation.reads, *operation.writes):
            last[buffer] = index
    kept: list[BufferSpec] = []
    free: defaultdict[BufferSpec, list[int]] = defaultdict(list)
    place: dict[int, int] = {}
    operations = []
    for index, operation in enumerate(listing.operations):
        for buffer in operation.writes:
            if buffer not in place:
                spec = listing.buffers[buffer]
                if not free[spec]:
                    kept.append(spec)
                    free[spec].append(len(kept) - 1)
                place[buffer] = free[spec].pop()
        operations.append(_renumbered(operation, place))
        for buffer in {*operation.reads, *operation.writes}:
            if last[buffer] == index:
                free[listing.buffers[buffer]].append(place[buffer])
    return Program(operations=tuple(operations), buffers=tuple(kept))


def _renumbered(operation: Instruction, place: dict[int, int]) -> Instruction:
    return replace(
        operation,
        source=place.get(operation.source, -1),
        source2=place.get(operation.source2, -1),
        out=place.get(operation.out, -1),
        out2=place.get(operation.out2, -1),
    )


class Named(Protocol):
    """Weights with their names, in the order of their handles."""

    @property
    def matrices(self) -> Sequence[PackedMatrix]: ...

    @property
    def vector_names(self) -> Sequence[str]: ...


def describe(listing: Program, weights: Named) -> str:
    """Lines of a program, in order; a buffer is given by its number, form and width."""
    return "\n".join(_line(listing, each, weights) for each in listing.operations)


def _line(listing: Program, operation: Instruction, weights: Named) -> str:
    def buffer(index: int) -> str:
        spec = listing.buffers[index]
        return f"b{index} {spec.form.name.lower()} {spec.width}"

    sources = [buffer(n) for n in (operation.source, operation.source2) if n >= 0]
    outs = [buffer(n) for n in operation.writes]
    if operation.epilogue is not Epilogue.STORE:
        outs.append(operation.epilogue.name.lower())
    parts = [
        f"{operation.kind.name:<10}",
        ", ".join(sources) or "tokens",
        "->",
        " ".join(outs) or "choices",
        _names(operation, weights),
    ]
    return " ".join(part for part in parts if part)


def _names(operation: Instruction, weights: Named) -> str:
    found = [weights.matrices[n].name for n in (operation.matrix, operation.matrix2) if n >= 0]
    if operation.weight is not None:
        found.append(weights.vector_names[operation.weight.index])
    spec = operation.spec
    if spec is not None:
        found.append(f"layer {spec.layer}")
        if operation.kind is HwKind.HEADS:
            found += [weights.vector_names[norm.index] for norm in spec.norms or ()]
            found.append(f"rope {spec.rope.index}")
        elif spec.window is not None:
            found.append(f"window {spec.window}")
    return f" {', '.join(found)}" if found else ""
