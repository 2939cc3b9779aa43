"""Results of requests: records, percentiles, attainment. Knows no client, engine or clock."""
