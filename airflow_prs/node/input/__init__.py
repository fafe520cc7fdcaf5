"""Input on object storage: local copies for worker processes, made ahead of need and removed after use."""
