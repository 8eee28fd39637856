//! Benchmarks live beside this file; each prints its figure as a fraction of a limit measured in the same run.
