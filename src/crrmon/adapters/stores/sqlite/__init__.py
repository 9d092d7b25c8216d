"""One SQLite file: the default. One daemon, one thread, one transaction and one sync for each write."""
