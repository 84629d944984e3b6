"""Network egress: the host's side of `NETWORK_CONNECT`."""
