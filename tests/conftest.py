"""What holds for all tests."""

from hypothesis import settings

# Nothing here may depend on how fast the machine is.
settings.register_profile("hotloop", deadline=None)
settings.load_profile("hotloop")
