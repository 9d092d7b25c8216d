"""The databases that a ledger can lie in."""
