"""What run() returned, as rows of the result in each format."""
