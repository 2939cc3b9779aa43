"""What an engine did, step by step, as a file: for fitting, for pictures, and to replay it.

No prompt is written: equal beginnings are told by digests, from which tokens can be made up that
are equal where the real ones were.
"""
