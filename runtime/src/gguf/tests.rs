//! Round trips, and one hostile file per way to be wrong.

use graft_kernels::QuantType;

use super::*;

fn metadata() -> Metadata {
    [
        ("general.architecture", Value::String("llama".into())),
        ("a.u8", Value::U8(200)),
        ("a.i8", Value::I8(-3)),
        ("a.u16", Value::U16(65_000)),
        ("a.i16", Value::I16(-300)),
        ("a.u32", Value::U32(4_000_000_000)),
        ("a.i32", Value::I32(-5)),
        ("a.f32", Value::F32(1.5)),
        ("a.bool", Value::Bool(true)),
        ("a.u64", Value::U64(1 << 40)),
        ("a.i64", Value::I64(-1 << 40)),
        ("a.f64", Value::F64(0.1)),
        (
            "b.strings",
            Value::Array(Array::String(vec!["ä".into(), String::new()])),
        ),
        ("b.bools", Value::Array(Array::Bool(vec![true, false]))),
        ("b.floats", Value::Array(Array::F32(vec![1.0, -2.0]))),
        (
            "b.nested",
            Value::Array(Array::Array(vec![Array::U8(vec![1]), Array::I64(vec![])])),
        ),
    ]
    .into_iter()
    .collect()
}

fn declaration(name: &str, shape: &[usize], quant_type: QuantType) -> TensorDeclaration {
    TensorDeclaration {
        name: name.into(),
        shape: shape.into(),
        quant_type,
    }
}

fn written(metadata: &Metadata, tensors: &[(TensorDeclaration, Vec<u8>)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let declarations: Vec<_> = tensors.iter().map(|(d, _)| d.clone()).collect();
    let mut writer = Writer::create(&path, metadata, &declarations).unwrap();
    for (_, data) in tensors {
        writer.write_tensor(data).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

fn two_tensors() -> Vec<(TensorDeclaration, Vec<u8>)> {
    vec![
        (declaration("a", &[3, 2], QuantType::F32), (0..24).collect()),
        (declaration("b", &[64], QuantType::Q4_0), (0..36).collect()),
    ]
}

#[test]
fn what_was_written_is_read_again() {
    let tensors = two_tensors();
    let gguf = Gguf::from_bytes(written(&metadata(), &tensors)).unwrap();
    assert_eq!(gguf.metadata(), &metadata());
    assert_eq!(gguf.tensors().len(), 2);
    for (declared, data) in &tensors {
        let tensor = gguf.tensor(&declared.name).unwrap();
        assert_eq!(
            (&tensor.info.shape, tensor.info.quant_type),
            (&declared.shape, declared.quant_type)
        );
        assert_eq!(tensor.data, data);
    }
    assert!(gguf.tensor("c").is_none());
}

#[test]
fn typed_keys_convert_integers_that_fit_and_refuse_the_rest() {
    let m = metadata();
    assert_eq!(m.u32("a.u8").unwrap(), 200);
    assert_eq!(m.opt_u32("nothing").unwrap(), None);
    assert!(matches!(m.u32("nothing"), Err(GgufError::MissingKey { key }) if key == "nothing"));
    assert!(matches!(m.u32("a.i8"), Err(GgufError::KeyType { .. })));
    assert!(matches!(m.u32("a.u64"), Err(GgufError::KeyType { .. })));
    assert!(matches!(m.str("a.u8"), Err(GgufError::KeyType { .. })));
    let mut m = m;
    assert_eq!(m.remove("a.u8"), Some(Value::U8(200)));
    assert_eq!(m.u64("a.u64").unwrap(), 1 << 40);
}

/// A file under construction, byte by byte, for files no writer would make.
#[derive(Default)]
struct Forged(Vec<u8>);

impl Forged {
    fn head(tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }
    fn u32(mut self, v: u32) -> Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    fn u64(mut self, v: u64) -> Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    fn bytes(mut self, v: &[u8]) -> Self {
        self.0.extend(v);
        self
    }
    fn text(self, v: &str) -> Self {
        self.u64(v.len() as u64).bytes(v.as_bytes())
    }
    fn tensor(self, name: &str, shape: &[u64], type_id: u32, offset: u64) -> Self {
        let axes = self.text(name).u32(shape.len() as u32);
        shape
            .iter()
            .fold(axes, |f, &n| f.u64(n))
            .u32(type_id)
            .u64(offset)
    }
    fn padded(mut self, data: usize) -> Self {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + data, 0);
        self
    }
    fn error(self) -> GgufError {
        Gguf::from_bytes(self.0).unwrap_err()
    }
}

macro_rules! refused {
    ($($name:ident: $forged:expr => $pattern:pat $(if $guard:expr)?,)*) => {$(
        #[test]
        fn $name() {
            let error = $forged.error();
            assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
            assert!(!error.to_string().is_empty());
        }
    )*};
}

refused! {
    an_empty_file: Forged::default() => GgufError::Empty,
    another_format: Forged(b"PK\x03\x04....".to_vec()) => GgufError::Magic { .. },
    three_bytes: Forged(b"GGU".to_vec()) => GgufError::Magic { .. },
    version_one: Forged(b"GGUF".to_vec()).u32(1) => GgufError::Version { version: 1 },
    big_endian: Forged(b"GGUF\0\0\0\x03".to_vec()).u64(0) => GgufError::BigEndian,
    a_cut_header: Forged(b"GGUF".to_vec()).u32(3).u32(0) => GgufError::Truncated { .. },
    absurd_tensor_count: Forged::head(u64::MAX, 0) => GgufError::Count { .. },
    absurd_key_count: Forged::head(0, 1 << 60) => GgufError::Count { .. },
    absurd_string: Forged::head(0, 1).u64(u64::MAX).padded(64) => GgufError::Truncated { .. },
    key_not_utf8: Forged::head(0, 1).u64(2).bytes(b"\xff\xfe").padded(64) => GgufError::Utf8 { .. },
    unknown_value_type: Forged::head(0, 1).text("k").u32(77).padded(64) => GgufError::ValueType { found: 77, .. },
    boolean_of_two: Forged::head(0, 1).text("k").u32(7).bytes(&[2]).padded(64) => GgufError::Boolean { found: 2, .. },
    absurd_array: Forged::head(0, 1).text("k").u32(9).u32(0).u64(1 << 62).padded(64) => GgufError::Count { .. },
    unknown_element_type: Forged::head(0, 1).text("k").u32(9).u32(99).u64(1).padded(64) => GgufError::ValueType { found: 99, .. },
    deep_arrays: (0..6).fold(Forged::head(0, 1).text("k").u32(9), |f, _| f.u32(9).u64(1)).padded(64) => GgufError::Depth { .. },
    key_twice: Forged::head(0, 2).text("k").u32(0).bytes(&[1]).text("k").u32(0).bytes(&[1]).padded(64)
        => GgufError::DuplicateKey { key, .. } if key == "k",
    alignment_zero: Forged::head(0, 1).text("general.alignment").u32(4).u32(0).padded(64) => GgufError::Alignment { found: 0 },
    alignment_odd: Forged::head(0, 1).text("general.alignment").u32(4).u32(33).padded(64) => GgufError::Alignment { found: 33 },
    alignment_of_text: Forged::head(0, 1).text("general.alignment").u32(8).text("x").padded(64) => GgufError::KeyType { .. },
    no_axes: Forged::head(1, 0).tensor("t", &[], 0, 0).padded(64) => GgufError::Axes { axes: 0, .. },
    five_axes: Forged::head(1, 0).tensor("t", &[1, 1, 1, 1, 1], 0, 0).padded(64) => GgufError::Axes { axes: 5, .. },
    an_axis_of_zero: Forged::head(1, 0).tensor("t", &[4, 0], 0, 0).padded(64) => GgufError::Shape { .. },
    a_shape_that_overflows: Forged::head(1, 0).tensor("t", &[1 << 40, 1 << 40], 0, 0).padded(64) => GgufError::Shape { .. },
    unknown_tensor_type: Forged::head(1, 0).tensor("t", &[4], 4, 0).padded(64) => GgufError::TensorType { found: 4, .. },
    rows_of_partial_blocks: Forged::head(1, 0).tensor("t", &[33], 2, 0).padded(64) => GgufError::PartialBlock { width: 33, .. },
    tensor_twice: Forged::head(2, 0).tensor("t", &[1], 0, 0).tensor("t", &[1], 0, 32).padded(64)
        => GgufError::DuplicateTensor { tensor, .. } if tensor == "t",
    an_odd_offset: Forged::head(1, 0).tensor("t", &[1], 0, 4).padded(64) => GgufError::Misaligned { found: 4, .. },
    data_beyond_the_end: Forged::head(1, 0).tensor("t", &[16], 0, 0).padded(63) => GgufError::TensorBeyondEnd { .. },
    an_offset_that_overflows: Forged::head(1, 0).tensor("t", &[16], 0, u64::MAX - 31).padded(64) => GgufError::TensorBeyondEnd { .. },
    tensors_on_the_same_bytes: Forged::head(2, 0).tensor("t", &[16], 0, 0).tensor("u", &[16], 0, 32).padded(128)
        => GgufError::Overlap { first, second, .. } if first == "t" && second == "u",
}

#[test]
fn every_cut_and_every_flipped_byte_gives_a_value_or_an_error() {
    let whole = written(&metadata(), &two_tensors());
    // The padding behind the last tensor is nobody's data.
    for end in 0..whole.len() - 28 {
        assert!(
            Gguf::from_bytes(whole[..end].to_vec()).is_err(),
            "cut at {end}"
        );
    }
    for at in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            let _ = Gguf::from_bytes(bytes);
        }
    }
}

#[test]
fn a_folder_and_a_missing_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        Gguf::open(folder.path()),
        Err(GgufError::Folder { .. } | GgufError::Io { .. })
    ));
    let missing = folder.path().join("missing.gguf");
    assert!(
        Gguf::open(&missing)
            .unwrap_err()
            .to_string()
            .contains("missing.gguf")
    );
    std::fs::write(&missing, b"").unwrap();
    assert!(
        Gguf::open(&missing)
            .unwrap_err()
            .to_string()
            .contains("empty")
    );
}

#[test]
fn a_split_model_is_one_model_from_any_part() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = two_tensors();
    for (i, (declared, data)) in tensors.iter().enumerate() {
        let mut m = if i == 0 { metadata() } else { Metadata::new() };
        m.insert("split.no", Value::U16(i as u16));
        m.insert("split.count", Value::U16(2));
        let path = folder.path().join(format!("m-{:05}-of-00002.gguf", i + 1));
        let mut writer = Writer::create(&path, &m, std::slice::from_ref(declared)).unwrap();
        writer.write_tensor(data).unwrap();
        writer.finish().unwrap();
    }
    for part in 1..=2 {
        let gguf = Gguf::open(&folder.path().join(format!("m-{part:05}-of-00002.gguf"))).unwrap();
        assert_eq!(gguf.part_count(), 2);
        assert_eq!(
            gguf.metadata().str("general.architecture").unwrap(),
            "llama"
        );
        for (declared, data) in &tensors {
            assert_eq!(gguf.tensor(&declared.name).unwrap().data, data);
        }
    }
    let renamed = folder.path().join("m.gguf");
    std::fs::copy(folder.path().join("m-00001-of-00002.gguf"), &renamed).unwrap();
    assert!(
        Gguf::open(&renamed)
            .unwrap_err()
            .to_string()
            .contains("part 1 of 2")
    );
    std::fs::remove_file(folder.path().join("m-00002-of-00002.gguf")).unwrap();
    let first = folder.path().join("m-00001-of-00002.gguf");
    assert!(
        Gguf::open(&first)
            .unwrap_err()
            .to_string()
            .contains("m-00002-of-00002.gguf")
    );
}

#[test]
fn the_writer_refuses_what_was_not_declared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let declared = [declaration("a", &[2], QuantType::F32)];
    let mut writer = Writer::create(&path, &Metadata::new(), &declared).unwrap();
    assert!(writer.write_tensor(&[0; 4]).is_err());
    assert!(writer.finish().is_err());
    assert!(!path.exists());
    let twice = [declared[0].clone(), declared[0].clone()];
    assert!(Writer::create(&path, &Metadata::new(), &twice).is_err());
    assert!(declaration("a", &[33], QuantType::Q4_0).bytes().is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_real_model_reads() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/gguf/stories260K.gguf");
    if path.exists() {
        let gguf = Gguf::open(&path).unwrap();
        assert_eq!(
            gguf.metadata().str("general.architecture").unwrap(),
            "llama"
        );
        assert_eq!(
            gguf.tensor("token_embd.weight").unwrap().info.shape,
            [64, 512]
        );
    }
}
