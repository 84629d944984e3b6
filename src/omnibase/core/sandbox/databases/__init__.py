"""Databases: what their grants come to, and copies of SQLite files for a run to read."""
