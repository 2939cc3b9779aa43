"""The drawings of a report's page, as plain data: paths, places and words, but no markup."""
