//! Compute graphs: operators in order, forward and backward of a layer in one file.
