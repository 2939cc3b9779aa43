"""Reports of runs: data, tables for the terminal, one self-contained page."""
