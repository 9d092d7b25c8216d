"""A Redis server or cluster, for several daemons."""
