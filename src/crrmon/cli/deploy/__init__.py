"""`crrmon deploy`: what is to stand at AWS, shown and asked about."""
