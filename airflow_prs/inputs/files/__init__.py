"""Finding input files: paths, folders and patterns become a sorted listing."""
