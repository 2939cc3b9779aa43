"""How long a step takes: its shape, the machine's limits, a model fitted to recorded steps."""
