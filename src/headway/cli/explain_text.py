"""An explanation of the batch size as lines of text, for people."""

from __future__ import annotations

from collections.abc import Iterator

from headway.steptime.explanation import Explanation, Price
from headway.steptime.slo_report import LimitsReport, SloReport, SpeculationReport

_WIDTH = 12


def reported(report: SloReport) -> str:
    """What a server says."""
    lines = [*_now(report)]
    if report.explanation is not None:
        lines += explained(report.explanation, report.limits)
    elif report.model is None and report.batch.predicted_seconds is None and report.traffic:
        lines.append(_row("limited by", "unknown: the machine's peak rates are not known"))
    else:
        lines.append(_row("limited by", "not known before requests have been served"))
        unheld = {each for one in report.classes.values() for each in one.unheld}
        lines += [
            _row("not held", f"{each.asked}; the nearest that can be: {each.nearest}")
            for each in sorted(unheld, key=lambda one: one.asked)
        ]
    return "\n".join(lines)


def explained(explanation: Explanation, limits: LimitsReport) -> Iterator[str]:
    """Why the batch is as large as it is."""
    yield _row("limited by", _because(explanation, limits))
    yield _row("steps", _steps(explanation))
    load = explanation.load
    now = "" if load is None else f"; now {_percent(load)} of that is asked for"
    yield _row(
        "can serve",
        f"{_number(explanation.requests_per_second)} requests/s, "
        f"{_number(explanation.tokens_per_second)} tokens/s{now}",
    )
    at_rate = explanation.lowest_tpot_at_rate
    more = "" if at_rate is None else f", {_time(at_rate)} at the present rate"
    yield _row("lowest TPOT", f"{_time(explanation.lowest_tpot)} for an answer alone{more}")
    yield _row(
        "lowest TTFT",
        f"{_time(explanation.ttft_mean)} for the mean prompt, {_time(explanation.ttft_longest)} "
        f"for the longest, of {explanation.longest:,} tokens",
    )
    yield _row("answers", _widths(explanation))
    for price in explanation.prices:
        yield _row("price", _price(price, explanation))
    for each in explanation.unheld:
        yield _row("not held", f"{each.asked}; the nearest that can be: {each.nearest}")


def _now(report: SloReport) -> Iterator[str]:
    for name, found in report.classes.items():
        objectives = ", ".join(found.objectives) or "none"
        attained = ""
        if found.attainment is not None:
            attained = f"; {_percent(found.attainment)} of the requests met them lately"
        reach = ""
        if found.longest_prompt is not None:
            reach = f"; TTFT for prompts of up to {found.longest_prompt:,} tokens"
        yield _row(name, objectives + attained + reach)
    if report.replicas > 1:
        which = f"{report.replica}, to which most requests come, of {report.replicas}"
        yield _row("replica", which)
    batch = report.batch
    predicted = ""
    if batch.predicted_seconds is not None and batch.bound_seconds is not None:
        predicted = (
            f"; predicted {_time(batch.predicted_seconds)}, at most {_time(batch.bound_seconds)}"
        )
    yield _row(
        "now",
        f"{batch.running} running, {batch.waiting} waiting; {batch.step_tokens} tokens in a step "
        f"of {_time(batch.step_seconds)}{predicted}",
    )
    traffic, model = report.traffic, report.model
    if traffic is not None:
        rate = traffic.requests_per_second
        yield _row(
            "traffic",
            f"prompts of {_number(traffic.prompt)} tokens and {_number(traffic.cached)} cached, "
            f"answers of {_number(traffic.output)}"
            + ("" if rate is None else f", {_number(rate)} requests/s"),
        )
    if model is not None:
        error = "" if model.error is None else f", off by {_percent(model.error)} on average"
        off = f"; far off for {' and '.join(model.off)} steps" if model.off else ""
        yield _row("model", f"{model.status}, {model.steps:,} steps seen{error}{off}")
    yield _row("speculation", _speculation(report.speculation))


def _speculation(found: SpeculationReport | None) -> str:
    if found is None:
        return "off, as it was set"
    text = found.method or "of grammars and predictions alone"
    if found.off:
        text += f", at present without drafts: {found.off}"
    elif found.sequences:
        text += f", for {found.drafting} of {found.sequences} sequences of the last step seen"
    if found.tokens_per_step is not None and found.acceptance is not None:
        text += (
            f"; {_number(found.tokens_per_step)} tokens a step where there were drafts, of which "
            f"{_percent(found.acceptance)} were right"
        )
    if found.declined:
        text += f"; {found.declined:,} times they would not have paid"
    return text


def _because(explanation: Explanation, limits: LimitsReport) -> str:
    width, found = explanation.width, explanation.widths
    factor, setting = explanation.limiting_factor, explanation.limit_setting
    if factor == "arrivals":
        return (
            f"arrivals: {_answers(explanation.batch)} serve what comes, and {_number(width)} may be"
        )
    if factor == "objective" and found.objective == 0:
        limit = _time(explanation.step_limit or 0.0)
        return f"the objective: not even an answer alone keeps steps within {limit}"
    if factor == "objective":
        limit = _time(explanation.step_limit or 0.0)
        return f"the objective: with more than {_answers(width)} steps take longer than {limit}"
    if factor == "memory":
        return f"memory: the KV cache of {limits.kv_cache_tokens:,} tokens holds {_answers(width)}"
    if factor == "compute":
        return (
            f"compute: more than {_answers(found.compute)} serve hardly more, and {_number(width)} "
            "may be"
        )
    whose = "as it was set" if setting in limits.pinned else "which Headway chose"
    value = getattr(limits, setting)
    return f"the limit {setting} {value:,}, {whose}: {_answers(width)}"


def _steps(explanation: Explanation) -> str:
    return (
        f"{_number(explanation.step_tokens)} new tokens in {_time(explanation.step_seconds)}, at "
        f"most {_time(explanation.step_bound)}; up to {explanation.token_budget:,} tokens may be "
        "in one"
    )


def _widths(explanation: Explanation) -> str:
    found = explanation.widths
    each = {
        "objective": found.objective,
        "memory": found.memory,
        "limits": found.limit,
        "compute": found.compute,
        "arrivals": found.arrivals,
    }
    known = [f"{name} {_number(value)}" for name, value in each.items() if value is not None]
    return "at once, by each factor alone: " + ", ".join(known)


def _price(price: Price, explanation: Explanation) -> str:
    change = {
        "objective": f"{_time(abs(price.change))} {'more' if price.change > 0 else 'less'} a step",
        "memory": "twice the KV cache",
        "limit": f"twice the {explanation.limit_setting}",
    }[price.factor]
    return f"{change}: {100 * price.gain:+.1f} % requests/s"


def _answers(width: float) -> str:
    if width < 1:
        return "one answer at a time"
    return f"{_number(width)} answers at once"


def _row(name: str, text: str) -> str:
    return f"{name:>{_WIDTH}}  {text}"


def _number(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _time(seconds: float) -> str:
    return f"{seconds:,.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
