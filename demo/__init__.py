"""The demo: real text, a real model and a live server; see `demo/run.py`."""
