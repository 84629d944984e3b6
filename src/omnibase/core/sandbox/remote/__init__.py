"""A `SandboxRunner` in another process of the same user's, over a Unix socket."""
