"""Where an index lies: one SQLite file, LanceDB, or PostgreSQL, behind one protocol."""
