"""Find input files: turn paths, folders and patterns into a sorted listing."""
