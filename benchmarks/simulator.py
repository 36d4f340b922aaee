"""Land the full simulation, 5000 customers over 183 days, on one core: rows, seconds, share of fraud.

Run it as `taskset -c 0 python benchmarks/simulator.py [SEED …]`.
"""

import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from my_platform.domains.fraud.simulator import SimulatorConfig, append_days, land_simulation


def main(seeds: list[int]) -> None:
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            landing = Path(folder) / "landing"
            config = SimulatorConfig(seed=seed)
            started = time.perf_counter()
            landed = land_simulation(landing, first=date(2018, 4, 1), days=183, config=config, closed=True)
            simulated_s = time.perf_counter() - started
            started = time.perf_counter()
            append_days(landing, 1)
            appended_s = time.perf_counter() - started
        share = landed.frauds / landed.rows
        print(
            f"seed {seed}: {landed.rows} rows in {simulated_s:.2f} s, {share:.4%} fraud, "
            f"{landed.files} files; one more day in {appended_s:.2f} s"
        )


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [0])
