//! One file per operator: forward, backward, and the test that one is the
//! derivative of the other.

pub mod lora;
pub mod real;
pub mod rms_norm;
