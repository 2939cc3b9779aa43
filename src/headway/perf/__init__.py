"""Measuring: everything that serving does not need and never imports.

    workload/   which requests to send, and when: distributions, arrivals, traces
    records/    one record a request, percentiles, attainment of objectives
    bench/      load on servers, engines and external systems, and scenarios that compare them
    sim/        the shipped engine under a virtual clock: predictions, capacity, replays
    report/     runs as tables, JSON and one self-contained page
    quality/    what a weight format costs a model

Imports run downwards: bench and quality, then sim, then report, then records and workload.
"""
