"""Evaluators: each turns an assignment into metrics."""
