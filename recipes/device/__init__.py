"""What several recipes do on a device; a bundle holds copies of the files that its task needs."""
