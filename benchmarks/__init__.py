"""Benchmarks: ours and raw runsc side by side, in one run, on one machine."""
