"""What the paper reports, and speed: tables, figures, baselines, benchmarks."""
