"""The native runner: how it is built, and how it computes a step, in one call of the kernels.

`build_native_runner` maps a prepared model's weights, traces its operations, lowers them to a
program and takes memory for the KV cache. `NativeRunner` then turns each plan into arrays that the
library reads, and what it samples into a result. Knows no queue, no policy and no request; imports
no tensor library, so that an engine is ready as soon as its weights are mapped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

import numpy as np

from headway import machine
from headway.checkpoint import Prepared, native_format
from headway.checkpoint.prepared import WEIGHTS
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.models import load_model
from headway.native import abi, choose_isa, load
from headway.native.abi import CacheKind
from headway.ops.native import (
    CacheMemory,
    CompiledProgram,
    KeptFile,
    NativeWeights,
    OtherCaches,
    Seconds,
    Tracer,
    address,
    cache_bytes,
    lower,
    no_seconds,
)
from headway.ops.protocol import Floats, Ints
from headway.ops.trace import Op
from headway.runner.batch import (
    NOT_FINITE,
    InputBatch,
    RequestState,
    accept,
    token_outputs,
)
from headway.runner.kept_cache import kept_file
from headway.runner.memory import CacheBudget, LoadedRunner, choose_cache, choose_limits, one_block
from headway.runner.sampling.constraints import SequenceGrammars, TokenTable
from headway.runner.sampling.native import (
    ListedTokens,
    SamplerOutput,
    SamplingRecords,
    SamplingRequests,
    gather_logprobs,
)
from headway.types import HiddenStates, Limits, PromptLogprobs, Sampled, Slice, StepPlan, StepResult
from headway.types.engine import Hardware
from headway.types.sampling import NOTHING_LEFT

_FRACTION = 0.5
# A machine's memory is not ours alone, and blocks of cached prefixes are kept as long as there are
# others: without a bound, every server would grow to half of the machine.
_MOST_CACHE = 4 * 2**30
# Of the KV cache, taken from the system at once, for the first burst not to wait for it.
_FIRST_CACHE = 384 * 2**20
_CACHE_KINDS = {
    "float32": CacheKind.FLOAT32,
    "bfloat16": CacheKind.BFLOAT16,
    "int8": CacheKind.INT8,
}
_ERRORS: dict[int, str] = {
    abi.HwStatus.NOT_FINITE: NOT_FINITE,
    abi.HwStatus.NOTHING_LEFT: NOTHING_LEFT,
}


def build_native_runner(
    config: EngineConfig,
    source: Prepared,
    *,
    tokens: TokenTable | None = None,
    kv_cache_fd: int | None = None,
) -> LoadedRunner:
    """Trace and compile a model that was prepared for the native kernels; raises as `build_runner`.

    Raises `LibraryError` too, where the library is absent or damaged.
    """
    weight_format = _weight_format(config, source)
    library, isa = load(), choose_isa(config.isa)
    threads = config.threads or machine.cores()
    limits = choose_limits(config, source.config, cuda=False)
    kind = choose_cache_kind(config, weight_format)
    one = one_block(config, source.config)
    file = kept_file(kv_cache_fd, source, one, kind, isa)
    budget = _budget(config, source.weight_bytes, file)
    weights = NativeWeights(source.folder / WEIGHTS)
    traced = _trace(source, weights, limits)
    limits, shape = choose_cache(config, one, limits, budget, cache_bytes(library, one, kind))
    cache = CacheMemory(library, shape, kind, file)
    cache.touch_ahead(_FIRST_CACHE)
    cpus = choose_cpus(threads) if config.pin_threads else None
    lowered = lower(traced, weights.matrices)
    program = CompiledProgram(library, lowered, weights, cache, isa=isa, threads=threads, cpus=cpus)
    grammars = SequenceGrammars(tokens, source.config.vocab_size)
    return LoadedRunner(
        runner=NativeRunner(
            program=program,
            vocabulary=source.config.vocab_size,
            limits=limits,
            block_size=config.block_size,
            grammars=grammars,
        ),
        model=source.config,
        hardware=_hardware(weight_format, kind, isa, threads),
        limits=limits,
        num_blocks=shape.num_blocks,
        block_size=config.block_size,
        kv_bytes=cache.bytes,
        weight_bytes=source.weight_bytes,
        grammars=grammars.compiler,
        kept=cache.kept,
        others=None if file is None else OtherCaches(cache.view, file.fingerprint, shape),
    )


def _weight_format(config: EngineConfig, source: Prepared) -> str:
    weight_format = native_format(source.storage)
    if weight_format is None or config.dtype not in ("auto", weight_format):
        raise InvalidRequest(
            f"the model was prepared as {source.storage}, not as {config.dtype}", field="dtype"
        )
    return weight_format


def _hardware(weight_format: str, kind: CacheKind, isa: str, threads: int) -> Hardware:
    return Hardware(
        device="cpu",
        dtype=weight_format,
        kv_cache_dtype=kind.name.lower(),
        backend=f"native ({isa})",
        threads=threads,
        isa=isa,
    )


def _trace(source: Prepared, weights: NativeWeights, limits: Limits) -> list[Op]:
    """The operations of the model's forward pass and its logits, in order."""
    model = load_model(source.config, weights, length=limits.max_model_len)
    tracer = Tracer()
    model.logits(tracer, model.forward(tracer))
    return tracer.ops


def _budget(config: EngineConfig, weight_bytes: int, file: KeptFile | None) -> CacheBudget:
    """What the KV cache may take of the memory that is free before the weights are loaded.

    One that was left by an engine before has its memory, which is not free, and keeps its size.
    """
    free, utilization = machine.available_memory(), config.gpu_memory_utilization
    left = None if file is None else file.layout()
    return CacheBudget(
        given=config.kv_cache_memory if left is None else left.size,
        fraction=utilization or _FRACTION,
        free_before=free,
        # Counted, not measured: mapped weights are in memory only once they have been used.
        free_after=free - weight_bytes,
        most=_MOST_CACHE if utilization is None and config.kv_cache_memory is None else None,
    )


def choose_cache_kind(config: EngineConfig, weight_format: str) -> CacheKind:
    """The KV cache's format: the settings', else bfloat16 but for a model in float32."""
    if config.kv_cache_dtype != "auto":
        return _CACHE_KINDS[config.kv_cache_dtype]
    return CacheKind.FLOAT32 if weight_format == "float32" else CacheKind.BFLOAT16


def choose_cpus(threads: int) -> list[int]:
    """A processor for each thread, of those that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        raise InvalidRequest("threads cannot be pinned on this system", field="pin_threads")
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise InvalidRequest(
            f"{threads} threads cannot each have one of {len(allowed)} processors",
            field="pin_threads",
        )
    return allowed[:threads]


class NativeRunner:
    """A `Runner` of one compiled program.

    A sequence's blocks may only be added to while it stays; whoever wants others ends it first.
    """

    def __init__(
        self,
        *,
        program: CompiledProgram,
        vocabulary: int,
        limits: Limits,
        block_size: int,
        grammars: SequenceGrammars,
    ) -> None:
        self.all_rows = False
        """Compute the hidden states of all rows, though nobody asks for their logits."""
        self._program = program
        self._grammars = grammars
        self._batch = InputBatch(
            max_seqs=limits.max_num_seqs, max_len=limits.max_model_len, block_size=block_size
        )
        self._records = SamplingRecords(vocabulary=vocabulary)
        self._seconds: Seconds | None = None
        self._vocabulary = vocabulary

    def compute(self, plan: StepPlan) -> StepResult:
        """Compute a step. A sequence whose logits are not finite gets an error, the rest goes on.

        Raises `MemoryError` where the step's rows do not fit.
        """
        began = time.perf_counter()
        for seq in plan.ended:
            self._batch.remove(seq)
        for new in plan.new:
            state = self._batch.add(new)
            self._grammars.follow(state)
            self._records.add(state)
        sampled: list[Sampled] = []
        prompts: list[PromptLogprobs] = []
        hidden: list[HiddenStates] = []
        if plan.slices:
            states = self._batch.update(plan.slices)
            sampled, prompts = self._compute(plan.slices, states)
            if any(state.hidden for state in states):
                hidden = list(self._hidden(plan.slices, states))
        return StepResult(
            step=plan.step,
            sampled=sampled,
            hidden=hidden,
            prompt_logprobs=prompts,
            seconds=time.perf_counter() - began,
        )

    def measure(self) -> Seconds:
        """From now on, every step adds the seconds of each kind of operation to what this gives.

        The entries are those of `abi.HwKind`, and sampling as the last.
        """
        self._seconds = no_seconds()
        return self._seconds

    def logits(self, num_tokens: int) -> Floats:
        """Logits of every token of the last step, [num_tokens, vocabulary], to measure quality.

        Only with `all_rows`.
        """
        return self._program.logits(num_tokens, self._vocabulary)

    def _compute(
        self, slices: Sequence[Slice], states: Sequence[RequestState]
    ) -> tuple[list[Sampled], list[PromptLogprobs]]:
        counts = np.array([len(part.tokens) for part in slices], dtype=np.int64)
        ends = counts.cumsum()
        which, step_rows, ahead = token_outputs(slices, states, ends)
        if len(ahead) and ahead.max():  # other tokens come from prompts and sampling
            self._records.check(np.array([t for p in slices for t in p.tokens], dtype=np.int64))
        requests: list[SamplingRequests] = []
        sampling = [states[n] for n in which.tolist()]
        if sampling:
            requests.append(self._records.sample(sampling, step_rows, ahead))
        spans = _prompt_spans(slices, states, ends)
        for n, span_rows, targets, top in spans:
            requests.append(gather_logprobs(states[n], span_rows, targets, top))
        before = len(which) + sum(len(targets) for _, _, targets, _ in spans)
        listed = ListedTokens(sampling, step_rows, first=before)
        output = SamplerOutput(requests + listed.requests)
        self._run(slices, states, counts, output)
        sampled = _sampled(output, listed, slices, states)
        prompts, done = [], len(which)
        for n, _, targets, _ in spans:
            found = (output.logprobs(done + m) for m in range(len(targets)))
            prompts.append(
                PromptLogprobs(
                    seq=slices[n].seq,
                    start=slices[n].start + 1,
                    logprobs=tuple(each for each in found if each is not None),
                )
            )
            done += len(targets)
        return sampled, prompts

    def _run(
        self,
        slices: Sequence[Slice],
        states: Sequence[RequestState],
        counts: Ints,
        output: SamplerOutput,
    ) -> None:
        """One call into the library; marks the sequences whose hidden states are not finite."""
        flat = chain.from_iterable(part.tokens for part in slices)
        tokens = np.fromiter(flat, dtype=np.int64, count=int(counts.sum()))
        starts = np.array([part.start for part in slices], dtype=np.int64)
        tables = np.ascontiguousarray(self._batch.block_tables(states))
        has_nan = np.zeros(len(slices), dtype=np.uint8)
        self._program.run(
            abi.HwStep(
                num_tokens=len(tokens),
                num_slices=len(slices),
                num_sampled=len(output.sampling),
                tokens=address(tokens),
                starts=address(starts),
                counts=address(counts),
                block_tables=address(tables),
                table_width=tables.shape[1],
                sampling=address(output.sampling),
                sampled=address(output.sampled),
                has_nan=address(has_nan),
                all_rows=self.all_rows or any(state.hidden for state in states),
            ),
            self._seconds,
        )
        for n in has_nan.nonzero()[0].tolist():
            # A draft that breaks what follows it need not be a token of the sequence.
            if not states[n].num_drafts(slices[n]):
                states[n].has_nan = True

    def _hidden(
        self, slices: Sequence[Slice], states: Sequence[RequestState]
    ) -> Iterator[HiddenStates]:
        rows = self._program.hidden(sum(len(part.tokens) for part in slices))
        end = 0
        for part, state in zip(slices, states, strict=True):
            end += len(part.tokens)
            if not state.hidden or not part.outputs:
                continue
            if state.has_nan:
                yield HiddenStates(seq=part.seq, error=NOT_FINITE)
            else:
                found = rows[end - part.outputs : end].tolist()
                yield HiddenStates(seq=part.seq, rows=tuple(map(tuple, found)))


Span = tuple[int, Ints, Ints, int]
"""A slice, rows of the step, the prompt tokens that follow them, how many others to report."""


def _prompt_spans(
    slices: Sequence[Slice], states: Sequence[RequestState], ends: Ints
) -> list[Span]:
    """The prompt tokens of this step whose log probabilities somebody wants."""
    found: list[Span] = []
    for n, (part, state) in enumerate(zip(slices, states, strict=True)):
        top = state.sampling.prompt_logprobs
        if top is None:
            continue
        last = min(part.start + len(part.tokens), state.prompt_len - 1)
        if last > part.start:
            first = int(ends[n]) - len(part.tokens)
            step_rows = np.arange(first, first + last - part.start, dtype=np.int64)
            found.append((n, step_rows, state.tokens[part.start + 1 : last + 1], top))
    return found


def _sampled(
    output: SamplerOutput,
    listed: ListedTokens,
    slices: Sequence[Slice],
    states: Sequence[RequestState],
) -> list[Sampled]:
    """The tokens that came first among what was asked, or an error of their sequence."""
    tokens, errors = output.tokens(), [_ERRORS.get(status) for status in output.statuses()]
    found, first = [], 0
    for part, state in zip(slices, states, strict=True):
        if part.outputs and not state.hidden:
            errors[first] = state.error or errors[first]
            logprobs = partial(listed.logprobs, output)
            found.append(accept(part, first, tokens, errors, logprobs))
            first += part.outputs
    return found
