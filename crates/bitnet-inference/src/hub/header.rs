//! What the values of HTTP headers say. Servers may be hostile.

use ureq::http::{HeaderMap, Uri};

/// The value of a header, if it is text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The value of a header, if it is a number.
pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// `W/"x"` and `"x"` are x.
pub(super) fn unquote(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

/// Whether `etag` can be the name of a file.
pub(super) fn is_etag(etag: &str) -> bool {
    (1..=128).contains(&etag.len())
        && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether `etag` is a SHA-256.
pub(super) fn is_sha256(etag: &str) -> bool {
    etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Offset and size of the whole in `bytes 2-9/10`; the size may be `*`.
pub(super) fn content_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (part, size) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = part.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()))
}

/// Where a redirect leads; `None` if nowhere, or from https to http.
pub(super) fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let absolute = if location.starts_with('/') && !location.starts_with("//") {
        format!("{}://{}{location}", from.scheme_str()?, from.authority()?)
    } else {
        location.to_owned()
    };
    let to: Uri = absolute.parse().ok()?;
    to.host()?;
    match (from.scheme_str()?, to.scheme_str()?) {
        (_, "https") | ("http", "http") => Some(to),
        _ => None,
    }
}

/// Scheme, host and port.
pub(super) fn origin(url: &Uri) -> Option<(&str, String, u16)> {
    let scheme = url.scheme_str()?;
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, url.host()?.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_a_plain_file_name() {
        assert_eq!(unquote("\"abc\""), "abc");
        assert_eq!(unquote("W/\"abc\""), "abc");
        assert!(is_etag("0123abc") && is_etag("d41d8cd9-2"));
        for etag in ["", ".", "..", "../x", "/x", "a/b", "a\\b", "a.part", "a b", &"a".repeat(129)] {
            assert!(!is_etag(etag), "{etag:?}");
        }
        assert!(is_sha256(&"a".repeat(64)) && !is_sha256(&"a".repeat(40)) && !is_sha256(&"A".repeat(64)));
    }

    #[test]
    fn a_content_range_has_offset_and_size() {
        assert_eq!(content_range("bytes 2-9/10"), Some((2, Some(10))));
        assert_eq!(content_range("bytes 2-9/*"), Some((2, None)));
        for range in ["", "bytes", "bytes 2/10", "bytes */10", "bytes -9/10", "2-9/10", "bytes x-9/10"] {
            assert_eq!(content_range(range), None, "{range:?}");
        }
    }

    #[test]
    fn a_redirect_stays_on_the_web_and_keeps_its_encryption() {
        let to = |from: &str, location: &str| {
            redirected(&from.parse().unwrap(), location).map(|url| url.to_string())
        };
        let home = "https://hub:1/a";
        assert_eq!(to(home, "/b?c").as_deref(), Some("https://hub:1/b?c"));
        assert_eq!(to(home, "https://cdn/b").as_deref(), Some("https://cdn/b"));
        assert_eq!(to("http://hub/a", "http://cdn/b").as_deref(), Some("http://cdn/b"));
        for location in ["", "b", "//cdn/b", "http://cdn/b", "file:///etc/passwd", "ftp://cdn/b"] {
            assert_eq!(to(home, location), None, "{location:?}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| origin(&a.parse().unwrap()) == origin(&b.parse().unwrap());
        assert!(same("https://hub/a", "https://HUB:443/b"));
        for other in [
            "http://hub/a",
            "https://hub:8443/a",
            "https://cdn.hub/a",
            "https://hub.evil/a",
            "https://hub@evil/a",
        ] {
            assert!(!same("https://hub/a", other), "{other}");
        }
    }
}
