//! How fast the sandbox is: an export of gigabytes through the shipped `ubiai`, the first sample of a
//! plugin that was compiled before, and a data set of answers through `exact-match`.
//!
//! `bench-plugins [MiB of the export, 2048] [another build of ubiai]`. The export is written to a
//! temporary file, once of text alone, once naming images that lie beside it; samples are counted and
//! dropped. The targets are in brackets.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use graft::cancel::Cancel;
use graft::dataset::assets::{AssetFolder, FileSource, ImageHeader};
use graft::dataset::converter::LogLevel;
use graft::dataset::{
    ConvertError, ConvertHost, Converter, Diagnostic, Role, Sample, SampleSink, Source, Turn,
};
use graft::evaluate::{Prediction, Remarks, Scorer};
use graft_benches::{peak_resident_mib, resident_mib};
use graft_plugins::{Cache, Grants, Host, Limits};

/// Images beside the export; documents share them.
const IMAGES: usize = 100;
const ANSWERS: usize = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mib: u64 = arguments.next().map_or(Ok(2048), |n| n.parse())?;
    let plugin = arguments.next().unwrap_or("ubiai".into());
    let plugin = Path::new(&plugin);
    let folder = tempfile::tempdir()?;
    let picture = include_bytes!("../tests/golden/plugins/csv/images/bus.png");
    for image in 0..IMAGES {
        std::fs::write(folder.path().join(format!("form-{image}.png")), picture)?;
    }
    let cache = folder.path().join("cache");
    let host = Host::new(Limits::default(), Some(Cache::at(&cache)))?;
    let begun = Instant::now();
    host.load(plugin, &Grants::default())?;
    println!("compiled in {:.1} ms", millis(begun));
    first_sample(plugin, &cache, &folder.path().join("small.json"))?;
    let export = folder.path().join("export.json");
    for (images, what) in [(false, "text alone"), (true, "text and images")] {
        write_export(&export, mib << 20, images)?;
        let before = resident_mib();
        let converter = host.load(plugin, &Grants::default())?.into_converter()?;
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        let (samples, bytes) = convert(&converter, &export)?;
        let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let mb = bytes as f64 / 1e6;
        println!(
            "{what}: {mb:.0} MB, {samples} samples of {} bytes in {seconds:.2} s, {:.1} MB/s; \
             {cpu:.2} s of processors, {:.1} MB/s of one [150]; \
             {:.1} MiB resident at most [96], {before:.1} before",
            bytes / samples.max(1),
            mb / seconds,
            mb / cpu,
            peak_resident_mib(),
        );
    }
    score(&host)
}

/// Seconds of processors that this process has used, its threads and its calls of the system included;
/// NaN where the system does not say.
fn cpu_seconds() -> f64 {
    /// Of `/proc`, on every Linux.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: Vec<f64> = fields
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse().ok())
        .collect();
    match ticks.as_slice() {
        [user, system] => (user + system) / TICKS,
        _ => f64::NAN,
    }
}

/// From nothing to the first sample, with the plugin in the cache.
fn first_sample(
    plugin: &Path,
    cache: &Path,
    export: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    write_export(export, 1, true)?;
    let mut took: Vec<f64> = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        let host = Host::new(Limits::default(), Some(Cache::at(cache)))?;
        let converter = host.load(plugin, &Grants::default())?.into_converter()?;
        let (samples, _) = convert(&converter, export)?;
        took.push(millis(begun));
        assert_eq!(samples, 1);
    }
    took.sort_by(f64::total_cmp);
    println!(
        "first sample from a cached plugin {:>9.2} ms [10], at most {:.2} ms",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    Ok(())
}

/// Samples and bytes of the export.
fn convert(converter: &dyn Converter, export: &Path) -> Result<(u64, u64), ConvertError> {
    let assets = export.parent().expect("a folder");
    let mut source = FileSource::open(export)?;
    let bytes = source.size().unwrap_or_default();
    let mut counter = Counter(0);
    let desk = Desk {
        assets: AssetFolder::new(assets),
        remarks: Cell::new(0),
    };
    let summary = converter.convert(&mut source, &mut counter, "{}", &desk)?;
    assert_eq!((summary.samples, desk.remarks.get()), (counter.0, 0));
    Ok((counter.0, bytes))
}

fn score(host: &Host) -> Result<(), Box<dyn std::error::Error>> {
    let plugin = host.load(Path::new("exact-match"), &Grants::default())?;
    let evaluator = plugin.into_evaluator()?;
    let question = Turn::text(Role::User, "What is the total on this invoice?");
    let begun = Instant::now();
    let mut run = Scorer::start(&evaluator, "{}", 0, Arc::new(Remarks::default()))?;
    for i in 0..ANSWERS {
        let sample = Sample {
            id: i.to_string(),
            turns: vec![
                question.clone(),
                Turn::text(Role::Assistant, format!("{i}.00 EUR")),
            ],
            ..Sample::default()
        };
        let said = Prediction {
            text: format!("{}.00 eur", i - i % 2),
            ..Prediction::default()
        };
        run.score(&sample, &said)?;
    }
    let totals = run.finish()?;
    println!(
        "score {ANSWERS} answers {:.2} s [5], accuracy {}",
        millis(begun) / 1e3,
        totals[0].value
    );
    Ok(())
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

/// Writes documents until the file has `bytes` of them: forms of eight questions, written as UBIAI
/// writes them, with a box for every span.
fn write_export(path: &Path, bytes: u64, images: bool) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut written = 0;
    let mut index = 0;
    out.write_all(b"[")?;
    while written < bytes {
        let document = document(index, images);
        if index > 0 {
            out.write_all(b",\n")?;
        }
        out.write_all(document.as_bytes())?;
        written += document.len() as u64 + 2;
        index += 1;
    }
    out.write_all(b"]\n")?;
    out.flush()
}

fn document(index: usize, images: bool) -> String {
    const FIELDS: [(&str, &str); 8] = [
        ("Invoice number:", "INV-2024-000"),
        ("Date of issue:", "14 March 2024"),
        (
            "Billed to:",
            "ACME Corporation, 12 Long Street, Springfield",
        ),
        ("Payment is due by:", "13 April 2024, 30 days after issue"),
        ("Amount before tax:", "1,284.50 EUR"),
        ("Tax (19 %):", "244.06 EUR"),
        ("Total:", "1,528.56 EUR"),
        (
            "Remarks:",
            "Goods remain our property until they are paid in full — “Größe 42”",
        ),
    ];
    let (mut text, mut tokens, mut relations) = (String::new(), Vec::new(), Vec::new());
    let mut token = 0;
    let mut characters = 0;
    for (row, (question, answer)) in FIELDS.iter().enumerate() {
        let answer = format!("{answer} ({})", index + row);
        let first = token;
        for (label, words) in [("QUESTION", *question), ("ANSWER", answer.as_str())] {
            let (length, count) = (words.chars().count(), words.split(' ').count());
            let (top, left) = (40 + row * 30, 20 + 180 * usize::from(label == "ANSWER"));
            tokens.push(format!(
                r#"{{"text":"{words}","start":{characters},"end":{},"token_start":{token},"token_end":{},"entityLabel":"{label}","page":1,"boundingBox":{{"x0":{left},"y0":{top},"x1":{},"y1":{}}}}}"#,
                characters + length,
                token + count - 1,
                left + 150,
                top + 20,
            ));
            if label == "ANSWER" {
                relations.push(format!(
                    r#"{{"head":{first},"child":{token},"relationLabel":"ANSWERED_BY"}}"#
                ));
            }
            text.push_str(words);
            text.push(' ');
            characters += length + 1;
            token += count;
        }
    }
    let pages = match images {
        true => format!(
            r#""invoice-{index}.pdf","pages":[{{"image":"form-{}.png"}}]"#,
            index % IMAGES
        ),
        false => format!(r#""invoice-{index}.txt""#),
    };
    format!(
        r#"{{"document":"{text}","documentName":{pages},"tokens":[{}],"relations":[{}]}}"#,
        tokens.join(","),
        relations.join(",")
    )
}

/// Takes samples and forgets them.
struct Counter(u64);

impl SampleSink for Counter {
    fn emit(&mut self, _: Sample) -> Result<(), ConvertError> {
        self.0 += 1;
        Ok(())
    }
}

struct Desk {
    assets: AssetFolder,
    remarks: Cell<u64>,
}

impl ConvertHost for Desk {
    fn cancel(&self) -> Cancel {
        Cancel::new()
    }
    fn checkpoint(&self, _: u64, _: Option<u64>) -> Result<(), ConvertError> {
        Ok(())
    }
    fn report(&self, _: Diagnostic) {
        self.remarks.set(self.remarks.get() + 1);
    }
    fn log(&self, _: LogLevel, _: &str) {}
    fn open_asset(&self, name: &str) -> Result<Box<dyn Source + Send>, ConvertError> {
        Ok(Box::new(self.assets.open(name)?))
    }
    fn probe_image(&self, name: &str) -> Result<ImageHeader, ConvertError> {
        self.assets.probe_image(name)
    }
    fn list_assets(
        &self,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<String>, ConvertError> {
        self.assets.list(prefix, after, max)
    }
}
