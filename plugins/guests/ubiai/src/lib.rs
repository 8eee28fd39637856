//! Exports of UBIAI.
