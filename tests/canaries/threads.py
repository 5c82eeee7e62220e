"""Digests of everything that training makes, by model and number of threads: ``python -m tests.canaries.threads``.

A process of its own, as threads that wait must sleep: OpenMP reads its environment once, and lets them spin by default, which takes
minutes where tests share processors.
"""

import json
import os
from hashlib import sha256
from typing import Any

SETTINGS: dict[str, dict[str, Any]] = {
    "lightgcn": {"dim": 64, "epochs": 1, "lr": 0.01},
    "bert4rec": {"dim": 32, "epochs": 1, "num_layers": 1, "max_length": 10},
    "ease": {},
}
THREADS = (1, 1, 2, 2)


def main() -> None:
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0", KMP_BLOCKTIME="0", OMP_NUM_THREADS="2", MKL_NUM_THREADS="2")
    import torch

    import gmmrec
    from gmmrec.data.synthetic import SyntheticConfig, synthetic_dataset
    from tests.canaries.tensors import tensors

    data = synthetic_dataset(SyntheticConfig(800, 600, 12_000), torch.Generator().manual_seed(0))  # enough rows for two threads
    found: dict[str, list[Any]] = {}
    for name, settings in SETTINGS.items():
        found[name] = []
        for count in THREADS:
            torch.set_num_threads(count)
            run = gmmrec.fit(data, name, bootstrap=0, progress=False, accelerator="cpu", **settings)
            digest = sha256()
            for path, value in tensors([run.model, run.graph.data]):
                content = value.detach().contiguous().numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode()
                digest.update(path.encode() + content)
            found[name].append([torch.get_num_threads(), digest.hexdigest(), run.results["test"].mean()])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
