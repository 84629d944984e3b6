"""Third-party packages for runs: what is asked for, how it is locked, and where it is kept."""
