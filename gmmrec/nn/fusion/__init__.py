"""Fusion: many vectors of one node (modalities, regions, words) become one.

All modules agree on one signature::

    fused = fusion(tokens, mask, query)                              # [N, D]
    fused, weights = fusion(tokens, mask, query, return_weights=True)

- ``tokens`` ``[N, M, D]``: M vectors for each of N nodes or pairs;
- ``mask`` ``[N, M]``, boolean, True where a token exists; None: all do. A missing token has weight 0 and its values are never read;
  a row without any token is fused to zeros, never to NaN;
- ``query`` ``[N, D]``: whose view it is (a user), for the modules that ask; the others take no notice of it;
- ``weights`` ``[N, M]``, or ``[N, M, D]`` where every dimension has its own, sum to 1 over the tokens that are present.
"""
