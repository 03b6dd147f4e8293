//! With the embedded model.

use std::path::Path;

use super::*;
use crate::backend::KvType;
use crate::backend::cpu::CpuOptions;
use crate::{Error, GenerateOptions};

fn options() -> LoadOptions {
    LoadOptions { threads: Some(1), ..LoadOptions::default() }
}

#[test]
fn a_model_is_loaded_once_for_its_name_and_options() {
    let cache = ModelCache::new(ByteSize(1 << 30));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/bitnet-tiny");
    let embedded = cache.get(None, &options()).unwrap();
    let stored = cache.get(folder.to_str(), &options()).unwrap();
    assert!(!Arc::ptr_eq(&embedded, &stored));
    let detour = folder.join("../bitnet-tiny");
    assert!(Arc::ptr_eq(&stored, &cache.get(detour.to_str(), &options()).unwrap()));
    let cpu = CpuOptions { kv_cache: KvType::I8, ..CpuOptions::default() };
    let other = cache.get(None, &LoadOptions { cpu, ..options() }).unwrap();
    assert!(!Arc::ptr_eq(&embedded, &other));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.models), (1, 3, 3));
    assert_eq!(stats.resident_bytes, 3 * embedded.backend().weight_bytes() as u64);
}

#[test]
fn a_generation_keeps_its_model() {
    let model = ModelCache::new(ByteSize(u64::MAX)).get(None, &options()).unwrap();
    let bytes = model.backend().weight_bytes() as u64;
    let cache = ModelCache::new(ByteSize(bytes * 3 / 2));
    let stream = {
        let model = cache.get(None, &options()).unwrap();
        model.stream("In the", &GenerateOptions { max_tokens: 2, ..GenerateOptions::default() }).unwrap()
    };
    let other = LoadOptions { threads: Some(2), ..options() };
    let full = cache.get(None, &other).unwrap_err();
    assert!(matches!(&full, Error::ModelCacheFull { in_use, .. } if in_use.bytes() == bytes), "{full}");
    cache.clear();
    assert_eq!(cache.stats().models, 1);
    drop(stream);
    cache.get(None, &other).unwrap();
    assert_eq!((cache.stats().models, cache.stats().evictions), (1, 1));
    cache.clear();
    assert_eq!(cache.stats().resident_bytes, 0);
}

#[test]
fn a_model_beyond_the_budget_is_named_with_both_sizes() {
    let error = ModelCache::new(ByteSize(1000)).get(None, &options()).unwrap_err();
    assert_eq!(
        error.to_string().replace(char::is_numeric, "9"),
        "the embedded model takes 9.999 MiB; the model cache has 9999 bytes, 9 bytes of them in use"
    );
    assert!(matches!(
        ModelCache::new(ByteSize(1000)).get(Some("/no/such"), &options()),
        Err(Error::ModelNotFound { .. })
    ));
}
