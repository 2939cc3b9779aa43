"""What the policy `paced` reckons with: deadlines, the time of a step, and who can be on time."""
