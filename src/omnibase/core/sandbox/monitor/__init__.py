"""The trace of the Sentry, read from outside the guest as hostile input."""
