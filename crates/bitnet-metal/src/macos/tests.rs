//! The host on the GPU of this machine. A virtual machine may have none; `BITNET_METAL=required` says that
//! there is one.

use super::*;
use crate::kernels::{Argmax, Compiler};
use crate::{Memory, Step};

fn gpu() -> Option<MetalGpu> {
    match MetalGpu::open() {
        Ok(gpu) => Some(gpu),
        Err(error) if std::env::var_os("BITNET_METAL").is_some_and(|value| value == "required") => {
            panic!("{error}")
        }
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|float| float.to_ne_bytes()).collect()
}

/// Large enough to be wrapped in place, with the largest value of each of two rows at a place of its own.
fn rows() -> (Buffer, usize) {
    let cols = 40_000;
    let mut rows = vec![0.5; 2 * cols];
    (rows[1234], rows[cols + 39_999]) = (7.0, 8.0);
    (Buffer::from_owner(bytes(&rows)), cols)
}

#[test]
fn a_kernel_reads_memory_where_it_is() {
    let Some(gpu) = gpu() else { return };
    let argmax = Argmax::new(&mut Compiler::new(&gpu)).unwrap();
    gpu.keep_pipelines();
    let (rows, cols) = rows();
    for shared in [&rows, &Buffer::from_owner(rows.to_vec())] {
        let x = gpu.share(shared, 4).unwrap();
        assert_eq!(x.size_bytes(), rows.len());
        let (ids, values) = (gpu.allocate(8).unwrap(), gpu.allocate(8).unwrap());
        let mut step = Step::new();
        step.then(argmax.dispatch(&x, 2, cols, &ids, &values));
        let time = gpu.run(step.dispatches()).unwrap();
        let (mut id, mut value) = ([0; 8], [0; 8]);
        ids.read(0, &mut id);
        values.read(0, &mut value);
        assert_eq!(id[..4], 1234_u32.to_ne_bytes());
        assert_eq!(id[4..], 39_999_u32.to_ne_bytes());
        assert_eq!(value.to_vec(), bytes(&[7.0, 8.0]));
        assert!(time > Duration::ZERO);
    }
}

#[test]
fn what_there_is_not_is_an_error_of_its_type() {
    let Some(gpu) = gpu() else { return };
    let missing = gpu.pipeline("no_such_kernel", &[], 32).unwrap_err();
    assert!(matches!(missing, Error::Compile { .. }), "{missing}");
    let too_large = gpu.allocate(1 << 50).unwrap_err();
    assert!(matches!(too_large, Error::OutOfMemory { .. }), "{too_large}");
}

#[test]
fn memory_keeps_what_is_written() {
    let Some(gpu) = gpu() else { return };
    let mut memory = gpu.allocate(100).unwrap();
    memory.write(7, &[1, 2, 3]);
    let mut back = [0; 2];
    memory.read(8, &mut back);
    assert_eq!((back, memory.size_bytes()), ([2, 3], 100));
}
