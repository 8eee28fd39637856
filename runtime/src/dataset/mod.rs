//! Training samples, and the trait that turns foreign exports into them.
