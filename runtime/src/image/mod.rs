//! Pixels to normalised patches: decode, pad, resize, crop.
