//! How soon a raised token ends a call that reads or writes files.

use std::ffi::{CString, c_void};
use std::fmt::Write;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use graft::model::{Model, ModelOptions, SiteKind};
use graft_benches::random_adapter::Recipe;

use crate::c_functions::*;
use crate::c_struct::{Struct, address};

/// At so many moments of a call its token is raised.
const MOMENTS: u32 = 12;
const CANCELLED: Status = -6;
/// Width, width inside the MLP, layers and vocabulary of the checkpoint that is imported: 0.54 GB in BF16.
const CHECKPOINT: [usize; 4] = [1024, 2816, 16, 32000];
/// Conversations of the export that is converted.
const CONVERSATIONS: usize = 200_000;

/// Runs a call to its end, then again with its token raised at moments from its beginning to its end, and prints how
/// long it took to return then at most.
pub fn print(name: &str, call: impl Fn(Object) -> Status) {
    let begun = Instant::now();
    let status = call(0);
    assert!(status >= 0, "{name}: {status}");
    let whole = begun.elapsed();
    let mut latest = Vec::new();
    for moment in 0..MOMENTS {
        let mut cancel = 0;
        assert_eq!(graft_cancel_create(&mut cancel), 0);
        let raised = thread::spawn(move || {
            thread::sleep(whole * moment / MOMENTS + Duration::from_micros(200));
            graft_cancel_signal(cancel);
            Instant::now()
        });
        let status = call(cancel);
        let ended = Instant::now();
        let raised = raised.join().expect("a thread that only sleeps");
        if status == CANCELLED {
            latest.push(ended.saturating_duration_since(raised).as_secs_f64());
        }
        graft_cancel_release(cancel);
    }
    let worst = latest.iter().copied().fold(0.0, f64::max);
    println!(
        "cancel       {name} ({:.0} ms whole): {} of {MOMENTS} calls were stopped, at most {:.1} ms after the token was raised",
        whole.as_secs_f64() * 1e3,
        latest.len(),
        worst * 1e3
    );
}

/// A path, and where C finds it.
struct CPath(CString);

impl CPath {
    fn new(path: &Path) -> Result<Self, std::ffi::NulError> {
        CString::new(path.display().to_string()).map(Self)
    }

    fn at(&self) -> Address {
        self.0.as_ptr().expose_provenance()
    }
}

extern "C" fn read(userdata: *mut c_void, offset: u64, buffer: *mut c_void, length: usize) -> i32 {
    // SAFETY: given with these bytes, which outlive the call.
    let bytes = unsafe { &*userdata.cast::<Vec<u8>>() };
    let Some(bytes) = bytes.get(offset as usize..).and_then(|b| b.get(..length)) else {
        return 1;
    };
    // SAFETY: the library gives a buffer of that length.
    unsafe {
        buffer
            .cast::<u8>()
            .copy_from_nonoverlapping(bytes.as_ptr(), length)
    };
    0
}

/// Writes a checkpoint as Hugging Face's of LLaMA are; its weights are zeros.
fn write_checkpoint(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir(folder)?;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/convert_hf/tied");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(golden.join(name), folder.join(name))?;
    }
    let [width, inner, layers, vocabulary] = CHECKPOINT;
    let config = format!(
        r#"{{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":{width},
            "intermediate_size":{inner},"num_hidden_layers":{layers},"num_attention_heads":16,
            "num_key_value_heads":16,"vocab_size":{vocabulary},"rms_norm_eps":1e-5,"rope_theta":10000.0,
            "max_position_embeddings":2048,"tie_word_embeddings":false,"torch_dtype":"bfloat16"}}"#
    );
    std::fs::write(folder.join("config.json"), config)?;
    let mut tensors = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            vec![vocabulary, width],
        ),
        ("lm_head.weight".to_owned(), vec![vocabulary, width]),
        ("model.norm.weight".to_owned(), vec![width]),
    ];
    for layer in 0..layers {
        let mut add = |name: &str, shape: &[usize]| {
            tensors.push((
                format!("model.layers.{layer}.{name}.weight"),
                shape.to_vec(),
            ));
        };
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&format!("self_attn.{name}"), &[width, width]);
        }
        add("mlp.gate_proj", &[inner, width]);
        add("mlp.up_proj", &[inner, width]);
        add("mlp.down_proj", &[width, inner]);
        add("input_layernorm", &[width]);
        add("post_attention_layernorm", &[width]);
    }
    let (mut header, mut end) = (String::from("{"), 0);
    for (name, shape) in &tensors {
        let comma = if end > 0 { "," } else { "" };
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        let _ = write!(
            header,
            r#"{comma}"{name}":{{"dtype":"BF16","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#
        );
    }
    header.push('}');
    let mut file = std::fs::File::create(folder.join("model.safetensors"))?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    file.set_len((8 + header.len() + end) as u64)
}

/// Loads, quantizes, imports, merges, compares, compresses and converts.
///
/// # Errors
/// If the disk refuses.
pub fn of_files(path: &Path, model: Object) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir_in(path.parent().unwrap_or(Path::new(".")))?;
    let base = CPath::new(path)?;
    let output = CPath::new(&folder.path().join("output.gguf"))?;

    let bytes = std::fs::read(path)?;
    let read: extern "C" fn(_, _, _, _) -> _ = read;
    print("a load through a reader", |cancel| {
        let source = Struct::new("graft_source")
            .set("kind", 3)
            .set("read", read as usize as u64)
            .set("userdata", address(&raw const bytes))
            .set("length", bytes.len() as u64);
        let options = Struct::new("graft_model_options").set("cancel", cancel as u64);
        let mut opened = 0;
        let status = graft_model_open_source(0, source.at(), options.at(), &mut opened, 0);
        graft_model_release(opened);
        status
    });
    drop(bytes);

    let kind = c"Q8_0".as_ptr().expose_provenance();
    print("a model quantized to Q8_0", |cancel| {
        let options = Struct::new("graft_write_options")
            .set("flags", 1)
            .set("cancel", cancel as u64);
        graft_gguf_quantize(base.at(), output.at(), kind, options.at(), 0, 0)
    });

    let checkpoint = folder.path().join("checkpoint");
    write_checkpoint(&checkpoint)?;
    let (checkpoint, kind) = (CPath::new(&checkpoint)?, c"F16".as_ptr());
    print("a checkpoint of 0.54 GB imported", |cancel| {
        let options = Struct::new("graft_write_options").set("cancel", cancel as u64);
        let (kind, at) = (kind.expose_provenance(), options.at());
        graft_gguf_import(checkpoint.at(), output.at(), 0, kind, 0, at, 0, 0)
    });

    let recipe = Recipe {
        rank: 64,
        kinds: &SiteKind::ALL,
    };
    let saved = folder.path().join("adapter.gguf");
    recipe.write(&saved, &*Model::open(path, &ModelOptions::default())?, 1)?;
    let (saved, mut adapter) = (CPath::new(&saved)?, 0);
    assert_eq!(graft_adapter_open(model, saved.at(), &mut adapter, 0), 0);
    print("an adapter merged", |cancel| {
        let binding = Struct::new("graft_adapter_binding")
            .set("strength", 1.0_f32.to_bits().into())
            .set("adapter", adapter as u64);
        let options = Struct::new("graft_merge_options").set("cancel", cancel as u64);
        graft_adapter_merge(base.at(), binding.at(), 1, output.at(), options.at(), 0, 0)
    });
    print("an adapter of rank 64 compressed to 8", |cancel| {
        let options = Struct::new("graft_compress_options")
            .set("rank", 8)
            .set("cancel", cancel as u64);
        let mut smaller = 0;
        let status = graft_adapter_compress(0, adapter, options.at(), &mut smaller, 0, 0);
        graft_adapter_release(smaller);
        status
    });
    graft_adapter_release(adapter);
    print("two models compared", |cancel| {
        let options = Struct::new("graft_difference_options")
            .set("rank", 8)
            .set("cancel", cancel as u64);
        let (mut found, at) = (0, options.at());
        let status = graft_adapter_difference(base.at(), output.at(), at, &mut found, 0, 0);
        graft_adapter_release(found);
        status
    });

    let mut export = String::new();
    for n in 0..CONVERSATIONS {
        writeln!(
            export,
            r#"{{"messages":[{{"role":"user","content":"What is the number {n}?"}},{{"role":"assistant","content":"It is the one behind {}."}}]}}"#,
            n.wrapping_sub(1)
        )?;
    }
    let (name, mut plugin) = (c"openai-chat".as_ptr().expose_provenance(), 0);
    assert_eq!(graft_plugin_load(0, name, 0, &mut plugin, 0), 0);
    let converted = CPath::new(&folder.path().join("train.json"))?;
    print("an export of 200,000 conversations converted", |cancel| {
        let source = Struct::new("graft_source")
            .set("kind", 2)
            .set("data", address(export.as_ptr()))
            .set("length", export.len() as u64);
        let request = Struct::new("graft_convert_request")
            .set("input", source.at() as u64)
            .set("output_path", address(converted.0.as_ptr()))
            .set("cancel", cancel as u64);
        graft_plugin_convert(plugin, request.at(), 0, 0)
    });
    graft_plugin_release(plugin);
    Ok(())
}
