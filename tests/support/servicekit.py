"""A signing service in a test: a repository on a database, accounts with tokens, and the real application over HTTP on loopback."""
