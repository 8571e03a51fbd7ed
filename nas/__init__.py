"""Neural architecture search as a service: studies, strategies, the store, and the doors for people."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.errors import NasError, NotResumable, StorageError, StudyExists, UnknownStudy
    from nas.metric import Metric
    from nas.settings import Limits, StopRules
    from nas.studies import create_study, delete_study, list_studies, open_study
    from nas.study import Study
    from nas.trial import Proposal, Trial, TrialState

__all__ = [
    "Limits",
    "Metric",
    "NasError",
    "NotResumable",
    "Proposal",
    "StopRules",
    "StorageError",
    "Study",
    "StudyExists",
    "Trial",
    "TrialState",
    "UnknownStudy",
    "create_study",
    "delete_study",
    "list_studies",
    "open_study",
]

_HOMES = {
    "nas.errors": ("NasError", "NotResumable", "StorageError", "StudyExists", "UnknownStudy"),
    "nas.metric": ("Metric",),
    "nas.settings": ("Limits", "StopRules"),
    "nas.studies": ("create_study", "delete_study", "list_studies", "open_study"),
    "nas.study": ("Study",),
    "nas.trial": ("Proposal", "Trial", "TrialState"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `nas --help` needs none of them."""
    if name not in _HOME:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
