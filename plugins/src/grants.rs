//! What a plugin may ask for beyond its own computing.

/// What the user allows a plugin; nothing by default.
///
/// Reading the input and its companion files needs no grant: a converter is made for that, and
/// sees nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// An evaluator may ask the model itself (world `judge-plugin`).
    pub model: bool,
}
