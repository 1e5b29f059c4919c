"""Settings for all tests."""

from hypothesis import settings

pytest_plugins = ["tests.postgres"]

# A loaded machine must not fail a property: what is checked is the result, not the time.
settings.register_profile("assay", deadline=None, derandomize=True)
settings.load_profile("assay")
