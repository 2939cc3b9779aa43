"""The reference runner, on PyTorch: how it is built, and how it computes a step.

`build_torch_runner` decides device and number format, loads the weights and takes memory for the KV
cache. `TorchRunner` then computes a step's plan with one forward pass over all new tokens, whatever
they are (whole prompts, chunks of prompts, single new tokens), and samples; logits are made only of
the rows where they are needed. Knows no queue, no policy and no request: a plan says all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from headway import machine
from headway.checkpoint import Prepared
from headway.checkpoint.prepared import WEIGHTS
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.models import Model, load_model
from headway.ops.protocol import Ints
from headway.ops.reference import (
    Batch,
    HostBatch,
    KVCache,
    ReferenceBackend,
    ReferenceOps,
    ReferenceWeights,
    onednn_bfloat16,
)
from headway.runner.batch import (
    NOT_FINITE,
    InputBatch,
    RequestState,
    accept,
    token_outputs,
)
from headway.runner.memory import CacheBudget, LoadedRunner, choose_cache, choose_limits, one_block
from headway.runner.sampling.constraints import SequenceGrammars, TokenTable, next_tokens
from headway.runner.sampling.sampler import gather_logprobs, sample
from headway.types import (
    HiddenStates,
    Limits,
    PromptLogprobs,
    Sampled,
    Slice,
    StepPlan,
    StepResult,
    TokenLogprobs,
)
from headway.types.engine import Hardware
from headway.types.sampling import NOTHING_LEFT

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CPU_FRACTION = 0.5
_CUDA_FRACTION = 0.9
# Bounds the memory of logits and of what sampling makes of them.
_MOST_ROWS = 128
_MOST_LOGITS = 2**24


def build_torch_runner(
    config: EngineConfig, source: Prepared, *, tokens: TokenTable | None = None
) -> LoadedRunner:
    """Load a prepared model into PyTorch; raises as `build_runner` does."""
    threads = config.threads or machine.cores()
    torch.set_num_threads(threads)
    device = choose_device(config)
    dtype = choose_dtype(config, device)
    limits = choose_limits(config, source.config, cuda=device.type == "cuda")
    free_before = free_memory(device)
    backend = ReferenceBackend(device=device, dtype=_TYPES[dtype])
    weights = backend.weights(source.folder / WEIGHTS)
    model = load_model(source.config, weights, length=limits.max_model_len)
    budget = CacheBudget(
        given=config.kv_cache_memory,
        fraction=config.gpu_memory_utilization or default_fraction(device),
        free_before=free_before,
        free_after=free_memory(device),
    )
    one = one_block(config, source.config)
    grammars = SequenceGrammars(tokens, source.config.vocab_size)
    block_bytes = one.elements_per_block * _TYPES[dtype].itemsize
    limits, shape = choose_cache(config, one, limits, budget, block_bytes)
    return LoadedRunner(
        runner=TorchRunner(
            model=model,
            backend=backend,
            weights=weights,
            cache=backend.allocate(shape),
            limits=limits,
            grammars=grammars,
        ),
        model=source.config,
        hardware=Hardware(
            device=str(device),
            dtype=dtype,
            kv_cache_dtype=dtype,
            backend=backend.name,
            threads=threads,
        ),
        limits=limits,
        num_blocks=shape.num_blocks,
        block_size=config.block_size,
        kv_bytes=shape.num_blocks * block_bytes,
        weight_bytes=source.weight_bytes,
        grammars=grammars.compiler,
    )


def choose_device(config: EngineConfig) -> torch.device:
    """The GPU where there is one, unless the settings say otherwise."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest("no CUDA device is available to PyTorch", field="device")
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def choose_dtype(config: EngineConfig, device: torch.device) -> str:
    """bfloat16 where the hardware multiplies it, else float32."""
    dtype = config.dtype if config.dtype != "auto" else _best_dtype(device)
    if dtype not in _TYPES:
        raise InvalidRequest(f"dtype {dtype} needs the native backend", field="dtype")
    if config.kv_cache_dtype not in ("auto", dtype):
        raise InvalidRequest(
            f"the reference backend keeps its KV cache in the model's dtype, {dtype}",
            field="kv_cache_dtype",
        )
    return dtype


def free_memory(device: torch.device) -> int:
    """Bytes that may be allocated on the device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return machine.available_memory()


def default_fraction(device: torch.device) -> float:
    """GPUs are ours alone, a machine's memory is not."""
    return _CUDA_FRACTION if device.type == "cuda" else _CPU_FRACTION


def _best_dtype(device: torch.device) -> str:
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if machine.has_bfloat16() and onednn_bfloat16() else "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A forward pass that is done: its hidden states [T, H], and logits of some of them."""

    model: Model
    ops: ReferenceOps
    hidden: Tensor

    def logits(self, rows: list[int]) -> Tensor:
        """Logits [rows, vocabulary] of the hidden states in these rows."""
        index = torch.tensor(rows, device=self.hidden.device)
        return self.model.logits(self.ops, self.hidden.index_select(0, index))


class TorchRunner:
    """A `Runner` of one model on one device.

    A sequence's blocks may only be added to while it stays; whoever wants others ends it first.
    """

    def __init__(
        self,
        *,
        model: Model,
        backend: ReferenceBackend,
        weights: ReferenceWeights,
        cache: KVCache,
        limits: Limits,
        grammars: SequenceGrammars,
    ) -> None:
        self._grammars = grammars
        self._model = model
        self._backend = backend
        self._weights = weights
        self._cache = cache
        self._batch = InputBatch(
            max_seqs=limits.max_num_seqs,
            max_len=limits.max_model_len,
            block_size=cache.shape.block_size,
        )
        width = model.config.vocab_size
        self._chunk = max(1, min(_MOST_ROWS, _MOST_LOGITS // width))

    @torch.inference_mode()
    def compute(self, plan: StepPlan) -> StepResult:
        """Compute a step. A sequence whose logits are not finite gets an error, the rest goes on.

        Raises what the device raises, for example `torch.OutOfMemoryError`.
        """
        began = time.perf_counter()
        for seq in plan.ended:
            self._batch.remove(seq)
        for new in plan.new:
            state = self._batch.add(new)
            self._grammars.follow(state)
        sampled: list[Sampled] = []
        prompts: list[PromptLogprobs] = []
        hidden: list[HiddenStates] = []
        if plan.slices:
            states = self._batch.update(plan.slices)
            forward = self._forward(self._device_batch(plan.slices, states))
            ends = np.cumsum([len(part.tokens) for part in plan.slices])
            _mark_nan(forward.hidden, ends, plan.slices, states)
            sampled = self._sample(plan.slices, states, forward, ends)
            hidden = list(_hidden(plan.slices, states, forward, ends.tolist()))
            prompts = list(self._prompts(plan.slices, states, forward, ends.tolist()))
        return StepResult(
            step=plan.step,
            sampled=sampled,
            hidden=hidden,
            prompt_logprobs=prompts,
            seconds=time.perf_counter() - began,
        )

    def _device_batch(self, slices: Sequence[Slice], states: Sequence[RequestState]) -> Batch:
        counts = np.array([len(part.tokens) for part in slices], dtype=np.int64)
        tokens = chain.from_iterable(part.tokens for part in slices)
        host = HostBatch(
            tokens=np.fromiter(tokens, dtype=np.int64, count=int(counts.sum())),
            starts=np.array([part.start for part in slices], dtype=np.int64),
            counts=counts,
            tables=self._batch.block_tables(states),
        )
        model = self._model
        return self._backend.batch(host, self._cache.shape, model.windows, model.config.num_heads)

    def _forward(self, batch: Batch) -> Forward:
        ops = self._backend.step(self._weights, self._cache, batch)
        return Forward(model=self._model, ops=ops, hidden=self._model.forward(ops))

    def _sample(
        self,
        slices: Sequence[Slice],
        states: Sequence[RequestState],
        forward: Forward,
        ends: Ints,
    ) -> list[Sampled]:
        """The next tokens of every slice that samples, in the plan's order."""
        outputs = token_outputs(slices, states, ends)
        which, step_rows, ahead = (each.tolist() for each in outputs)
        tokens: list[int] = []
        logprobs: list[TokenLogprobs | None] = []
        errors: list[str | None] = []
        for begin in range(0, len(which), self._chunk):
            some = range(begin, min(begin + self._chunk, len(which)))
            found = _sample_rows(
                forward.logits([step_rows[n] for n in some]),
                [states[which[n]] for n in some],
                [ahead[n] for n in some],
            )
            for token, described, error in found:
                tokens.append(token)
                logprobs.append(described)
                errors.append(error)
        firsts = [n for n, drafts in enumerate(ahead) if not drafts]
        return [accept(slices[which[n]], n, tokens, errors, logprobs.__getitem__) for n in firsts]

    def _prompts(
        self,
        slices: Sequence[Slice],
        states: Sequence[RequestState],
        forward: Forward,
        ends: list[int],
    ) -> Iterator[PromptLogprobs]:
        """Log probabilities of the prompt tokens that follow a token of this step."""
        for part, state, end in zip(slices, states, ends, strict=True):
            top = state.sampling.prompt_logprobs
            last = min(part.start + len(part.tokens), state.prompt_len - 1)
            if top is None or last <= part.start:
                continue
            first = end - len(part.tokens)
            targets = state.tokens[part.start + 1 : last + 1].tolist()
            found: list[TokenLogprobs] = []
            for begin in range(0, len(targets), self._chunk):
                some = targets[begin : begin + self._chunk]
                rows = range(first + begin, first + begin + len(some))
                found += gather_logprobs(forward.logits(list(rows)), some, [top] * len(some))
            yield PromptLogprobs(seq=part.seq, start=part.start + 1, logprobs=tuple(found))


def _mark_nan(
    hidden: Tensor, ends: Ints, slices: Sequence[Slice], states: Sequence[RequestState]
) -> None:
    finite = torch.isfinite(hidden.sum(-1, dtype=torch.float32)).cpu().numpy()
    if not finite.all():
        for token in np.flatnonzero(~finite):
            n = int(np.searchsorted(ends, token, side="right"))
            # A draft need not be a token of the sequence.
            if token < ends[n] - states[n].num_drafts(slices[n]):
                states[n].has_nan = True


def _hidden(
    slices: Sequence[Slice], states: Sequence[RequestState], forward: Forward, ends: list[int]
) -> Iterator[HiddenStates]:
    for part, state, end in zip(slices, states, ends, strict=True):
        if not state.hidden or not part.outputs:
            continue
        if state.has_nan:
            yield HiddenStates(seq=part.seq, error=NOT_FINITE)
        else:
            found = forward.hidden[end - part.outputs : end].float().tolist()
            yield HiddenStates(seq=part.seq, rows=tuple(map(tuple, found)))


def _sample_rows(
    logits: Tensor, states: Sequence[RequestState], ahead: Sequence[int]
) -> list[tuple[int, TokenLogprobs | None, str | None]]:
    """Token, log probabilities and error of each row; a row with an error has token 0."""
    finite: list[bool] = torch.isfinite(logits.sum(-1, dtype=torch.float32)).tolist()
    allowed = next_tokens(states, ahead, logits.shape[1])
    metadata = [
        state.sampling_metadata(drafts, allowed.get(n))
        for n, (state, drafts) in enumerate(zip(states, ahead, strict=True))
    ]
    tokens = sample(logits, metadata)
    errors = [
        state.error or (NOT_FINITE if not fine else NOTHING_LEFT if token is None else None)
        for fine, token, state in zip(finite, tokens, states, strict=True)
    ]
    wanted = [
        n
        for n, state in enumerate(states)
        if state.sampling.logprobs is not None and errors[n] is None
    ]
    logprobs = gather_logprobs(
        logits[wanted],
        [tokens[n] or 0 for n in wanted],
        [states[n].sampling.logprobs or 0 for n in wanted],
        [states[n].sampling.logprob_token_ids for n in wanted],
    )
    by_row = dict(zip(wanted, logprobs, strict=True))
    return [
        (0, None, error) if error is not None else (token or 0, by_row.get(n), None)
        for n, (token, error) in enumerate(zip(tokens, errors, strict=True))
    ]
