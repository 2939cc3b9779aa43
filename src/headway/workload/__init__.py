"""What is asked: lengths, arrivals, shared prefixes and traces, as jobs with a time each."""
