"""Commands of the host in the guest: found, checked, and brought in as one directory."""
