"""Decisions about authority: pure, without I/O."""
