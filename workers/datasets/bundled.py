"""The data sets that come with scikit-learn: real data that needs no download."""

from workers.datasets.dataset import Examples


def digits() -> Examples:
    """1,797 handwritten digits as 1 x 8 x 8 images of 0 … 16 ink."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype("uint8")[:, None]
    return Examples(
        inputs=images, targets=bunch.target, kind="classification", class_names=tuple(map(str, bunch.target_names))
    )


def iris() -> Examples:
    """150 flowers of 3 species, 4 features."""
    from sklearn.datasets import load_iris

    return _table(load_iris())


def wine() -> Examples:
    """178 wines of 3 growers, 13 features."""
    from sklearn.datasets import load_wine

    return _table(load_wine())


def breast_cancer() -> Examples:
    """569 tumours of 2 kinds, 30 features."""
    from sklearn.datasets import load_breast_cancer

    return _table(load_breast_cancer())


def diabetes() -> Examples:
    """442 patients, 10 features; the target is the progression of the disease after a year (25 … 346)."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    return Examples(inputs=bunch.data, targets=bunch.target, kind="regression")


def _table(bunch: object) -> Examples:
    data, target, names = (getattr(bunch, name) for name in ("data", "target", "target_names"))
    return Examples(inputs=data, targets=target, kind="classification", class_names=tuple(map(str, names)))
