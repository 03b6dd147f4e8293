//! Arrays of NumPy: `.npy`, versions 1 to 3.
//!
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

const MAGIC: &[u8] = b"\x93NUMPY";

/// The integers of an array of one dimension.
///
/// Errors: one line, for what is no such array.
pub(super) fn integers(bytes: &[u8]) -> Result<Vec<i64>, String> {
    let (header, data) = parts(bytes).ok_or("is no .npy file")?;
    let value = |key: &str| {
        let (_, behind) = header.split_once(&format!("'{key}':"))?;
        Some(behind.trim_start())
    };
    let missing = || "is no .npy file: its header is incomplete".to_owned();
    let descr = value("descr").ok_or_else(missing)?;
    let shape =
        value("shape").and_then(|shape| shape.strip_prefix('(')?.split_once(')')).ok_or_else(missing)?.0;
    let dims: Vec<&str> = shape.split(',').map(str::trim).filter(|dim| !dim.is_empty()).collect();
    let [len] = dims[..] else {
        return Err(format!("has an array of {} dimensions; token ids have one", dims.len()));
    };
    let len: usize = len.parse().map_err(|_| missing())?;
    let dtype = descr.trim_start_matches('\'').split('\'').next().unwrap_or_default();
    let values: Vec<i64> = match dtype {
        "|u1" => data.iter().map(|&byte| i64::from(byte)).collect(),
        "<u2" => chunks(data, |bytes| i64::from(u16::from_le_bytes(bytes))),
        "<u4" => chunks(data, |bytes| i64::from(u32::from_le_bytes(bytes))),
        "<i4" => chunks(data, |bytes| i64::from(i32::from_le_bytes(bytes))),
        "<i8" => chunks(data, i64::from_le_bytes),
        other => {
            return Err(format!(
                "has elements of type {other:?}; token ids are uint8, uint16, uint32, int32 or int64"
            ));
        }
    };
    if values.len() != len {
        return Err(format!("is cut: its header says {len} elements, there are {}", values.len()));
    }
    Ok(values)
}

/// The header's dictionary, and the elements.
fn parts(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let [major, _, rest @ ..] = bytes.strip_prefix(MAGIC)? else { return None };
    let (len, rest) = match major {
        1 => rest.split_first_chunk().map(|(len, rest)| (usize::from(u16::from_le_bytes(*len)), rest))?,
        2 | 3 => rest.split_first_chunk().map(|(len, rest)| (u32::from_le_bytes(*len) as usize, rest))?,
        _ => return None,
    };
    let (header, data) = rest.split_at_checked(len)?;
    Some((str::from_utf8(header).ok()?, data))
}

fn chunks<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> i64) -> Vec<i64> {
    data.as_chunks().0.iter().map(|bytes| value(*bytes)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file as NumPy writes it.
    pub(in super::super) fn file(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let len = (10 + header.len() + 1).next_multiple_of(64) - 10;
        let mut file = [MAGIC, &[1, 0], &(len as u16).to_le_bytes(), header.as_bytes()].concat();
        file.resize(10 + len - 1, b' ');
        file.push(b'\n');
        [&file[..], data].concat()
    }

    #[test]
    fn what_numpy_saves_is_read() {
        // numpy.save of numpy.array([1, 515, 65535], dtype=numpy.uint16), of NumPy 2.
        let saved = b"\x93NUMPY\x01\x00v\x00{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }\
            \x20                                                           \n\x01\x00\x03\x02\xff\xff";
        assert_eq!(integers(saved).unwrap(), [1, 515, 65535]);
        assert_eq!(&file("<u2", "(3,)", &saved[128..]), saved);
    }

    #[test]
    fn every_type_is_read_at_its_ends() {
        let read = |descr: &str, data: &[u8]| integers(&file(descr, "(1,)", data)).unwrap()[0];
        assert_eq!(read("|u1", &[255]), 255);
        assert_eq!(read("<u4", &u32::MAX.to_le_bytes()), i64::from(u32::MAX));
        assert_eq!(read("<i4", &i32::MIN.to_le_bytes()), i64::from(i32::MIN));
        assert_eq!(read("<i8", &i64::MIN.to_le_bytes()), i64::MIN);
    }

    #[test]
    fn other_arrays_are_refused_in_a_line() {
        let refuse = |file: &[u8]| integers(file).unwrap_err();
        assert!(refuse(b"PK\x03\x04").contains("is no .npy file"));
        assert!(refuse(&file("<u2", "(3,)", &[0; 6])[..40]).contains("is no .npy file"));
        assert!(refuse(&file("<f4", "(1,)", &[0; 4])).contains("\"<f4\""));
        assert!(refuse(&file("<u2", "(2, 3)", &[0; 12])).contains("2 dimensions"));
        assert!(refuse(&file("<u2", "()", &[0; 2])).contains("0 dimensions"));
        assert_eq!(refuse(&file("<u2", "(3,)", &[0; 5])), "is cut: its header says 3 elements, there are 2");
    }
}
