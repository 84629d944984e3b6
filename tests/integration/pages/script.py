"""Reads one file; tries another."""

print(open("@/data/allowed.txt").read(), end="")
