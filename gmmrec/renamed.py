"""Names that have changed. Whoever uses an old one is told the new one."""

RENAMED: dict[str, str] = {
    "blanks/": "fill_in_the_blank/",
    "links/": "link_prediction/",
    "ratings/": "rating/",
}
"""New names by old ones. A name that ends in a slash is an evaluation task, as it stands in front of its metrics."""


def refuse_renamed(name: str) -> None:
    """Nothing happens where a name is not an old one.

    Raises:
        ValueError: It is; the message says the new one.

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
