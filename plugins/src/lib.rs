//! The wasm plugin host: load a plugin with [`host`], run it as a converter or an evaluator.
