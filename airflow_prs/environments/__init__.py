"""
Virtual environments for entry scripts.

`making` is the face of this room: it makes each environment once on a machine and keeps it. `installing` runs uv, or
venv and pip.
"""
