"""What can go wrong outside the demo's hands."""


class DemoError(Exception):
    """A failure that the user can understand and mend; its text says how."""
