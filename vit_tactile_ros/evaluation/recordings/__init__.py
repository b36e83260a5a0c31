"""Recordings: replay, report, comparison."""
