"""AWS on this machine, with a replication that takes time and sometimes fails."""
