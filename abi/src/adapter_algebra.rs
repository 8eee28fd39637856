//! What adapters become: sums, smaller ranks, other strengths, parts of a model; and what two models differ by.

use std::path::Path;
use std::sync::Arc;

use graft::adapter::{
    Adapter, Attached, Compressed, Difference, DifferenceOptions, Keep, MergeOptions, MergeReport,
    combine, compress, difference, merge,
};
use graft::quantize::{self, Mix};
use serde_json::{Value as Json, json};

use crate::adapter::{AdapterObject, bindings, graft_adapter_binding};
use crate::buffer::{self, Buffer};
use crate::call::{self, DONE};
use crate::callback::{Progress, UserData, graft_progress_fn};
use crate::cancel::CancelToken;
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::Handle;
use crate::pointer::{In, Out, Text};
use crate::runtime::Runtime;
use crate::status::graft_status;
use crate::structs::c_struct;

c_struct! {
    /// How much of an adapter to keep.
    graft_compress_options {
        /// At most this rank; 0 for any.
        rank: u32,
        /// The share of the squared norm to keep at each place; 0 for none in particular.
        energy: f64,
        /// Stops the work; NULL for nothing.
        cancel: CancelToken,
    }
}

c_struct! {
    /// How to look for what two models differ by.
    graft_difference_options {
        /// The most rank of a place.
        rank: u32,
        /// Worker threads; 0 for one per core.
        n_threads: u32,
        /// Zero.
        reserved_0: u32,
        /// Told after every place.
        progress: graft_progress_fn,
        /// First argument of `progress`.
        progress_userdata: UserData,
        /// Stops the work; NULL for nothing.
        cancel: CancelToken,
    }
}

c_struct! {
    /// How to merge.
    graft_merge_options {
        /// Worker threads; 0 for one per core.
        n_threads: u32,
        /// "Q4_K_M", "Q8_0", …; NULL keeps every tensor's own.
        quant_type: Text,
        /// The vision half; NULL for none.
        projector_path: Text,
        /// Where the vision half goes.
        projector_output: Text,
        /// Told after every tensor.
        progress: graft_progress_fn,
        /// First argument of `progress`.
        progress_userdata: UserData,
        /// Stops the work; NULL for nothing.
        cancel: CancelToken,
    }
}

/// Gives an adapter, and a report if it is wanted.
fn give(
    out: &Out<Handle<AdapterObject>>,
    adapter: Adapter,
    report: Option<(&Out<Handle<Buffer>>, Json)>,
) -> Result<(), Fault> {
    // The buffer first: should the second find no room, the first is taken back.
    let adapter = Handle::new(AdapterObject::new(Arc::new(adapter)))?;
    if let Some((place, document)) = report
        && let Err(fault) = give_report(place, &document)
    {
        adapter.release()?;
        return Err(fault);
    }
    out.set(adapter);
    Ok(())
}

fn give_report(out: &Out<Handle<Buffer>>, document: &Json) -> Result<(), Fault> {
    match out.check("report") {
        Ok(()) => out.give(buffer::json(document)),
        // Nobody wants it.
        Err(_) => Ok(()),
    }
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_combine(
    adapters: In<graft_adapter_binding>,
    n_adapters: usize,
    name: Text,
    out: Out<Handle<AdapterObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_combine", err, || {
        out.check("out")?;
        let parts = bindings(&adapters, n_adapters)?;
        let parts: Vec<(&Adapter, f32)> = parts
            .iter()
            .map(|(adapter, weight)| (adapter.adapter(), *weight))
            .collect();
        let sum = combine("sum", &parts)?.renamed(name.required("name")?)?;
        give(&out, sum, None)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_compress(
    runtime: Handle<Runtime>,
    adapter: Handle<AdapterObject>,
    options: In<graft_compress_options>,
    out: Out<Handle<AdapterObject>>,
    report: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_compress", err, || {
        out.check("out")?;
        let (runtime, adapter) = (Runtime::of(runtime)?, adapter.get()?);
        let options = options.required("options")?;
        let keep = match (options.rank, options.energy) {
            (0, 0.0) => return Err(Fault::argument("give a rank or an energy to keep")),
            (0, share) => Keep::Energy(share),
            (rank, 0.0) => Keep::Rank(rank as usize),
            _ => return Err(Fault::argument("rank and energy exclude each other")),
        };
        let cancel = options.cancel.flag()?;
        let found = compress(adapter.adapter(), keep, runtime.pool(), &cancel)?;
        let document = compressed(&found);
        give(&out, found.adapter, Some((&report, document)))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_scale(
    adapter: Handle<AdapterObject>,
    factor: f32,
    out: Out<Handle<AdapterObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_scale", err, || {
        out.check("out")?;
        let adapter = adapter.get()?.adapter().clone();
        give(&out, adapter.scaled(factor)?, None)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_rename(
    adapter: Handle<AdapterObject>,
    name: Text,
    out: Out<Handle<AdapterObject>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_rename", err, || {
        out.check("out")?;
        let adapter = adapter.get()?.adapter().clone();
        give(&out, adapter.renamed(name.required("name")?)?, None)?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_difference(
    base_path: Text,
    tuned_path: Text,
    options: In<graft_difference_options>,
    out: Out<Handle<AdapterObject>>,
    report: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_difference", err, || {
        out.check("out")?;
        let (base, tuned) = (base_path.path("base_path")?, tuned_path.path("tuned_path")?);
        let options = options.required("options")?;
        let cancel = options.cancel.flag()?;
        let progress = Progress::new(options.progress, options.progress_userdata);
        let tell = |done: quantize::Progress<'_>| {
            progress.tell(c"comparing", done.weights, done.of, &cancel);
        };
        let options = DifferenceOptions {
            rank: options.rank as usize,
            threads: options.n_threads as usize,
            progress: Some(&tell),
            cancel: Some(&cancel),
        };
        let found = difference(base, tuned, &options)?;
        let document = differing(&found);
        give(&out, found.adapter, Some((&report, document)))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_adapter_merge(
    base_path: Text,
    adapters: In<graft_adapter_binding>,
    n_adapters: usize,
    output_path: Text,
    options: In<graft_merge_options>,
    report: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_adapter_merge", err, || {
        let base = base_path.path("base_path")?;
        let output = output_path.path("output_path")?;
        let options = options.read()?;
        let adapters = bindings(&adapters, n_adapters)?;
        let engine = adapters
            .iter()
            .map(|(adapter, strength)| (adapter.shared(), *strength));
        let attached = Attached::new(engine);
        if attached.is_empty() {
            return Err(Fault::argument(
                "there is nothing to merge; give an adapter with a strength other than 0",
            ));
        }
        let cancel = options.cancel.flag()?;
        let progress = Progress::new(options.progress, options.progress_userdata);
        let tell = |done: quantize::Progress<'_>| {
            progress.tell(c"merging", done.weights, done.of, &cancel);
        };
        let found = merge(
            base,
            &attached,
            output,
            &MergeOptions {
                mix: options.mix()?,
                threads: options.n_threads as usize,
                progress: Some(&tell),
                cancel: Some(&cancel),
                vision: options.vision()?,
            },
        )?;
        give_report(&report, &merged(&found))?;
        DONE
    })
}

impl graft_merge_options {
    fn mix(&self) -> Result<Option<Mix>, Fault> {
        let name = self.quant_type.optional("quant_type")?;
        Ok(name.map(str::parse).transpose()?)
    }

    fn vision(&self) -> Result<Option<(&Path, &Path)>, Fault> {
        let from = self.projector_path.optional_path("projector_path")?;
        let to = self.projector_output.optional_path("projector_output")?;
        match from.is_some() == to.is_some() {
            true => Ok(from.zip(to)),
            false => Err(Fault::argument(
                "projector_path and projector_output belong together; give both",
            )),
        }
    }
}

fn compressed(found: &Compressed) -> Json {
    let sites = found.sites.iter().map(|report| {
        json!({
            "site": report.site.to_string(), "rank_before": report.rank_before,
            "rank": report.rank, "norm": report.norm, "left_out": report.cut,
        })
    });
    json!({"left_out": found.relative(), "sites": sites.collect::<Vec<_>>()})
}

fn differing(found: &Difference) -> Json {
    let sites = found.sites.iter().map(|report| {
        json!({
            "site": report.site.to_string(), "rank": report.rank, "weights": report.weights,
            "difference": report.difference, "left_out": report.left_out,
        })
    });
    // JSON has no infinity; a tensor that was all zeros has no relative change either.
    let outside = found.outside.iter();
    let outside = outside.map(|tensor| json!({"tensor": tensor.name, "change": tensor.change}));
    json!({
        "left_out": found.relative(),
        "sites": sites.collect::<Vec<_>>(),
        "outside": outside.collect::<Vec<_>>(),
    })
}

fn merged(found: &MergeReport) -> Json {
    let sites = found.sites.iter().map(|merged| {
        json!({
            "site": merged.site.to_string(), "type": merged.stored.to.name(),
            "added_rms": merged.added_rms, "rounding_rms": merged.stored.error.rms,
            "kept": merged.kept,
        })
    });
    json!({
        "bytes_before": found.bytes_before,
        "bytes_after": found.bytes_after,
        "sites": sites.collect::<Vec<_>>(),
    })
}
