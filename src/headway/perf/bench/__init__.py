"""Load on servers, engines and external systems, and what their clients measured."""
