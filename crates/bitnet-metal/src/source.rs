//! The sources of the kernels, which are part of the library.

/// Texts of the folder with their names.
macro_rules! files {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../../../metal/", $name)))),*] };
}

/// Every file that has kernels.
const FILES: &[(&str, &str)] = files! {
    "absmean.metal"
    "attention.metal"
    "elementwise.metal"
    "embedding.metal"
    "float_gemv.metal"
    "norm.metal"
    "quantize.metal"
    "rope.metal"
    "select.metal"
    "ternary_gemm.metal"
    "ternary_gemv.metal"
};

/// What they include.
const HEADERS: &[(&str, &str)] = files! {
    "common.h"
    "kv_cache.h"
    "params.h"
    "rms.h"
    "ternary.h"
};

/// All kernels as one text, for a compiler that knows no files: headers stand where they are first included.
pub fn source() -> String {
    let (mut included, mut source) = (Vec::new(), String::new());
    for (_, text) in FILES {
        inline(text, &mut included, &mut source);
    }
    source
}

/// Appends the lines of a text.
fn inline(text: &str, included: &mut Vec<&'static str>, source: &mut String) {
    for line in text.lines().filter(|line| line.trim() != "#pragma once") {
        match header(line) {
            Some((name, _)) if included.contains(&name) => {}
            Some((name, text)) => {
                included.push(name);
                inline(text, included, source);
            }
            None => source.extend([line, "\n"]),
        }
    }
}

/// The header that a line includes, if it is one of ours.
fn header(line: &str) -> Option<(&'static str, &'static str)> {
    let name = line.trim().strip_prefix("#include \"")?.strip_suffix('"')?;
    let header = HEADERS.iter().copied().find(|header| header.0 == name);
    Some(header.unwrap_or_else(|| panic!("{name} is among the headers")))
}

/// A number that changes with the sources and with `parts` (64-bit FNV-1a).
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let texts = FILES.iter().chain(HEADERS).map(|file| file.1).chain(parts);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in texts.flat_map(|text| text.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_there_once() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../metal");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| matches!(name.rsplit_once('.'), Some((_, "metal" | "h"))))
            .collect();
        files.sort();
        let mut known: Vec<&str> = FILES.iter().chain(HEADERS).map(|file| file.0).collect();
        known.sort_unstable();
        assert_eq!(known, files);
    }

    #[test]
    fn the_source_includes_nothing_of_ours() {
        let source = source();
        assert!(!source.contains("#include \"") && !source.contains("#pragma once"));
        for (name, text) in HEADERS {
            let first = text.lines().rfind(|line| line.len() > 20).unwrap();
            assert_eq!(source.matches(first).count(), 1, "{name}");
        }
    }

    #[test]
    fn the_fingerprint_depends_on_every_part() {
        assert_ne!(fingerprint(["a", "b"]), fingerprint(["ab"]));
        assert_eq!(fingerprint(["a", "b"]), fingerprint(["a", "b"]));
    }
}
