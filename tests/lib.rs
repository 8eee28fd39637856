//! Tests that cross crates live beside this file, one `[[test]]` each.
