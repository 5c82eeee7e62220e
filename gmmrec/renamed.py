"""Renamed names, and the error that gives the new one."""

RENAMED: dict[str, str] = {
    "blanks/": "fill_in_the_blank/",
    "links/": "link_prediction/",
    "ratings/": "rating/",
}
"""New names by old ones. A name that ends in a slash is an evaluation task, the prefix of its metrics."""


def refuse_renamed(name: str) -> None:
    """Refuse a name that was renamed.

    Raises:
        ValueError: The name is an old one; the message gives the new one.

    >>> refuse_renamed("recall@20")
    >>> refuse_renamed("links/mrr")
    Traceback (most recent call last):
    ...
    ValueError: 'links/mrr' is now called 'link_prediction/mrr'
    """
    task, slash, metric = name.rpartition("/")
    new = RENAMED.get(name) or (slash and RENAMED.get(task + slash, "") and RENAMED[task + slash] + metric)
    if new:
        raise ValueError(f"{name!r} is now called {new!r}")
