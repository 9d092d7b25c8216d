"""Sharing the work between daemons of one ledger."""
