"""A store beyond 100,000 chunks: LanceDB, with an index over the vectors (extra "lance")."""
