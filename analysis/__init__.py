"""What people look at: trial tables, pictures, benchmarks. Reads records, never Ray."""
