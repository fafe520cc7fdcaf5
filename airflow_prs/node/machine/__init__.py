"""What this machine, or the container, has: cores and memory, and what a node uses of them."""
