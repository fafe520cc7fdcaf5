"""The store of a run: its port, its adapters, and the durable files below them."""
