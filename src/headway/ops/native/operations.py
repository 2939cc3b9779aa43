"""A lowered program as plain data: operations over numbered row buffers.

The same things as `headway.native.abi` has, but with handles in place of addresses, so that a
program can be compared and printed.
"""

from __future__ import annotations

from dataclasses import dataclass

from headway.native.abi import Activation, Epilogue, Form, Kind
from headway.ops.protocol import AttentionSpec, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSpec:
    """One row for each token: its form and its elements before padding."""

    form: Form
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation; what its kind does not use stays at its default."""

    kind: Kind
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
class Listing:
    """A whole program."""

    operations: tuple[Operation, ...]
    buffers: tuple[BufferSpec, ...]
