"""Writers: they turn what run() returned into rows of the result in each format."""
