"""The proxies by name, and how a name becomes one. Light: imports no torch until asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING

from predictors.zero_cost.error import ProxyError
from search_spaces.loading import load_object

if TYPE_CHECKING:
    from predictors.zero_cost.batch import Proxy

ALL: tuple[str, ...] = (
    *("naswot", "jacob_cov", "synflow", "snip", "grasp", "fisher", "grad_norm", "l2_norm", "zen", "epe_nas"),
    *("ntk_condition", "linear_regions", "zico", "gradsign", "expressivity", "progressivity", "trainability"),
    *("parameters", "macs"),
)
"""Every proxy, each once."""

PROXIES: Mapping[str, str] = MappingProxyType(
    {name: f"predictors.zero_cost.{name}:{name}" for name in ALL} | {"complexity": "predictors.zero_cost.macs:macs"}
)
"""name -> ``module:function``; `macs` has two names."""

AZ_NAS = ("expressivity", "progressivity", "trainability", "complexity")
"""The four whose aggregate is AZ-NAS; they need neither data nor labels. The default."""


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of proxies, each once; `ProxyError` for one that is unknown or comes twice, or if there is none."""
    if not names:
        raise ProxyError(f"name at least one proxy; known are {', '.join(PROXIES)}")
    for name in names:
        if name not in PROXIES and ":" not in name:
            close = get_close_matches(name, PROXIES, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ProxyError(
                f"unknown proxy {name!r}; {hint}known are {', '.join(PROXIES)}; your own is named 'module:function'"
            )
        if names.count(name) > 1:
            raise ProxyError(f"the proxy {name!r} is named twice")
    return tuple(names)


def load_proxy(name_or_path: str, *, allow: Sequence[str] = ()) -> Proxy:
    """The proxy of a name in `PROXIES`, or of a ``module:function`` path.

    Args:
        name_or_path: what stands at a path must take (network, batch, loss); `private_copy.proxy` is put around it.
        allow: packages beside ours that may be imported from; see `search_spaces.loading.load_object`.
    """
    from predictors.zero_cost.private_copy import proxy

    (name,) = checked_names((name_or_path,))
    found: Proxy = load_object(PROXIES.get(name, name), allow, ours=("predictors.zero_cost",))
    if not callable(found):
        raise ProxyError(f"proxy {name!r} must be a function of (network, batch, loss), got {type(found).__name__}")
    return proxy(found)
