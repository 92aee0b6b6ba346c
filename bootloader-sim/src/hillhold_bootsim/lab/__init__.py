"""A test laboratory's work on a board, real or virtual: attacks, bad lines, power cuts, and the report to hand in."""
