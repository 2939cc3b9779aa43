"""The quality gate: every weight format of a model against its float32, on real text.

The text is the reference manual that comes with Python itself (`pydoc_data.topics`), so it is
everywhere and was chosen for no model's sake. Contexts of 512 tokens are taken at equal
distances from it, and every token of them is to be predicted. The formats run on the native
kernels in a process of their own, `headway.perf.quality.program`: a `QualityComparison` goes to its
standard input as JSON, `QualityProgress` comes back from its standard output. So this module, which
prepares the models, takes the contexts and keeps the report, needs no runner.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pydoc_data.topics import topics

import msgspec

from headway import native
from headway.checkpoint import Prepared, Source, find, native_storage, prepare
from headway.checkpoint.packing import WeightFormat
from headway.checkpoint.quality_reports import MeasuredQuality, QualityReport, keep_quality_report
from headway.config import EngineConfig, KVCacheDtype
from headway.errors import EngineError, InvalidRequest
from headway.text import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityCandidate:
    """A prepared model's folder, and the settings to run it with."""

    prepared: str
    config: EngineConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityComparison:
    """What to compare: the first candidate is the reference for all."""

    candidates: tuple[QualityCandidate, ...]
    contexts: tuple[tuple[int, ...], ...]
    """Tokens; each but the first of a context is to be predicted from those before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums of one candidate, over all tokens so far."""

    loss: float = 0.0
    """Negative log-likelihood of the tokens, in nats."""
    divergence: float = 0.0
    """Kullback-Leibler divergence from the first candidate's distributions, in nats."""
    agreement: int = 0
    """Tokens at which both give the same next token the highest probability."""

    def plus(self, other: Totals) -> Totals:
        return Totals(
            loss=self.loss + other.loss,
            divergence=self.divergence + other.divergence,
            agreement=self.agreement + other.agreement,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityProgress:
    """The state after some contexts; one is written after each, the last one is the result."""

    contexts: int
    tokens: int
    totals: tuple[Totals, ...]
    error: str = ""
    """Why the comparison ended early, if it did."""


CONTEXT = 512
LEAST_TOKENS = 10_000
ROWS: tuple[tuple[WeightFormat, KVCacheDtype], ...] = (
    ("float32", "float32"),
    ("bfloat16", "bfloat16"),
    ("bfloat16", "int8"),
    ("int8", "bfloat16"),
    ("int8", "int8"),
    ("int4", "bfloat16"),
    ("int4", "int8"),
)
"""Weight formats and KV caches that are measured; the first is the reference for the others."""
COMMAND = (sys.executable, "-m", "headway.perf.quality.program")

OnProgress = Callable[[int, int], object]
"""Called with how many contexts of how many are done."""


def evaluate(
    config: EngineConfig,
    *,
    least_tokens: int = LEAST_TOKENS,
    on_progress: OnProgress = lambda *_: None,
    command: Sequence[str] = COMMAND,
) -> QualityReport:
    """Measure all formats of the model that the settings name; keeps the report in the cache.

    Prepares the model in every native format first. Takes some minutes for small models. Raises
    `HeadwayError` where the model cannot be had or the native kernels cannot run.
    """
    if not native.available():
        raise InvalidRequest(
            "quality is measured with the native kernels, which are not built: install a C++ "
            "compiler, then Headway again",
            field="quality",
        )
    source = find(config.model)
    candidates = [_candidate(config, source, *row) for row in ROWS]
    first = candidates[0][0]
    contexts = tuple(
        take_contexts(
            Tokenizer.load(first.folder),
            length=min(CONTEXT, first.config.max_position),
            least_tokens=least_tokens,
        )
    )
    comparison = QualityComparison(
        candidates=tuple(candidate for _, candidate in candidates), contexts=contexts
    )
    report = _report(source, first.config.name, _run(comparison, on_progress, command))
    keep_quality_report(report)
    return report


def take_contexts(
    tokenizer: Tokenizer, *, length: int, least_tokens: int
) -> Iterator[tuple[int, ...]]:
    """Parts of the text, each `length` tokens to predict and the one after them.

    Where the tokenizer puts a beginning of sequence before a text, every context has it.
    """
    text = "\n\n".join(topics[name].strip() for name in sorted(topics))
    tokens = tokenizer.encode(text, add_special_tokens=False)
    begin = tokenizer.config.bos_token_id
    prefix = [] if begin is None or not tokenizer.config.add_bos else [begin]
    taken = length + 1 - len(prefix)
    number = -(-least_tokens // length)
    for n in range(number):
        start = n * (len(tokens) - taken) // max(1, number - 1)
        yield (*prefix, *tokens[start : start + taken])


def _candidate(
    config: EngineConfig, source: Source, weight_format: WeightFormat, kv_cache: KVCacheDtype
) -> tuple[Prepared, QualityCandidate]:
    prepared = prepare(source, dtype=native_storage(weight_format))
    length = min(CONTEXT, prepared.config.max_position)
    settings = replace(
        config,
        backend="native",
        device="cpu",
        dtype=weight_format,
        kv_cache_dtype=kv_cache,
        max_model_len=length,
        max_num_seqs=1,
        max_num_batched_tokens=length,
    )
    return prepared, QualityCandidate(prepared=str(prepared.folder), config=settings)


def _run(
    comparison: QualityComparison, on_progress: OnProgress, command: Sequence[str]
) -> QualityProgress:
    """Run the program to its end; returns its last progress."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin as stream:
                stream.write(msgspec.json.encode(comparison))
            report = None
            for line in process.stdout:
                report = msgspec.json.decode(line, type=QualityProgress)
                on_progress(report.contexts, len(comparison.contexts))
        except BaseException:
            process.kill()
            raise
    if report is not None and report.error:
        raise EngineError(report.error)
    if report is None or report.contexts < len(comparison.contexts):
        raise EngineError(f"the comparing process ended early, with exit code {process.returncode}")
    return report


def _report(source: Source, model: str, report: QualityProgress) -> QualityReport:
    base = report.totals[0]
    return QualityReport(
        digest=source.digest,
        model=model,
        tokens=report.tokens,
        perplexity=math.exp(base.loss / report.tokens),
        forms=tuple(
            _measured(row, totals, base, report.tokens)
            for row, totals in zip(ROWS[1:], report.totals[1:], strict=True)
        ),
    )


def _measured(
    row: tuple[WeightFormat, KVCacheDtype], totals: Totals, base: Totals, tokens: int
) -> MeasuredQuality:
    return MeasuredQuality(
        form=row[0],
        kv_cache=row[1],
        perplexity=math.expm1((totals.loss - base.loss) / tokens),
        divergence=totals.divergence / tokens,
        agreement=totals.agreement / tokens,
    )
