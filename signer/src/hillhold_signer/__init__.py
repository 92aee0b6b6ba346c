"""Sign firmware updates: TUF metadata with quorums, product lines and patches."""
