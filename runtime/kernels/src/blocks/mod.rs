//! One file per block type: byte diagram, decode, encode.
