//! A folder with a model that works, and a `graft` to run in it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
/// Images in a fresh place: `0.png` to `3.png`.
const IMAGES: usize = 4;

/// A folder of its own for a test: `model.gguf`, `mmproj.gguf`, `a.gguf` (an adapter), `0.png` to
/// `3.png`, `data.json` (a question about each) and `text.json` (questions without images).
pub struct Place {
    folder: TempDir,
}

/// What a command said and how it ended.
#[derive(Debug)]
#[allow(dead_code)] // a failed assertion shows the line
pub struct Said {
    pub line: String,
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Place {
    /// A folder with the files that every command needs.
    pub fn new() -> Self {
        let place = Self::bare();
        place.write("a.gguf", adapter());
        place
    }

    /// The same without the adapter.
    fn bare() -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["model.gguf", "mmproj.gguf"] {
            fs::copy(Path::new(DEMO).join(name), folder.path().join(name)).unwrap();
        }
        let images = Path::new(DEMO).join("digits/held-out/images");
        let mut names: Vec<PathBuf> = fs::read_dir(images)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        for (i, from) in names.iter().take(IMAGES).enumerate() {
            fs::copy(from, folder.path().join(format!("{i}.png"))).unwrap();
        }
        let place = Self { folder };
        let seen = (0..IMAGES).map(|i| question(&format!("s{i}"), Some(&format!("{i}.png"))));
        place.write("data.json", records(seen));
        let unseen = (0..IMAGES).map(|i| question(&format!("t{i}"), None));
        place.write("text.json", records(unseen));
        place
    }

    /// The folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Reads a file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// `program` in this folder, with a cache of compiled plugins that all tests share.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `graft` with the words of `line`, not started yet.
    pub fn graft(&self, line: &str) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_graft"));
        command.args(line.split_whitespace());
        command
    }

    /// Runs `graft` with the words of `line`.
    pub fn run(&self, line: &str) -> Said {
        Said::of(line, self.graft(line))
    }

    /// Runs `graft` in a shell: `{}` stands for it.
    pub fn shell(&self, line: &str) -> Said {
        let mut command = self.command("bash");
        let graft = env!("CARGO_BIN_EXE_graft");
        command.args(["-c", &line.replace("{}", &format!("'{graft}'"))]);
        Said::of(line, command)
    }

    /// Every file and folder below this one.
    pub fn listing(&self) -> BTreeSet<PathBuf> {
        fn below(folder: &Path, found: &mut BTreeSet<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    below(&path, found);
                }
                found.insert(path);
            }
        }
        let mut found = BTreeSet::new();
        below(self.folder.path(), &mut found);
        found
    }

    /// Runs `work` and checks that it left no file behind.
    pub fn leaves_nothing<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.listing();
        let done = work();
        let after = self.listing();
        let left: Vec<_> = after.difference(&before).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        done
    }

    /// The updates that the record of a run names, one a line.
    pub fn recorded(&self, run: &str) -> Vec<u64> {
        let text = String::from_utf8(self.read(&format!("{run}/metrics.jsonl"))).unwrap();
        let step =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64();
        text.lines().map(|line| step(line).unwrap()).collect()
    }

    /// Whether something half-written lies about.
    pub fn has_partial(&self) -> bool {
        let partial = |path: &PathBuf| path.to_string_lossy().ends_with(".partial");
        self.listing().iter().any(partial)
    }
}

impl Said {
    fn of(line: &str, mut command: Command) -> Self {
        Self::from(line, command.output().unwrap())
    }

    /// What a finished process said.
    pub fn from(line: &str, output: std::process::Output) -> Self {
        let said = Self {
            line: line.to_owned(),
            status: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        for word in [
            "panicked",
            "RUST_BACKTRACE",
            "stack backtrace",
            ".partial",
            "Os {",
        ] {
            assert!(!said.err.contains(word), "{word} in {said:#?}");
        }
        said
    }

    /// It worked, and said nothing of errors.
    pub fn done(self) -> Self {
        assert_eq!(self.status, Some(0), "{self:#?}");
        assert!(!self.err.contains("graft: "), "{self:#?}");
        self
    }

    /// Status 1, and the sentence says each of `words`.
    pub fn failed(self, words: &[&str]) -> Self {
        self.refused(1, words)
    }

    /// Status 2, and the sentence, or clap's, says each of `words`.
    pub fn misused(self, words: &[&str]) -> Self {
        if !self.err.starts_with("error: ") {
            return self.refused(2, words);
        }
        assert_eq!(self.status, Some(2), "{self:#?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in {self:#?}");
        }
        self
    }

    /// Status 130.
    pub fn interrupted(self, words: &[&str]) -> Self {
        self.refused(130, words)
    }

    fn refused(self, status: i32, words: &[&str]) -> Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        let sentences: Vec<&str> = self
            .err
            .lines()
            .filter(|l| l.starts_with("graft: "))
            .collect();
        assert_eq!(sentences.len(), 1, "one sentence is expected: {self:#?}");
        assert_eq!(self.err.lines().last(), Some(sentences[0]), "{self:#?}");
        for word in words {
            assert!(sentences[0].contains(word), "{word:?} is not in {self:#?}");
        }
        self
    }
}

/// A `graft` at work whose words are heard as it says them.
pub struct Running {
    line: String,
    child: Child,
    err: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    /// Starts `command`; `line` is what a failed test shows.
    pub fn start(line: &str, mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        Self {
            line: line.to_owned(),
            err: BufReader::new(child.stderr.take().unwrap()),
            child,
            said: String::new(),
        }
    }

    /// Waits until it says a line with `word`, and gives that line.
    pub fn until(&mut self, word: &str) -> String {
        loop {
            let begin = self.said.len();
            let read = self.err.read_line(&mut self.said).unwrap();
            assert_ne!(read, 0, "{word:?} is not in {}", self.said);
            if self.said[begin..].contains(word) {
                return self.said[begin..].to_owned();
            }
        }
    }

    /// Its process.
    pub fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// Presses Ctrl-C.
    pub fn press(&self) {
        let done = Command::new("kill").args(["-INT", &self.id()]).status();
        assert!(done.unwrap().success());
    }

    /// Waits for its end.
    pub fn end(mut self) -> Said {
        self.err.read_to_string(&mut self.said).unwrap();
        let mut output = self.child.wait_with_output().unwrap();
        output.stderr = self.said.into_bytes();
        Said::from(&self.line, output)
    }
}

/// A question with its answer, as a record of LLaVA JSON.
pub fn question(id: &str, image: Option<&str>) -> serde_json::Value {
    let marker = image.map_or("", |_| "<image>\n");
    let mut record = serde_json::json!({
        "id": id,
        "conversations": [
            {"from": "human", "value": format!("{marker}What is written here?")},
            {"from": "gpt", "value": "two"},
        ],
    });
    if let Some(image) = image {
        record["image"] = image.into();
    }
    record
}

/// Records as a file.
pub fn records(records: impl IntoIterator<Item = serde_json::Value>) -> String {
    serde_json::Value::from_iter(records).to_string()
}

/// An adapter of the demo's model, trained for one step.
fn adapter() -> &'static [u8] {
    static ADAPTER: OnceLock<Vec<u8>> = OnceLock::new();
    ADAPTER.get_or_init(|| {
        let place = Place::bare();
        let line = "train -m model.gguf --data text.json --rank 2 --targets q_proj,v_proj --steps 4 --lr 1e-2 -o a.gguf";
        place.run(line).done();
        place.read("a.gguf")
    })
}

/// `model.gguf` with one value of its metadata changed: another base of the same sizes.
pub fn other_base(model: &[u8]) -> Vec<u8> {
    patched(model, b"llama.rope.freq_base", |value| {
        assert_eq!(value[..4], [6, 0, 0, 0], "a f32");
        value[4..8].copy_from_slice(&20_000.0f32.to_le_bytes());
    })
}

/// `model.gguf` as one of architecture `gpt2`.
pub fn of_gpt2(model: &[u8]) -> Vec<u8> {
    patched(model, b"general.architecture", |value| {
        assert_eq!(&value[12..17], b"llama");
        value[12..17].copy_from_slice(b"gpt2x");
    })
}

/// `file` with `change` made to what follows the key.
fn patched(file: &[u8], key: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut file = file.to_vec();
    let at = file.windows(key.len()).position(|bytes| bytes == key);
    change(&mut file[at.unwrap() + key.len()..]);
    file
}
