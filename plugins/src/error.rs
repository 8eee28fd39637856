//! Why a plugin was refused or stopped: one variant, one sentence each.

use std::path::PathBuf;
use std::time::Duration;

/// A plugin that cannot be loaded, or broke a rule while it ran. The host is unharmed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// The file cannot be read.
    #[error("cannot read the plugin {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// No shipped plugin has this name, and no file either.
    #[error("there is no plugin {name}: give the path of a .wasm file, or one of: {shipped}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names of the shipped plugins.
        shipped: String,
    },
    /// What should be a SHA-256 is none.
    #[error(
        "{found} is no SHA-256: it has 64 hexadecimal digits; `graft plugin info` shows a plugin's"
    )]
    BadPin {
        /// What was given.
        found: String,
    },
    /// What should be a public key is none.
    #[error(
        "this is no public key of minisign ({reason}); give the .pub file that `minisign -G` wrote"
    )]
    BadKey {
        /// What is wrong with it.
        reason: String,
    },
    /// The file is not the one that was pinned.
    #[error(
        "{plugin} is not the plugin that was asked for: its SHA-256 is {found}, not {expected}"
    )]
    OtherPlugin {
        /// The plugin.
        plugin: String,
        /// The pinned digest.
        expected: String,
        /// The file's.
        found: String,
    },
    /// None of the keys signed the file.
    #[error(
        "the plugin {plugin} is not signed by a key that was given: {reason}; \
         its author signs it with `minisign -S`, and the .minisig file lies beside it"
    )]
    Signature {
        /// The plugin.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
    /// The file is larger than [`crate::Limits::plugin_bytes`].
    #[error("the plugin {plugin} has {bytes} bytes, more than the {limit} allowed (plugin_bytes)")]
    TooLarge {
        /// The plugin.
        plugin: String,
        /// Its bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The bytes are no WebAssembly.
    #[error("{plugin} is not a WebAssembly component: {reason}")]
    Invalid {
        /// The plugin.
        plugin: String,
        /// The first fault.
        reason: String,
    },
    /// The bytes are a WebAssembly module that was not encoded as a component.
    #[error(
        "{plugin} is a core WebAssembly module; a plugin is a component: \
         make one of it with `graft plugin pack`"
    )]
    CoreModule {
        /// The plugin.
        plugin: String,
    },
    /// The plugin wants files, clocks or sockets of the system.
    #[error(
        "the plugin {plugin} imports {import}, but plugins get no WASI: build it for \
         wasm32-unknown-unknown (Rust), without what prints or opens files (C), with --stub-wasi (Python) or \
         all features disabled (JavaScript)"
    )]
    Wasi {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
    },
    /// The plugin imports something that its world does not have.
    #[error("the plugin {plugin} imports {import}, which the world {world} does not offer")]
    Import {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
        /// The world its exports put it in.
        world: &'static str,
    },
    /// The plugin needs a model that was not granted.
    #[error("the plugin {plugin} asks a model, which was not granted to it")]
    ModelNotGranted {
        /// The plugin.
        plugin: String,
    },
    /// The plugin was made for another version of the interface.
    #[error("the plugin {plugin} exports {export}; this version of graft runs graft:plugin@{ours}")]
    Version {
        /// The plugin.
        plugin: String,
        /// What it exports.
        export: String,
        /// The version of this host.
        ours: &'static str,
    },
    /// The plugin is neither converter nor evaluator.
    #[error(
        "{plugin} is a component but no graft plugin: it exports neither \
         graft:plugin/converter nor graft:plugin/evaluator"
    )]
    NoWorld {
        /// The plugin.
        plugin: String,
    },
    /// A converter was used as an evaluator, or the reverse.
    #[error("the plugin {plugin} is of the world {found}, but {wanted} is needed here")]
    WrongWorld {
        /// The plugin.
        plugin: String,
        /// Its world.
        found: &'static str,
        /// The world that the caller needs.
        wanted: &'static str,
    },
    /// The plugin's manifest section is not readable.
    #[error("the manifest of the plugin {plugin} is not valid: {reason}")]
    Manifest {
        /// The plugin.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
    /// Interfaces have the right names but other types.
    #[error("the plugin {plugin} does not fit its world: {reason}")]
    Mismatch {
        /// The plugin.
        plugin: String,
        /// Which import or export.
        reason: String,
    },
    /// The engine could not compile the plugin, or not start.
    #[error("the plugin {plugin} cannot be compiled: {reason}")]
    Compile {
        /// The plugin.
        plugin: String,
        /// The engine's reason.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("the plugin {plugin} was interrupted")]
    Cancelled {
        /// The plugin.
        plugin: String,
    },
    /// One of the [`crate::Limits`] was reached.
    #[error("the plugin {plugin} was stopped: {limit}")]
    Limit {
        /// The plugin.
        plugin: String,
        /// Which limit, and how to raise it.
        limit: Exceeded,
    },
    /// The plugin crashed.
    #[error("the plugin {plugin} crashed: {reason}")]
    Trap {
        /// The plugin.
        plugin: String,
        /// WebAssembly's reason.
        reason: String,
    },
    /// The plugin gave the host a value that is none: text that is not UTF-8, a list beyond its
    /// memory, a handle it does not own.
    #[error("the plugin {plugin} broke the rules of its interface: {reason}")]
    BadValue {
        /// The plugin.
        plugin: String,
        /// Which rule.
        reason: String,
    },
    /// The plugin's count of its samples is not the host's.
    #[error("the plugin {plugin} says it emitted {claimed} samples, but emitted {emitted}")]
    Summary {
        /// The plugin.
        plugin: String,
        /// What it says.
        claimed: u64,
        /// What arrived.
        emitted: u64,
    },
    /// A run is used again after its plugin was stopped.
    #[error("the plugin {plugin} was stopped before; start a new run")]
    Stopped {
        /// The plugin.
        plugin: String,
    },
    /// The host has no memory or address space for the plugin.
    #[error("the plugin {plugin} cannot run: {reason}")]
    Host {
        /// The plugin.
        plugin: String,
        /// The operating system's reason.
        reason: String,
    },
}

/// A limit that a plugin reached; the word in brackets is its name in [`crate::Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Exceeded {
    #[error("it used all its fuel of {0} (fuel, fuel_per_byte); it may be in an endless loop")]
    Fuel(u64),
    #[error("it ran for longer than {0:?} (deadline)")]
    Deadline(Duration),
    #[error("it wanted {wanted} bytes of memory; {limit} are allowed (memory_bytes)")]
    Memory { wanted: u64, limit: u64 },
    #[error(
        "its calls nest too deeply for a stack of {0} bytes (stack_bytes); it may recurse without end"
    )]
    Stack(usize),
    #[error("one call carried more than {0} bytes (call_bytes)")]
    CallBytes(usize),
    #[error("it keeps more than {0} sources open (handles)")]
    Handles(usize),
    #[error("it opened more than {0} companion files (assets)")]
    Assets(u64),
    #[error("its samples have more than {0} bytes (output_bytes)")]
    OutputBytes(u64),
    #[error("it emitted more than {0} samples (samples)")]
    Samples(u64),
    #[error("it asked the model more than {0} times (requests)")]
    Requests(u64),
    #[error("its questions to the model and the replies have more than {0} tokens (tokens)")]
    Tokens(u64),
    #[error("its log has more than {0} bytes (log_bytes)")]
    LogBytes(u64),
    #[error("it made more than {0} remarks (diagnostics)")]
    Diagnostics(u64),
}
