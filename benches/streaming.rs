//! How a model's layers come from the disk while the processor works on others: pages of the mapped file,
//! asked for and given back, beside reads past the system's cache into two buffers.
//!
//! `bench-streaming <file> <MiB per layer> <milliseconds of work per layer> [passes]`. "Work" looks at every byte
//! once and then waits. Run it with a limit below the file's size (`limited.sh`), so that nothing
//! stays in memory from pass to pass.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use memmap2::{Advice, Mmap, MmapMut, UncheckedAdvice};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().unwrap_or_else(|| panic!("{what}"));
    let path = next("a file");
    let layer: usize = next("MiB per layer").parse().expect("a number");
    let work: u64 = next("milliseconds").parse().expect("a number");
    let passes: usize = arguments.next().map_or(3, |n| n.parse().expect("passes"));
    let (path, layer, work) = (Path::new(&path), layer << 20, Duration::from_millis(work));
    let bytes = std::fs::metadata(path)?.len() as usize;
    let layers = bytes / layer;
    println!(
        "{layers} layers of {} MiB, {work:?} of work each",
        layer >> 20
    );
    for pass in 0..passes {
        for (name, way) in [
            ("mapped", mapped as fn(&Path, usize, usize, Duration) -> _),
            ("past the cache", direct),
        ] {
            let begun = Instant::now();
            let sum = way(path, layers, layer, work)?;
            let took = begun.elapsed().as_secs_f64();
            let rate = (layers * layer) as f64 / 1e9 / took;
            let wait = took - layers as f64 * work.as_secs_f64();
            println!(
                "pass {pass} {name:16} {took:6.2} s, {rate:5.2} GB/s, {wait:6.2} s beyond the work ({sum:x})"
            );
        }
    }
    Ok(())
}

/// Looks at every byte, then waits as long as the rest of the work takes.
fn work_on(layer: &[u8], work: Duration) -> u64 {
    let begun = Instant::now();
    let (words, _) = layer.as_chunks::<8>();
    let sum = words
        .iter()
        .fold(0, |sum, word| sum ^ u64::from_le_bytes(*word));
    std::thread::sleep(work.saturating_sub(begun.elapsed()));
    sum
}

#[allow(unsafe_code)] // mapping a file, and giving its pages back
fn mapped(path: &Path, layers: usize, layer: usize, work: Duration) -> std::io::Result<u64> {
    let file = File::open(path)?;
    // SAFETY: the map is read-only, and the file is the benchmark's own.
    let map = unsafe { Mmap::map(&file) }?;
    let mut sum = 0;
    for i in 0..layers {
        if i + 1 < layers {
            map.advise_range(Advice::WillNeed, (i + 1) * layer, layer)?;
        }
        sum ^= work_on(&map[i * layer..][..layer], work);
        // SAFETY: read-only pages of a file are read again when they are touched again.
        unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, i * layer, layer) }?;
    }
    Ok(sum)
}

/// A thread reads the next layer into one buffer while the other is worked on.
fn direct(path: &Path, layers: usize, layer: usize, work: Duration) -> std::io::Result<u64> {
    let mut file = past_the_cache(path)?;
    let (full, take) = sync_channel::<std::io::Result<MmapMut>>(1);
    let (empty, reuse) = sync_channel(2);
    for _ in 0..2 {
        // Pages are aligned as such reads ask for.
        empty.send(MmapMut::map_anon(layer)?).expect("room for two");
    }
    let reader = std::thread::spawn(move || {
        for i in 0..layers {
            let Ok(mut buffer) = reuse.recv() else { return };
            let read = file
                .seek(SeekFrom::Start((i * layer) as u64))
                .and_then(|_| file.read_exact(&mut buffer))
                .map(|()| buffer);
            if full.send(read).is_err() {
                return;
            }
        }
    });
    let mut sum = 0;
    for _ in 0..layers {
        let buffer = take.recv().expect("the reader sends every layer")?;
        sum ^= work_on(&buffer, work);
        let _ = empty.send(buffer);
    }
    reader.join().expect("the reader ends");
    Ok(sum)
}

#[cfg(target_os = "linux")]
fn past_the_cache(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // O_DIRECT, whose value depends on the processor.
    const DIRECT: i32 = if cfg!(target_arch = "aarch64") {
        0o200_000
    } else {
        0o40_000
    };
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(DIRECT).open(path)
}

#[cfg(not(target_os = "linux"))]
fn past_the_cache(path: &Path) -> std::io::Result<File> {
    File::open(path)
}
