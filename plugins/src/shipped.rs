//! The plugins inside the library. `plugins/build` makes them from `plugins/guests`.

/// Name and component of each.
const SHIPPED: &[(&str, &[u8])] = &[
    ("exact-match", include_bytes!("../shipped/exact-match.wasm")),
    ("ubiai", include_bytes!("../shipped/ubiai.wasm")),
];

/// What compiled them: a compiler, its standard library and a linker, by version.
pub const TOOLCHAIN: &str = include_str!("../shipped/toolchain.txt");

/// The names of the shipped plugins.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// The component of a shipped plugin.
pub fn plugin(name: &str) -> Option<&'static [u8]> {
    let mut found = SHIPPED.iter().filter(|(shipped, _)| *shipped == name);
    found.next().map(|(_, bytes)| *bytes)
}
