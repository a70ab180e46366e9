"""The default store: one SQLite file, and beside it the vectors, mapped into memory."""
