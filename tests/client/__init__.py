"""Tests of the clients for programs: app/client/."""
