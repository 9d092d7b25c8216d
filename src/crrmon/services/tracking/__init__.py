"""Following each version until its replication status is final."""
