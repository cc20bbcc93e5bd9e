"""A package outside metarl that adds to it, through public imports only."""
