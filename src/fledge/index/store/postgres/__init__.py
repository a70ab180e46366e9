"""A store on a server: PostgreSQL with pgvector (extra "postgres")."""
