"""Evaluation of bags: replay, report, comparison."""
