"""Where what is pending is remembered: one module per kind of ledger."""
