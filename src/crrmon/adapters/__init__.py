"""The only code that knows vendors; each module implements one port."""
