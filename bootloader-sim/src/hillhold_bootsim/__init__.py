"""A virtual board on a serial port, for testing firmware updates."""
