//! The plugins inside the library. `plugins/build` makes them from `plugins/guests`.

/// Name and component of each.
const SHIPPED: &[(&str, &[u8])] = &[
    ("alpaca", include_bytes!("../shipped/alpaca.wasm")),
    ("anls", include_bytes!("../shipped/anls.wasm")),
    (
        "coco-captions",
        include_bytes!("../shipped/coco-captions.wasm"),
    ),
    ("csv", include_bytes!("../shipped/csv.wasm")),
    ("doccano", include_bytes!("../shipped/doccano.wasm")),
    ("exact-match", include_bytes!("../shipped/exact-match.wasm")),
    ("gqa", include_bytes!("../shipped/gqa.wasm")),
    ("json-fields", include_bytes!("../shipped/json-fields.wasm")),
    ("judge", include_bytes!("../shipped/judge.wasm")),
    (
        "label-studio",
        include_bytes!("../shipped/label-studio.wasm"),
    ),
    ("openai-chat", include_bytes!("../shipped/openai-chat.wasm")),
    ("pope", include_bytes!("../shipped/pope.wasm")),
    ("rouge-l", include_bytes!("../shipped/rouge-l.wasm")),
    ("science-qa", include_bytes!("../shipped/science-qa.wasm")),
    ("sharegpt", include_bytes!("../shipped/sharegpt.wasm")),
    ("ubiai", include_bytes!("../shipped/ubiai.wasm")),
    (
        "vqa-accuracy",
        include_bytes!("../shipped/vqa-accuracy.wasm"),
    ),
    ("vqa-v2", include_bytes!("../shipped/vqa-v2.wasm")),
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
