"""Settings of hypothesis: the same cases in every run, and no files beside the sources."""

from pathlib import Path

from hypothesis import HealthCheck, configuration, settings

configuration.set_hypothesis_home_dir(Path(__file__).resolve().parents[1] / ".cache" / "hypothesis")
settings.register_profile(
    "suite",
    derandomize=True,
    database=None,
    deadline=None,  # of a busy machine; cases of tests.fuzz have their own limit
    max_examples=60,
    print_blob=True,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
)
settings.load_profile("suite")
