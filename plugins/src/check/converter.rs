//! The rules of a converter.

use std::path::Path;

use graft::dataset::converter::DETECT_BYTES;
use graft::dataset::{ConvertError, Converter, Diagnostic};

use super::damage::{self, OTHER_FORMATS};
use super::desk::{Arrival, DISK_FULL, DISK_GONE, Outcome, Try};
use super::schema::Taken;
use super::{Broken, Export, Row, Ruling, Verdict, With, is_kebab, kept, options, row, schema};
use crate::converter::{UNASKED, WasmConverter};

/// Why a rule is not asked.
const NO_EXPORT: &str = "give an export that it reads: --with FILE";

/// How many damaged exports are tried.
const DAMAGED: u64 = 200;

struct Subject<'a> {
    plugin: &'a WasmConverter,
    with: &'a With,
    schema: String,
}

/// A rule by name.
type Rule = (&'static str, fn(&Subject) -> Ruling);
/// One that is about the author's export.
type RuleOfExport = (&'static str, fn(&Subject, &Export) -> Ruling);

/// Tries every rule.
pub fn rows(plugin: &WasmConverter, with: &With) -> Vec<Row> {
    let described = plugin.describe();
    let subject = Subject {
        plugin,
        with,
        schema: described.map_or_else(|_| "{}".into(), |said| said.options_schema),
    };
    let rules: [Rule; 8] = [
        ("describes itself", describes),
        ("schema of its options", |s| schema::ruling(&s.schema)),
        ("refuses wrong options", wrong_options),
        ("detects files", detects),
        ("empty input", empty),
        ("input of another format", other_formats),
        ("hostile input", hostile),
        ("converts", converts),
    ];
    let of_export: [RuleOfExport; 8] = [
        ("default options", default_options),
        ("the same samples again", same_again),
        ("an export cut anywhere", cut),
        ("a damaged export", damaged),
        ("tells of its progress", progress),
        ("stops when it is told to", stops),
        ("waits for a full disk", full_disk),
        ("an export that cannot be read on", unreadable),
    ];
    let general = rules.iter().map(|(rule, ask)| row(rule, ask(&subject)));
    let of_export = of_export.iter().map(|(rule, ask)| {
        let ruling = with.export.as_ref().map(|export| ask(&subject, export));
        row(
            rule,
            ruling.unwrap_or(Ok(Verdict::NotAsked { why: NO_EXPORT })),
        )
    });
    general.chain(of_export).collect()
}

impl Subject<'_> {
    /// A conversion of `bytes` as a file, with the author's options.
    fn on<'t>(&'t self, name: &'t str, bytes: &'t [u8]) -> Try<'t> {
        let export = self.with.export.as_ref();
        Try {
            name,
            bytes,
            assets: export.map_or(Path::new("no-such-folder"), |export| {
                export.assets.as_path()
            }),
            options: options(self.with),
            arrival: Arrival::WHOLE,
            cancel_at: None,
            room: usize::MAX,
        }
    }

    fn run(&self, name: &str, bytes: &[u8]) -> Outcome {
        self.on(name, bytes).run(self.plugin)
    }

    /// The name that trials have which are not the author's.
    fn name(&self) -> &str {
        let export = self.with.export.as_ref();
        export.map_or("export.json", |export| export.name.as_str())
    }
}

fn describes(subject: &Subject) -> Ruling {
    const ADVICE: &str = "`describe` names at least one format: an id in kebab case, a title for people, and file \
         name extensions without the dot";
    let broken = |what: String| Broken::new(what, ADVICE);
    let said = subject.plugin.describe();
    let said = said.map_err(|error| broken(format!("`describe` failed: {error}")))?;
    if said.formats.is_empty() {
        return Err(broken("it names no format".into()));
    }
    for (i, format) in said.formats.iter().enumerate() {
        let id = &format.id;
        if !is_kebab(id) {
            return Err(broken(format!(
                "the id {id:?} of a format is not in kebab case"
            )));
        }
        if said.formats[..i].iter().any(|other| other.id == *id) {
            return Err(broken(format!("two formats have the id {id:?}")));
        }
        if format.title.trim().is_empty() {
            return Err(broken(format!("the format {id} has no title")));
        }
        let extensions = &format.extensions;
        if extensions.is_empty()
            || extensions
                .iter()
                .any(|e| e.is_empty() || e.starts_with('.'))
        {
            return Err(broken(format!(
                "the format {id} has the extensions {extensions:?}"
            )));
        }
    }
    let ids: Vec<_> = said
        .formats
        .iter()
        .map(|format| format.id.as_str())
        .collect();
    kept(ids.join(", "))
}

fn wrong_options(subject: &Subject) -> Ruling {
    const ADVICE: &str = "return invalid-options for an option that you do not know or whose value has another type \
         than the schema says, before you read: else a misspelt option has no effect and nobody notices";
    let export = subject.with.export.as_ref();
    let bytes = export.map_or(&b""[..], |export| &export.bytes);
    schema::refuses_what_it_forbids(&subject.schema, ADVICE, |options| {
        let mut attempt = subject.on(subject.name(), bytes);
        attempt.options = options;
        match attempt.run(subject.plugin).summary {
            Err(ConvertError::InvalidOptions(_)) => Taken::Refused,
            Ok(_) => Taken::Accepted,
            Err(error) => Taken::Failed(error.to_string()),
        }
    })
}

fn detects(subject: &Subject) -> Ruling {
    const ADVICE: &str = "`detect` looks at the bytes it gets, which may be none, and says from 0 to 100 how sure it \
         is, the same each time";
    let noise = damage::hostile();
    let hostile = noise.iter().map(|(name, bytes)| (*name, bytes.as_slice()));
    let export = subject.with.export.as_ref();
    let own = export.map(|export| (export.name.as_str(), export.bytes.as_slice()));
    let heads = OTHER_FORMATS.into_iter().chain(hostile).chain(own);
    let mut tried = 0;
    for (name, bytes) in heads.chain([("", &b""[..])]) {
        let head = &bytes[..bytes.len().min(DETECT_BYTES)];
        let ask = || {
            let sure = subject.plugin.sure_of(head, name);
            sure.map_err(|e| {
                Broken::new(
                    format!("asked about {name:?}, `detect` failed: {e}"),
                    ADVICE,
                )
            })
        };
        let sure = ask()?;
        if sure > 100 {
            return Err(Broken::new(
                format!("it is {sure} of 100 sure of {name:?}"),
                ADVICE,
            ));
        }
        if ask()? != sure {
            return Err(Broken::new(
                format!("asked twice about {name:?} it says two things"),
                ADVICE,
            ));
        }
        if own.is_some_and(|own| std::ptr::eq(own.1, bytes)) && sure == 0 {
            return Err(Broken::new(
                format!("it is sure that {name} is not its own, which it converts"),
                ADVICE,
            ));
        }
        tried += 1;
    }
    kept(format!("{tried} beginnings of files"))
}

fn empty(subject: &Subject) -> Ruling {
    let outcome = subject.run(subject.name(), b"");
    sound(&outcome, "an empty export")?;
    if !outcome.samples.is_empty() {
        let advice =
            "an export without a byte has no samples; return a summary of zeros, or invalid-input";
        return Err(Broken::new("it makes samples of nothing", advice));
    }
    kept(ending(&outcome))
}

fn other_formats(subject: &Subject) -> Ruling {
    for (name, bytes) in OTHER_FORMATS {
        sound(
            &subject.run(name, bytes),
            &format!("{name}, which is of another format,"),
        )?;
    }
    kept(format!("{} files", OTHER_FORMATS.len()))
}

fn hostile(subject: &Subject) -> Ruling {
    let inputs = damage::hostile();
    for (name, bytes) in &inputs {
        sound(&subject.run(subject.name(), bytes), name)?;
    }
    kept(format!("{} inputs", inputs.len()))
}

fn converts(subject: &Subject) -> Ruling {
    const ADVICE: &str = "the export given with --with should be one that it reads; every sample has an id and turns, \
         and the last turn is the assistant's";
    let Some(export) = &subject.with.export else {
        return Ok(Verdict::NotAsked { why: NO_EXPORT });
    };
    let outcome = subject.run(&export.name, &export.bytes);
    sound(&outcome, &export.name)?;
    let summary = outcome.summary.as_ref();
    let summary = summary
        .map_err(|e| Broken::new(format!("it does not read {}: {e}", export.name), ADVICE))?;
    if outcome.samples.is_empty() {
        return Err(Broken::new(
            format!("it finds no sample in {}", export.name),
            ADVICE,
        ));
    }
    for sample in &outcome.samples {
        if sample.id.is_empty() || sample.turns.is_empty() {
            let what = format!("sample {:?} has {} turns", sample.id, sample.turns.len());
            return Err(Broken::new(what, ADVICE));
        }
    }
    let (records, samples, skipped) = (summary.records, summary.samples, summary.skipped);
    if skipped > records {
        let advice =
            "`records` counts all records read, `skipped` those among them that gave no sample";
        return Err(Broken::new(
            format!("it skipped {skipped} of {records} records"),
            advice,
        ));
    }
    kept(format!(
        "{records} records, {samples} samples, {skipped} skipped"
    ))
}

fn default_options(subject: &Subject, export: &Export) -> Ruling {
    const ADVICE: &str = "an option that is left out and one that is given with the default of the schema mean the \
         same";
    let defaults = schema::defaults(&subject.schema);
    let run = |options: &str| {
        let mut attempt = subject.on(&export.name, &export.bytes);
        attempt.options = options;
        attempt.run(subject.plugin)
    };
    let (without, with) = (run("{}"), run(&defaults));
    if difference(&without, &with).is_some() {
        return Err(Broken::new(
            format!("{defaults} gives something else than no options"),
            ADVICE,
        ));
    }
    kept(defaults)
}

fn same_again(subject: &Subject, export: &Export) -> Ruling {
    const ADVICE: &str = "what a converter makes depends on the bytes of the export alone: not on how many of them a \
         read gives (it may be one), not on whether the size is known, not on the order of a hash map";
    let whole = subject.run(&export.name, &export.bytes);
    // One byte at a time is slow; it is enough to see a beginning of a large export so.
    let head = &export.bytes[..export.bytes.len().min(32 << 10)];
    let short = subject.run(&export.name, head);
    for (bytes, expected, step, pipe) in [
        (&export.bytes[..], &whole, usize::MAX, false),
        (&export.bytes[..], &whole, 4096, true),
        (head, &short, 7, true),
        (head, &short, 1, false),
    ] {
        let mut attempt = subject.on(&export.name, bytes);
        attempt.arrival = Arrival {
            step,
            pipe,
            breaks_at: None,
        };
        if let Some(what) = difference(expected, &attempt.run(subject.plugin)) {
            let how = match (step, pipe) {
                (usize::MAX, _) => "the second time".to_owned(),
                (step, true) => format!("{step} bytes at a time and from a pipe"),
                (step, false) => format!("{step} bytes at a time"),
            };
            return Err(Broken::new(format!("{how}, {what}"), ADVICE));
        }
    }
    kept("whole, 4096, 7 and 1 bytes at a time, file and pipe")
}

fn cut(subject: &Subject, export: &Export) -> Ruling {
    let cuts = damage::cuts(export.bytes.len());
    for &at in &cuts {
        let outcome = subject.run(&export.name, &export.bytes[..at]);
        sound(&outcome, &format!("the export cut at byte {at}"))?;
    }
    kept(match cuts.len() == export.bytes.len() {
        true => format!("at each of {} bytes", cuts.len()),
        false => format!("at {} of {} bytes", cuts.len(), export.bytes.len()),
    })
}

fn damaged(subject: &Subject, export: &Export) -> Ruling {
    for round in 0..DAMAGED {
        let bytes = damage::damaged(&export.bytes, round);
        let outcome = subject.run(&export.name, &bytes);
        sound(&outcome, &format!("damaged export number {round}"))?;
    }
    kept(format!("{DAMAGED} exports"))
}

fn progress(subject: &Subject, export: &Export) -> Ruling {
    const ADVICE: &str = "call checkpoint(done, total) for every record, with the bytes behind you and the size of \
         the source: without it there is no progress to see, and the user cannot stop the conversion";
    let outcome = subject.run(&export.name, &export.bytes);
    if outcome.checkpoints == 0 {
        return Err(Broken::new("it never calls checkpoint", ADVICE));
    }
    if let Some(odd) = outcome.odd_progress {
        return Err(Broken::new(odd, ADVICE));
    }
    kept(format!("{} checkpoints", outcome.checkpoints))
}

fn stops(subject: &Subject, export: &Export) -> Ruling {
    const ADVICE: &str =
        "when checkpoint returns the error `cancelled`, return that error unchanged and at once";
    let all = subject.run(&export.name, &export.bytes).checkpoints;
    if all == 0 {
        return Err(Broken::new(
            "it cannot be stopped: it never calls checkpoint",
            ADVICE,
        ));
    }
    for at in [1, 2, all] {
        let mut attempt = subject.on(&export.name, &export.bytes);
        attempt.cancel_at = Some(at.min(all));
        let outcome = attempt.run(subject.plugin);
        // With the flag down, this is what the host says of a plugin that returned `cancelled`.
        if !matches!(&outcome.summary, Err(ConvertError::Internal(why)) if why == UNASKED) {
            let what = format!("told to stop at checkpoint {at} it {}", ending(&outcome));
            return Err(Broken::new(what, ADVICE));
        }
        if outcome.checkpoints > at.min(all) {
            let what = format!(
                "told to stop at checkpoint {at} it went on to {}",
                outcome.checkpoints
            );
            return Err(Broken::new(what, ADVICE));
        }
    }
    kept("at the first, the second and the last checkpoint")
}

fn full_disk(subject: &Subject, export: &Export) -> Ruling {
    const ADVICE: &str = "emit samples as you find them and return the error of `emit` unchanged; whoever writes \
         them makes you wait, and may refuse";
    for room in [0, 1] {
        let mut attempt = subject.on(&export.name, &export.bytes);
        attempt.room = room;
        let outcome = attempt.run(subject.plugin);
        let told = matches!(&outcome.summary, Err(error) if error.to_string() == DISK_FULL);
        if outcome.refused == 0 && outcome.summary.is_ok() {
            // It has no more samples than there was room for.
            continue;
        }
        if !told || outcome.refused > 1 {
            let what = format!(
                "refused a sample, it offered {} and {}",
                outcome.refused,
                ending(&outcome)
            );
            return Err(Broken::new(what, ADVICE));
        }
    }
    kept("no room, and room for one sample")
}

fn unreadable(subject: &Subject, export: &Export) -> Ruling {
    const ADVICE: &str = "return the error of `read` unchanged: half an export is no whole one";
    let half = (export.bytes.len() / 2).max(1);
    let mut attempt = subject.on(&export.name, &export.bytes);
    attempt.arrival = Arrival {
        step: half,
        pipe: false,
        breaks_at: Some(half),
    };
    let outcome = attempt.run(subject.plugin);
    match &outcome.summary {
        Err(error) if error.to_string().contains(DISK_GONE) => kept("a disk that fails half-way"),
        _ => {
            let what = format!("the disk failed half-way, and it {}", ending(&outcome));
            Err(Broken::new(what, ADVICE))
        }
    }
}

/// What any conversion must be, whatever it is of: samples, or an error that says what is wrong and where.
fn sound(outcome: &Outcome, of: &str) -> Result<(), Broken> {
    match &outcome.summary {
        Ok(summary) => {
            if summary.skipped > 0 && outcome.remarks.is_empty() {
                let advice = "report a warning for every record that gives no sample: else data vanishes unseen";
                let what = format!(
                    "of {of} it skipped {} records and says nothing",
                    summary.skipped
                );
                return Err(Broken::new(what, advice));
            }
        }
        Err(ConvertError::InvalidInput(fault)) => told(fault, of)?,
        Err(ConvertError::Plugin(error)) => {
            let advice = "check every length and every value of the input before you use it; what you cannot read is \
                 invalid-input with a place, or a warning and the next record";
            return Err(Broken::new(format!("on {of}: {error}"), advice));
        }
        Err(ConvertError::InvalidOptions(why)) => {
            let advice = "options that an export needs are given with --option KEY=VALUE; a plugin that works without is \
                 friendlier";
            return Err(Broken::new(
                format!("on {of} it wants other options: {why}"),
                advice,
            ));
        }
        Err(
            ConvertError::NotFound(_)
            | ConvertError::Denied(_)
            | ConvertError::Unsupported(_)
            | ConvertError::LimitExceeded(_),
        ) => {}
        Err(error) => {
            let advice = "what is wrong with an export is the error invalid-input, with a code, a message and a place; \
                 `internal` is for what you did not think of";
            return Err(Broken::new(format!("on {of} it says: {error}"), advice));
        }
    }
    outcome
        .remarks
        .iter()
        .try_for_each(|remark| match remark.at {
            // What graft adds to sum up others has no place.
            None if remark.message.starts_with("and ") => Ok(()),
            _ => told(remark, of),
        })
}

/// Whether a remark helps: it has a code that can be filtered by, a message and a place.
fn told(remark: &Diagnostic, of: &str) -> Result<(), Broken> {
    const ADVICE: &str = "a remark has a code in kebab case that stays the same over versions, a sentence for people, \
         and the place it is about: source, and line, byte or record";
    let code = &remark.code;
    let what = if !is_kebab(code) {
        format!(
            "on {of} it remarks {:?} with the code {code:?}",
            remark.message
        )
    } else if remark.message.trim().is_empty() {
        format!("on {of} it remarks [{code}] without a message")
    } else if remark.at.is_none() {
        format!(
            "on {of} it remarks [{code}] without a place: {}",
            remark.message
        )
    } else {
        return Ok(());
    };
    Err(Broken::new(what, ADVICE))
}

/// How two conversions of the same differ.
fn difference(a: &Outcome, b: &Outcome) -> Option<String> {
    let said = |outcome: &Outcome| {
        outcome
            .summary
            .as_ref()
            .map_err(ToString::to_string)
            .copied()
    };
    let (first, second) = (said(a), said(b));
    if first != second {
        return Some(format!("it {} where it {} before", ending(b), ending(a)));
    }
    if let Some((i, _)) = a
        .samples
        .iter()
        .zip(&b.samples)
        .enumerate()
        .find(|(_, (a, b))| a != b)
    {
        return Some(format!("sample {:?} is another one", a.samples[i].id));
    }
    if a.samples.len() != b.samples.len() {
        return Some(format!(
            "there are {} samples, not {}",
            b.samples.len(),
            a.samples.len()
        ));
    }
    (a.remarks != b.remarks).then(|| "it remarks something else".into())
}

/// How a conversion ended: `returns 3 samples`, `says: …`.
fn ending(outcome: &Outcome) -> String {
    match &outcome.summary {
        Ok(summary) => format!(
            "returns {} samples of {} records",
            summary.samples, summary.records
        ),
        Err(error) => format!("says: {error}"),
    }
}
