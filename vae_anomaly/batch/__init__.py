"""Files of any size, scored in chunks."""
