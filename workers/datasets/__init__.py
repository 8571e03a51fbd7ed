"""Data sets by name, from files, and from a user's own code. No torch anywhere in here."""

from workers.datasets.dataset import DataError, Dataset, Examples, Split
from workers.datasets.load import load_dataset

__all__ = ["DataError", "Dataset", "Examples", "Split", "load_dataset"]
