"""Stores that released versions have written, each with what those versions answered about it."""
