"""The service killed at random moments, in every part: nothing that was accepted may be lost."""
