"""Events of the domain that a caller may want to catch; every message says what to do."""


class NasError(Exception):
    """Anything this service refuses or cannot do; the message is meant for people."""


class StudyExists(NasError):
    """A study of this name exists already."""


class UnknownStudy(NasError):
    """There is no study of this name."""


class UnknownTrial(NasError):
    """The study has no trial of this number."""


class StorageError(NasError):
    """The database cannot be opened or used as it is."""


class DatabaseAway(StorageError, ConnectionError):
    """The database did not answer for a while; the same call may be repeated safely.

    Also a `ConnectionError`, so that a worker, which knows nothing of this package, can wait and try again.
    """


class Outrun(NasError):
    """Another controller proposed first; read the changes and propose anew."""


class SpecChanged(NasError):
    """The study was created with other settings than those given now."""


class NotResumable(NasError):
    """The study needs something that the database does not hold; the message says what."""
