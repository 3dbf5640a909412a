"""The training monitor: `python -m training.monitor runs/` shows runs in a browser, from their folders alone.

Python's own HTTP server and plain files: nothing to install or build, nothing loaded from elsewhere, nothing written.
"""
