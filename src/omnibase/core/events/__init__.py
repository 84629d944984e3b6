"""Structured security events, the bus that carries them and its sinks."""
