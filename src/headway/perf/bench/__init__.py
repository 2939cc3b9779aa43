"""Measuring servers, engines and other systems with workloads."""
