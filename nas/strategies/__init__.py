"""Strategies decide what to try next: one file each, a frozen dataclass of settings with a pure `propose`.

Their short names stand in `nas.catalogue`.
"""
