//! One file per operator: forward, backward, and the test that one is the derivative of the
//! other.
//!
//! These are the meaning, written to be read and run by tests; the versions the runtime calls
//! are methods of [`crate::Kernels`] with the same arguments. Outputs come first, then inputs,
//! then sizes. A backward adds to its gradients unless it says otherwise.

pub mod attention;
pub mod dropout;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
pub mod lora;
pub mod quick_gelu;
pub mod real;
pub mod rms_norm;
pub mod rope;
pub mod softmax_cross_entropy;
pub mod swiglu;
