"""OmniBase: runs agent-written code in a gVisor sandbox, under typed capabilities."""

__version__ = "0.5.0"
