"""How long a step takes: its shape, the machine's peak rates, a model fitted to recorded steps."""
