"""The gVisor sandbox: spec, bundle, runner and what watches it."""
