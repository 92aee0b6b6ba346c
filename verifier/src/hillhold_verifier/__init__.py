"""Verify TUF-signed firmware updates and install them, only forward."""
