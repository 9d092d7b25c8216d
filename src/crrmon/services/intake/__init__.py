"""From messages to facts, and from facts to whoever makes them durable."""
