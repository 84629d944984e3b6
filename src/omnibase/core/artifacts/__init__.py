"""Artifacts: files that scripts are given and leave behind, by the digest of their content."""
