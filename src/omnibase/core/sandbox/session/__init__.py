"""Sessions: one sandbox and one interpreter for several calls of one principal."""
