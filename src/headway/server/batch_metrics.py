"""Prometheus metrics of the batch and of what limits it, made when they are asked for.

They come from the engine's last telling and from the explanation that `/slo` has. A metric of
which nothing is known yet is not there, rather than 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headway.server.slo import Explainer
from headway.steptime.explanation import LIMITING_FACTORS, Explanation
from headway.wire import PacingStats

_OF_STEPS: dict[str, tuple[str, Callable[[PacingStats], float | None]]] = {
    "headway:predicted_step_seconds": (
        "Predicted time of a step of the last second, with all that belongs to one.",
        lambda pacing: pacing.predicted_seconds,
    ),
    "headway:step_width": (
        "Sequences in that step.",
        lambda pacing: pacing.sequences,
    ),
}
_OF_EXPLANATIONS: dict[str, tuple[str, Callable[[Explanation], float | None]]] = {
    "headway:step_token_budget": (
        "The most new tokens that a step may have within objectives and limits.",
        lambda explanation: explanation.token_budget,
    ),
    "headway:capacity_requests_per_second": (
        "Requests a second that can be served, of the lengths that come lately.",
        lambda explanation: explanation.requests_per_second,
    ),
    "headway:lowest_tpot_seconds": (
        "The lowest time per output token that any batch can hold.",
        lambda explanation: explanation.lowest_tpot,
    ),
}
_OF_ALL_ENGINES = ("headway:capacity_requests_per_second",)
"""What several engines have together; the rest is of the one that is explained."""
BATCH_METRICS = (*_OF_STEPS, *_OF_EXPLANATIONS, "headway:limiting_factor")


class BatchMetrics(Collector):
    """A collector for the server's registry."""

    def __init__(self, explainer: Explainer, model_name: str) -> None:
        self._explainer = explainer
        self._model = model_name

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The names alone, so that registering computes nothing."""
        for name in BATCH_METRICS:
            yield GaugeMetricFamily(name, "")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        pacing, explanation = self._explainer.pacing, self._explainer.explanation()
        if pacing is not None:
            for name, (text, step_value) in _OF_STEPS.items():
                yield from self._gauge(name, text, step_value(pacing))
        if explanation is None:
            return
        for name, (text, value) in _OF_EXPLANATIONS.items():
            engines = self._explainer.serving if name in _OF_ALL_ENGINES else 1
            found = value(explanation)
            yield from self._gauge(name, text, None if found is None else engines * found)
        text = "Whether this factor limits the batch, 1 or 0."
        limiting = GaugeMetricFamily(
            "headway:limiting_factor", text, labels=("model_name", "factor")
        )
        for factor in LIMITING_FACTORS:
            limits = factor == explanation.limiting_factor
            limiting.add_metric((self._model, factor), float(limits))
        yield limiting

    def _gauge(self, name: str, text: str, value: float | None) -> Iterator[GaugeMetricFamily]:
        if value is None:
            return
        family = GaugeMetricFamily(name, text, labels=("model_name",))
        family.add_metric((self._model,), float(value))
        yield family
