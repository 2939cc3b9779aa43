"""What is sent: lengths, arrivals, shared prefixes and traces, as requests with a time each."""
