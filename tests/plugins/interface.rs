//! What was released of the plugin interface stays as it is.
//!
//! A plugin is compiled against a version of the interface, and graft runs it for as long as that
//! series lives. `plugins/wit/released/<version>.txt` holds what the version said, a line for each thing
//! a plugin was compiled with: every type with its fields or cases, every function with its signature,
//! every import and export of a world. `plugins/wit` may say more, in other words; it may not say
//! anything else. `.ci/interface release` writes the file of a new version.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use wit_parser::{
    Function, Handle, InterfaceId, PackageId, Resolve, Type, TypeDefKind, TypeId, WorldItem,
    WorldKey,
};

/// Set to write what is now said as the released version.
const RELEASE: &str = "GRAFT_RELEASE_INTERFACE";

/// What a version of the interface says: one line for each thing.
#[derive(Debug, PartialEq)]
struct Said(BTreeSet<String>);

#[test]
fn what_was_released_stays_as_it_is() {
    let wit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../plugins/wit");
    let version = graft_plugins::INTERFACE;
    let now = Said::of_folder(&wit.join(version));
    if std::env::var_os(RELEASE).is_some() {
        let path = wit.join(format!("released/{version}.txt"));
        assert!(!path.exists(), "{version} was released before");
        std::fs::write(path, now.text()).unwrap();
    }
    let mut held = Vec::new();
    for entry in std::fs::read_dir(wit.join("released")).unwrap() {
        let path = entry.unwrap().path();
        let released = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // While the interface is 0.x, a new minor version is a new interface.
        if series(&released) == series(version) {
            let before = Said::of_text(&std::fs::read_to_string(&path).unwrap());
            let broken = now.breaks(&before);
            assert!(
                broken.is_empty(),
                "the interface {released} is released, and plugins are compiled against it:\n{}\n\
                 Say it in a new function, a new interface or an attribute instead.",
                broken.join("\n")
            );
            held.push(released);
        }
    }
    assert!(held.iter().any(|version| version == "0.1.0"), "{held:?}");
}

/// An interface with one of everything.
const SMALL: &str = "package graft:plugin@0.1.0;
interface kinds {
    record place { line: u32, name: option<string> }
    variant fault { cancelled, io(string) }
    enum role { user, assistant }
    flags grants { read, write }
    type pairs = list<tuple<string, u32>>;
    resource source { read: func(max: u32) -> result<list<u8>, fault>; }
    open: func(name: string) -> result<source, fault>;
}
interface notes { note: func(text: string); }
interface work {
    use kinds.{source, place};
    run: func(input: borrow<source>) -> place;
}
world plugin { import kinds; import notes; export work; }";

#[test]
fn what_is_added_beside_the_released_is_allowed() {
    for (what, old, new) in [
        (
            "an import gets a function",
            "open: func",
            "look: func() -> u32;\nopen: func",
        ),
        (
            "a resource gets a method",
            "read: func",
            "size: func() -> u64;\nread: func",
        ),
        (
            "an import gets a type",
            "enum role",
            "record new { x: u8 }\nenum role",
        ),
        (
            "there is an interface more",
            "interface work",
            "interface more { use kinds.{role}; ask: func(r: role); }\ninterface work",
        ),
        (
            "a world imports it",
            "world plugin { import kinds;",
            "interface more { ask: func(); }\nworld plugin { import more; import kinds;",
        ),
        (
            "there is a world more",
            "world plugin",
            "world other { import kinds; }\nworld plugin",
        ),
        (
            "a word of explanation",
            "record place",
            "/// Where.\nrecord place",
        ),
        ("a patch version", "plugin@0.1.0", "plugin@0.1.1"),
    ] {
        assert_eq!(broken_by(old, new), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn what_changes_the_released_is_refused() {
    for (what, old, new, told) in [
        (
            "a field more",
            "line: u32,",
            "line: u32, column: u32,",
            "record place",
        ),
        ("a field less", "line: u32, ", "", "record place"),
        (
            "a field of another type",
            "line: u32",
            "line: u64",
            "record place",
        ),
        (
            "a field of another name",
            "line: u32",
            "row: u32",
            "record place",
        ),
        (
            "fields in another order",
            "line: u32, name: option<string>",
            "name: option<string>, line: u32",
            "record place",
        ),
        (
            "a case more",
            "cancelled,",
            "cancelled, other,",
            "variant fault",
        ),
        ("a case less", "cancelled, ", "", "variant fault"),
        (
            "a case without its value",
            "io(string)",
            "io",
            "variant fault",
        ),
        ("an enum's case more", "user,", "system, user,", "enum role"),
        ("an enum's case less", "user, ", "", "enum role"),
        (
            "a flag more",
            "read, write",
            "read, write, run",
            "flags grants",
        ),
        (
            "another alias",
            "tuple<string, u32>",
            "tuple<string, u64>",
            "type pairs",
        ),
        (
            "a type less",
            "enum role { user, assistant }",
            "",
            "enum role",
        ),
        (
            "another parameter",
            "max: u32",
            "max: u64",
            "[method]source.read",
        ),
        (
            "a parameter more",
            "(name: string)",
            "(name: string, mode: u8)",
            "open",
        ),
        (
            "another result",
            "-> result<list<u8>, fault>",
            "-> list<u8>",
            "[method]source.read",
        ),
        (
            "a function less",
            "open: func(name: string) -> result<source, fault>;",
            "",
            "open",
        ),
        (
            "given, no longer lent",
            "input: borrow<source>",
            "input: source",
            "run",
        ),
        (
            "an import less",
            "import notes; ",
            "",
            "plugin imports notes",
        ),
        ("an export less", " export work;", "", "plugin exports work"),
        // These a plugin would have to have, and the old ones do not.
        (
            "a plugin must offer a function more",
            "run: func",
            "stop: func();\nrun: func",
            "old plugins do not have: work / func stop",
        ),
        (
            "a plugin must offer an interface more",
            "world plugin {",
            "interface more { ask: func(); }\nworld plugin { export more;",
            "old plugins do not have: plugin exports more",
        ),
        (
            "another series",
            "plugin@0.1.0",
            "plugin@0.2.0",
            "graft:plugin@0.1",
        ),
    ] {
        let broken = broken_by(old, new).join("\n");
        assert!(broken.contains(told), "{what}: {broken:?}");
    }
}

/// What a change of [`SMALL`] breaks.
fn broken_by(old: &str, new: &str) -> Vec<String> {
    let before = Said::of_wit(SMALL);
    // What is written and read again is what was said.
    assert_eq!(Said::of_text(&before.text()), before);
    assert_eq!(SMALL.matches(old).count(), 1, "{old}");
    Said::of_wit(&SMALL.replace(old, new)).breaks(&before)
}

fn series(version: &str) -> &str {
    version
        .rsplit_once('.')
        .map_or(version, |(series, _)| series)
}

impl Said {
    fn of_folder(path: &Path) -> Self {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_path(path).unwrap();
        Self::of_package(&resolve, package)
    }

    fn of_wit(text: &str) -> Self {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("small.wit", text);
        let package = package.unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        Self::of_package(&resolve, package)
    }

    fn of_text(text: &str) -> Self {
        Self(text.lines().map(str::to_owned).collect())
    }

    fn text(&self) -> String {
        self.0.iter().map(|line| format!("{line}\n")).collect()
    }

    fn of_package(resolve: &Resolve, package: PackageId) -> Self {
        let package = &resolve.packages[package];
        let version = package
            .name
            .version
            .as_ref()
            .expect("a version")
            .to_string();
        let (namespace, name) = (&package.name.namespace, &package.name.name);
        let mut lines = BTreeSet::from([format!("{namespace}:{name}@{}", series(&version))]);
        let words = Words(resolve);
        for (name, id) in &package.interfaces {
            let interface = &resolve.interfaces[*id];
            let types = interface.types.iter();
            lines.extend(types.map(|(_, ty)| format!("{name} / {}", words.definition(*ty))));
            let functions = interface.functions.values();
            lines.extend(functions.map(|f| format!("{name} / func {}", words.function(f))));
        }
        for (name, id) in &package.worlds {
            let world = &resolve.worlds[*id];
            let items = |verb: &str, items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| {
                items
                    .map(|(key, item)| format!("{name} {verb} {}", words.item(key, item)))
                    .collect::<Vec<_>>()
            };
            lines.extend(items("imports", &mut world.imports.iter()));
            lines.extend(items("exports", &mut world.exports.iter()));
        }
        Self(lines)
    }

    /// What a plugin that was compiled with `before` would miss, in sentences.
    fn breaks(&self, before: &Self) -> Vec<String> {
        let gone = before.0.difference(&self.0);
        let gone = gone.map(|line| format!("no longer said: {line}"));
        // What plugins give must not grow: those of `before` do not give it.
        let exports = |line: &String| Some(line.split_once(" exports ")?.1.to_owned());
        let given: Vec<String> = before.0.iter().filter_map(exports).collect();
        let worlds: Vec<&str> = before
            .0
            .iter()
            .filter_map(|l| l.split_once(" exports "))
            .map(|(w, _)| w)
            .collect();
        let wanted =
            |line: &&String| match (line.split_once(" / func "), line.split_once(" exports ")) {
                (Some((interface, _)), _) => given.iter().any(|name| name == interface),
                (_, Some((world, _))) => worlds.contains(&world),
                _ => false,
            };
        let new = self.0.difference(&before.0).filter(wanted);
        let new = new.map(|line| format!("old plugins do not have: {line}"));
        gone.chain(new).collect()
    }
}

/// Writes what WIT means, without its comments and its layout.
struct Words<'a>(&'a Resolve);

impl Words<'_> {
    fn item(&self, key: &WorldKey, item: &WorldItem) -> String {
        match (key, item) {
            (WorldKey::Interface(id), _) => self.interface(*id),
            (WorldKey::Name(name), WorldItem::Interface { id, .. }) => {
                format!("{name}: {}", self.interface(*id))
            }
            (WorldKey::Name(_), WorldItem::Function(function)) => {
                format!("func {}", self.function(function))
            }
            (WorldKey::Name(_), WorldItem::Type { id, .. }) => self.definition(*id),
        }
    }

    fn interface(&self, id: InterfaceId) -> String {
        let interface = &self.0.interfaces[id];
        interface.name.clone().expect("interfaces have names")
    }

    fn function(&self, function: &Function) -> String {
        let result = function.result.as_ref();
        let result = result.map_or(String::new(), |ty| format!(" -> {}", self.ty(ty)));
        let parameters = function.params.iter();
        let parameters = list(parameters.map(|p| format!("{}: {}", p.name, self.ty(&p.ty))));
        format!("{}({parameters}){result}", function.name)
    }

    /// A type with all that it consists of.
    fn definition(&self, id: TypeId) -> String {
        let definition = &self.0.types[id];
        let name = definition.name.as_deref().expect("definitions have names");
        let case = |name: &str, ty: Option<&Type>| match ty {
            Some(ty) => format!("{name}({})", self.ty(ty)),
            None => name.to_owned(),
        };
        let (kind, content) = match &definition.kind {
            TypeDefKind::Record(record) => {
                let fields = record.fields.iter();
                let fields = fields.map(|f| format!("{}: {}", f.name, self.ty(&f.ty)));
                ("record", list(fields))
            }
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter();
                ("variant", list(cases.map(|c| case(&c.name, c.ty.as_ref()))))
            }
            TypeDefKind::Enum(cases) => ("enum", list(cases.cases.iter().map(|c| c.name.clone()))),
            TypeDefKind::Flags(flags) => {
                ("flags", list(flags.flags.iter().map(|f| f.name.clone())))
            }
            TypeDefKind::Resource => return format!("resource {name}"),
            _ => return format!("type {name} = {}", self.anonymous(id)),
        };
        format!("{kind} {name} {{ {content} }}")
    }

    fn ty(&self, ty: &Type) -> String {
        match ty {
            Type::Id(id) => match &self.0.types[*id].name {
                Some(name) => name.clone(),
                None => self.anonymous(*id),
            },
            simple => format!("{simple:?}").to_lowercase(),
        }
    }

    /// A type that has no name of its own, or what a name stands for.
    fn anonymous(&self, id: TypeId) -> String {
        let optional = |ty: &Option<Type>| ty.as_ref().map_or("_".to_owned(), |ty| self.ty(ty));
        match &self.0.types[id].kind {
            // An alias of another interface's type says whose it is.
            TypeDefKind::Type(Type::Id(other)) => match &self.0.types[*other] {
                of if of.owner == self.0.types[id].owner => self.ty(&Type::Id(*other)),
                of => match of.owner {
                    wit_parser::TypeOwner::Interface(owner) => {
                        format!("{}.{}", self.interface(owner), self.ty(&Type::Id(*other)))
                    }
                    _ => self.ty(&Type::Id(*other)),
                },
            },
            TypeDefKind::Type(ty) => self.ty(ty),
            TypeDefKind::Handle(Handle::Own(resource)) => self.ty(&Type::Id(*resource)),
            TypeDefKind::Handle(Handle::Borrow(resource)) => {
                format!("borrow<{}>", self.ty(&Type::Id(*resource)))
            }
            TypeDefKind::Tuple(tuple) => {
                format!("tuple<{}>", list(tuple.types.iter().map(|ty| self.ty(ty))))
            }
            TypeDefKind::Option(ty) => format!("option<{}>", self.ty(ty)),
            TypeDefKind::List(ty) => format!("list<{}>", self.ty(ty)),
            TypeDefKind::Result(result) => {
                format!(
                    "result<{}, {}>",
                    optional(&result.ok),
                    optional(&result.err)
                )
            }
            other => panic!("{} has no words here yet", other.as_str()),
        }
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
