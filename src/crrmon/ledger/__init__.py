"""The ledger: what it keeps, what that means, and how it lies in a store. It knows no vendor."""
