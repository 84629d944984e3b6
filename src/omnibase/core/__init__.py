"""The security core: capabilities, the sandbox and its events."""
