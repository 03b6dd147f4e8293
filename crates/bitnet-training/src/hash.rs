//! SHA-256 in hexadecimal.

use std::fmt::Write;

use ring::digest::{Context, Digest, SHA256, digest};

/// Of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&digest(&SHA256, bytes))
}

/// Of several, each with its length in front, so that none can be taken for two.
pub(crate) fn sha256_of_parts(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    hex(&context.finish())
}

fn hex(digest: &Digest) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), abc);
    }

    #[test]
    fn parts_have_borders() {
        assert_ne!(sha256_of_parts(&[b"ab", b"c"]), sha256_of_parts(&[b"a", b"bc"]));
        assert_ne!(sha256_of_parts(&[b"ab", b""]), sha256_of_parts(&[b"ab"]));
    }
}
