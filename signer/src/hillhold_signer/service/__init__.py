"""The signing service: the same repository behind an HTTP API, for a team.

It holds the online keys (snapshot, timestamp) and the key of its log; never those of root, targets or a product line.
"""
