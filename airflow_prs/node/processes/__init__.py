"""The worker processes of a node: started, fed, watched by the clock, replaced."""
