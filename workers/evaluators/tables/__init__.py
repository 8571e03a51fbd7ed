"""Benchmark tables: results that others have measured, one file per table. Pure numpy."""
