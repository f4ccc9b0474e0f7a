"""What holds for all tests."""

from hypothesis import settings

# Nothing here may depend on how fast the machine is, nor fail for a change that did not cause it.
settings.register_profile("hotloop", deadline=None, derandomize=True)
settings.load_profile("hotloop")
