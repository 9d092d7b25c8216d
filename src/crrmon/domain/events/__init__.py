"""What events tell: facts, and how each shape of message is read into them."""
