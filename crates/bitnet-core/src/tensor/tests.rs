//! Properties over shapes, views and types, against indices written out. `tests/python/test_tensor.py` has NumPy as its
//! oracle.

use std::sync::Arc;

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::ThreadPool;

/// A tensor as a list of numbers: what the views are checked against.
#[derive(Debug, Clone)]
struct Model {
    dims: Vec<usize>,
    values: Vec<f32>,
}

impl Model {
    fn at(&self, index: &[usize]) -> f32 {
        self.values[index.iter().zip(&self.dims).fold(0, |at, (&i, &dim)| at * dim + i)]
    }

    /// With the element at `index` of the new dimensions given by one of the old.
    fn seen(&self, dims: Vec<usize>, old: impl Fn(&[usize]) -> Vec<usize>) -> Self {
        let values = indices(&dims).iter().map(|index| self.at(&old(index))).collect();
        Self { dims, values }
    }
}

fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    dims.iter().fold(vec![vec![]], |all, &dim| {
        all.iter().flat_map(|index| (0..dim).map(move |i| [index.as_slice(), &[i]].concat())).collect()
    })
}

/// Applies view number `kind` to both.
fn apply(tensor: &Tensor, model: &Model, kind: u8, seed: usize) -> (Tensor, Model) {
    let rank = model.dims.len();
    let axis = seed % rank.max(1);
    match kind {
        0 if rank > 0 => {
            let (start, step) = (seed % 3, [1_isize, 2, -1, -2][seed % 4]);
            let dim = model.dims[axis];
            let kept: Vec<usize> = if step > 0 {
                (start..dim).step_by(step as usize).collect()
            } else {
                (0..dim).rev().step_by(step.unsigned_abs()).collect()
            };
            let start = if step > 0 { Some(start as isize) } else { None };
            let view = tensor.slice(axis as isize, Slice { start, stop: None, step }).unwrap();
            let mut dims = model.dims.clone();
            dims[axis] = kept.len();
            let old = |index: &[usize]| {
                let mut index = index.to_vec();
                index[axis] = kept[index[axis]];
                index
            };
            (view, model.seen(dims, old))
        }
        1 => {
            let dims = model.dims.iter().rev().copied().collect();
            (tensor.transpose().unwrap(), model.seen(dims, |index| index.iter().rev().copied().collect()))
        }
        2 if rank < 4 => {
            let dims = [&model.dims[..axis.min(rank)], &[1], &model.dims[axis.min(rank)..]].concat();
            let view = tensor.unsqueeze(axis.min(rank) as isize).unwrap();
            (view, Model { dims, values: model.values.clone() })
        }
        3 if rank < 4 => {
            let dims = [&[1 + seed % 3], model.dims.as_slice()].concat();
            (tensor.broadcast_to(dims.clone()).unwrap(), model.seen(dims, |index| index[1..].to_vec()))
        }
        4 => {
            let flat = Model { dims: vec![model.values.len()], values: model.values.clone() };
            (tensor.reshape(flat.dims.clone()).unwrap(), flat)
        }
        _ => (tensor.clone(), model.clone()),
    }
}

prop_compose! {
    fn dims()(dims in prop::collection::vec(0_usize..5, 0..4)) -> Vec<usize> { dims }
}

prop_compose! {
    fn viewed()(dims in dims(), steps in prop::collection::vec((0_u8..5, 0_usize..24), 0..5)) -> (Tensor, Model) {
        let len = dims.iter().product::<usize>();
        let values: Vec<f32> = (0..len).map(|i| ((i * 37 + 11) % 64) as f32 - 31.0).collect();
        let tensor = Tensor::from_vec(values.clone(), dims.clone()).unwrap();
        steps.into_iter().fold((tensor, Model { dims, values }), |(tensor, model), (kind, seed)| {
            apply(&tensor, &model, kind, seed)
        })
    }
}

proptest! {
    #[test]
    fn views_show_the_elements_their_indices_name((tensor, model) in viewed()) {
        prop_assert_eq!(tensor.dims(), &model.dims[..]);
        prop_assert_eq!(tensor.to_vec::<f32>().unwrap(), model.values.clone());
        let contiguous = tensor.contiguous().unwrap();
        prop_assert!(contiguous.is_contiguous());
        prop_assert_eq!(&contiguous.data()[..], bytemuck::cast_slice::<f32, u8>(&model.values));
        prop_assert_eq!(tensor.copied().unwrap().to_vec::<f32>().unwrap(), model.values);
    }

    #[test]
    fn elementwise_functions_see_views((tensor, model) in viewed()) {
        let doubled: Vec<f32> = model.values.iter().map(|x| x + x).collect();
        prop_assert_eq!(tensor.add(&tensor).unwrap().to_vec::<f32>().unwrap(), doubled.clone());
        prop_assert_eq!(tensor.mul(2).unwrap().to_vec::<f32>().unwrap(), doubled);
        let is_high: Vec<bool> = model.values.iter().map(|x| *x > 3.0).collect();
        let above = tensor.gt(3).unwrap();
        prop_assert_eq!(above.to_vec::<Bool>().unwrap(), is_high.iter().map(|x| (*x).into()).collect::<Vec<Bool>>());
        let chosen = Tensor::choose(&above, &tensor, &tensor.neg().unwrap()).unwrap();
        let expected: Vec<f32> = model.values.iter().map(|x| if *x > 3.0 { *x } else { -x }).collect();
        prop_assert_eq!(chosen.to_vec::<f32>().unwrap(), expected);
    }

    #[test]
    fn reductions_see_views((tensor, model) in viewed(), seed in 0_usize..4) {
        let axes: Vec<usize> = (0..model.dims.len()).filter(|axis| (axis + seed) % 2 == 0).collect();
        let named: Vec<isize> = axes.iter().map(|&axis| axis as isize).collect();
        let kept: Vec<usize> =
            model.dims.iter().enumerate().map(|(axis, &dim)| if axes.contains(&axis) { 1 } else { dim }).collect();
        let mut sums = vec![0.0; kept.iter().product()];
        for index in indices(&model.dims) {
            let at = index.iter().zip(&kept).fold(0, |at, (&i, &dim)| at * dim + if dim == 1 { 0 } else { i });
            sums[at] += model.at(&index);
        }
        let sum = tensor.sum(Some(&named), true).unwrap();
        prop_assert_eq!(sum.dims(), &kept[..]);
        prop_assert_eq!(sum.to_vec::<f32>().unwrap(), sums);
        if !tensor.is_empty() {
            let greatest = model.values.iter().copied().fold(f32::MIN, f32::max);
            prop_assert_eq!(tensor.max(None, false).unwrap().item().unwrap(), greatest.into());
            let place = model.values.iter().position(|x| *x == greatest).unwrap();
            prop_assert_eq!(tensor.argmax(None, false).unwrap().item().unwrap(), Scalar::Int(place as i64));
        }
    }

    #[test]
    fn strides_that_leave_the_memory_are_refused(
        dims in dims(),
        strides in prop::collection::vec(-9_isize..9, 0..4),
        offset in 0_usize..20,
    ) {
        let memory = vec![0_u8; 20];
        let made = Tensor::strided(DType::U8, dims.clone(), strides.clone(), offset, memory.into());
        let is_inside = dims.len() == strides.len() && indices(&dims).iter().all(|index| {
            let at = index.iter().zip(&strides).fold(offset as isize, |at, (&i, stride)| at + i as isize * stride);
            (0..20).contains(&at)
        });
        prop_assert_eq!(made.is_ok(), is_inside);
        if let Ok(tensor) = made {
            prop_assert_eq!(tensor.to_vec::<u8>().unwrap().len(), tensor.len());
        }
    }
}

const UNPACKED: [DType; 8] = {
    let [unpacked @ .., DType::Ternary] = DType::ALL else { panic!("the packed type is the last") };
    unpacked
};

#[test]
fn a_packed_tensor_is_read_whole() {
    let packed = Tensor::new(DType::Ternary, [5, 3], vec![0_u8; 6].into()).unwrap();
    assert_eq!((packed.dims(), packed.data().len()), (&[5, 3][..], 6));
    assert!(matches!(
        Tensor::new(DType::Ternary, [5, 3], vec![0_u8; 15].into()),
        Err(Error::ByteLength { expected: 6, .. })
    ));
    assert!(matches!(Tensor::new(DType::Ternary, [5], vec![0_u8; 2].into()), Err(Error::Rank { .. })));
    let ones = Tensor::ones([5, 3], DType::I8).unwrap();
    let refused = [
        packed.transpose(),
        packed.select(0, 0),
        packed.reshape([15]),
        packed.broadcast_to([2, 5, 3]),
        packed.add(1),
        packed.lt(1),
        ones.mul(&packed),
        packed.abs(),
        packed.sum(None, false),
        packed.argmax(None, false),
        packed.matmul(&ones),
        packed.softmax(0),
        packed.to_dtype(DType::F32),
        ones.to_dtype(DType::Ternary),
        packed.copied(),
        packed.take(&Tensor::zeros([1], DType::I64).unwrap(), 0),
        packed.gather(&ones, 0),
        ones.take(&packed, 0),
        Tensor::concatenate(&[&packed, &packed], 0),
        Tensor::stack(&[&packed, &packed], 0),
        Tensor::choose(&packed, &ones, &ones),
        Tensor::zeros([4, 4], DType::Ternary),
        Tensor::strided(DType::Ternary, [1, 1], vec![1, 1], 0, vec![0_u8].into()),
    ];
    for (at, result) in refused.into_iter().enumerate() {
        assert_eq!(result.unwrap_err(), Error::Packed, "operation {at}");
    }
    assert_eq!(packed.item().unwrap_err(), Error::NotOne { shape: [5, 3].into() });
    assert_eq!(
        packed.to_f32().unwrap_err().to_string(),
        "expected a floating-point type, the tensor is ternary"
    );
}

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin() * 3.0).collect()
}

#[test]
fn threads_change_no_bit() {
    let x = Tensor::from_vec(wave(300 * 700), [300, 700]).unwrap();
    let wide = Tensor::from_vec(wave(700 * 520), [700, 520]).unwrap();
    let vector = Tensor::from_vec(wave(700), [700]).unwrap();
    let run = || {
        [
            x.exp().unwrap(),
            x.transpose().unwrap().sub(&x.transpose().unwrap().abs().unwrap()).unwrap(),
            x.sum(None, false).unwrap(),
            x.sum(Some(&[0]), false).unwrap(),
            x.transpose().unwrap().mean(Some(&[0]), false).unwrap(),
            x.softmax(0).unwrap(),
            x.rms_norm(None, 1e-5).unwrap(),
            x.matmul(&wide).unwrap(),
            x.slice(0, 0..5).unwrap().matmul(&wide).unwrap(),
            x.matmul(&vector).unwrap(),
            vector.matmul(&wide).unwrap(),
            x.reshape([3, 100, 700]).unwrap().matmul(&wide).unwrap(),
        ]
        .map(|tensor| tensor.to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<u32>>())
    };
    let alone = run();
    for threads in [2, 3] {
        let pool = Arc::new(ThreadPool::new(threads).unwrap());
        assert!(with_threads(&pool, run) == alone, "{threads} threads");
    }
}

#[test]
fn products_follow_the_definition_for_every_stride() {
    for (m, k, n) in [(1, 5, 7), (4, 5, 1), (3, 0, 2), (1, 1, 1), (17, 33, 20), (2, 300, 3)] {
        let a = Tensor::from_vec(wave(m * k), [m, k]).unwrap();
        let b = Tensor::from_vec(wave(k * n), [k, n]).unwrap();
        let (a_values, b_values) = (a.to_f32().unwrap(), b.to_f32().unwrap());
        let exact = |i: usize| -> f64 {
            let term = |j| f64::from(a_values[i / n * k + j]) * f64::from(b_values[j * n + i % n]);
            (0..k).map(term).sum()
        };
        let strided = |x: &Tensor| x.transpose().unwrap().contiguous().unwrap().transpose().unwrap();
        for (a, b) in [(a.clone(), b.clone()), (strided(&a), b.clone()), (a.clone(), strided(&b))] {
            let product = a.matmul(&b).unwrap();
            assert_eq!(product.dims(), [m, n]);
            for (i, x) in product.to_f32().unwrap().into_iter().enumerate() {
                assert!(
                    (f64::from(x) - exact(i)).abs() <= 1e-5 * (1.0 + k as f64),
                    "{m} {k} {n}: {x} {}",
                    exact(i)
                );
            }
        }
    }
}

#[test]
fn types_are_promoted_as_documented() {
    for a in UNPACKED {
        for b in UNPACKED {
            let both = promote(a, b);
            assert_eq!(both, promote(b, a));
            assert_eq!(promote(both, a), both);
            let sum = Tensor::ones([2], a).unwrap().add(&Tensor::ones([2], b).unwrap()).unwrap();
            assert_eq!(sum.dtype(), both);
        }
    }
    assert_eq!(promote(DType::I8, DType::U8), DType::I32);
    assert_eq!(promote(DType::F16, DType::BF16), DType::F32);
    let codes = Tensor::ones([2], DType::I8).unwrap();
    assert_eq!(codes.add(2).unwrap().dtype(), DType::I8);
    assert_eq!(codes.add(2.0).unwrap().dtype(), DType::F32);
    assert_eq!(codes.add(300).unwrap_err().to_string(), "300 is out of range for i8");
    assert_eq!(codes.lt(300).unwrap().to_vec::<Bool>().unwrap(), [true.into(), true.into()]);
}

#[test]
fn every_type_converts_to_every_other() {
    let numbers = Tensor::from_vec(vec![0.0_f32, 1.0, 2.0, 100.0], [4]).unwrap();
    for from in UNPACKED {
        for to in UNPACKED {
            let there = numbers.to_dtype(from).unwrap().to_dtype(to).unwrap();
            let expected: &[f32] = if from == DType::Bool || to == DType::Bool {
                &[0.0, 1.0, 1.0, 1.0]
            } else {
                &[0.0, 1.0, 2.0, 100.0]
            };
            assert_eq!(there.to_dtype(DType::F32).unwrap().to_f32().unwrap(), expected, "{from} to {to}");
        }
    }
    let edges = Tensor::from_vec(vec![-1.9_f32, 300.0, f32::NAN], [3]).unwrap();
    assert_eq!(edges.to_dtype(DType::I8).unwrap().to_vec::<i8>().unwrap(), [-1, 127, 0]);
    let wide = Tensor::from_vec(vec![257_i64, -1], [2]).unwrap();
    assert_eq!(wide.to_dtype(DType::U8).unwrap().to_vec::<u8>().unwrap(), [1, 255]);
}

#[test]
fn every_float_type_widens_exactly() {
    let values = [0.5_f32, -2.0, 1.5];
    let tensors = [
        Tensor::from_vec(values.to_vec(), [3]),
        Tensor::from_vec(values.map(f16::from_f32).to_vec(), [3]),
        Tensor::from_vec(values.map(bf16::from_f32).to_vec(), [3]),
    ];
    for tensor in tensors {
        assert_eq!(tensor.unwrap().to_f32().unwrap(), values);
    }
}

#[test]
fn views_share_memory_and_contiguous_ones_end_with_their_elements() {
    let x = Tensor::from_vec(wave(24), [2, 3, 4]).unwrap();
    let second = x.select(0, 1).unwrap();
    assert_eq!(second.data().as_ptr(), x.data()[48..].as_ptr());
    assert_eq!(second.data().len(), 48);
    assert_eq!(x.reshape([6, 4]).unwrap().data().as_ptr(), x.data().as_ptr());
    let swapped = x.swap_axes(0, 1).unwrap();
    assert_eq!(swapped.reshape([3, 2, 2, 2]).unwrap().storage().0.as_ptr(), x.data().as_ptr());
    assert_ne!(swapped.reshape([6, 4]).unwrap().storage().0.as_ptr(), x.data().as_ptr());
}

#[test]
fn nan_is_the_greatest_and_the_least() {
    let x = Tensor::from_vec(vec![1.0, f32::NAN, 3.0, f32::NAN], [4]).unwrap();
    assert!(x.max(None, false).unwrap().to_f32().unwrap()[0].is_nan());
    assert!(x.min(None, false).unwrap().to_f32().unwrap()[0].is_nan());
    assert_eq!(x.argmax(None, false).unwrap().item().unwrap(), Scalar::Int(1));
    assert_eq!(x.argmin(None, false).unwrap().item().unwrap(), Scalar::Int(1));
    let lowest = Tensor::from_vec(vec![f32::NEG_INFINITY; 40], [40]).unwrap();
    assert_eq!(lowest.argmax(None, false).unwrap().item().unwrap(), Scalar::Int(0));
}

#[test]
fn a_long_sum_is_rounded_once() {
    let x = Tensor::full([1 << 20], 0.1, DType::F32).unwrap();
    let exact = f64::from(0.1_f32) * f64::from(1 << 20);
    assert_eq!(x.sum(None, false).unwrap().item().unwrap(), Scalar::Float(f64::from(exact as f32)));
}

#[test]
fn misaligned_memory_is_read() {
    let bytes: Buffer = vec![0_u8, 0, 0, 128, 63, 0, 0, 0, 64].into();
    let x = Tensor::new(DType::F32, [2], bytes.slice(1..9)).unwrap();
    assert_eq!(x.add(1).unwrap().to_f32().unwrap(), [2.0, 3.0]);
}

#[test]
fn text_shows_the_ends_of_long_dimensions() {
    let x = Tensor::from_vec(vec![1.5_f32, 2.0, -3.0, 4.0], [2, 2]).unwrap();
    assert_eq!(x.to_string(), "[[1.5, 2], [-3, 4]]");
    let long = Tensor::arange(0, 2000, 1, DType::I32).unwrap();
    assert_eq!(long.to_string(), "[0, 1, 2, ..., 1997, 1998, 1999]");
    assert_eq!(Tensor::ones([], DType::Bool).unwrap().to_string(), "true");
}

#[test]
fn what_cannot_be_is_refused() {
    let x = Tensor::ones([2, 3], DType::F32).unwrap();
    let y = Tensor::ones([4], DType::F32).unwrap();
    let none = Tensor::ones([0], DType::F32).unwrap();
    let bools = Tensor::ones([2], DType::Bool).unwrap();
    let error = |result: Result<Tensor>| result.unwrap_err().to_string();
    assert_eq!(
        error(Tensor::new(DType::F32, [2, 2], vec![0_u8; 4].into())),
        "a f32 tensor of shape [2, 2] takes 16 bytes, not 4"
    );
    assert_eq!(error(x.add(&y)), "cannot broadcast shapes [2, 3] and [4]");
    assert_eq!(error(x.matmul(&y)), "cannot matmul shapes [2, 3] and [4]");
    assert_eq!(error(x.reshape([5])), "shape [2, 3] cannot become [5]");
    assert_eq!(error(x.select(1, -4)), "index -4 is out of range for axis 1 of length 3");
    assert_eq!(error(x.sum(Some(&[2]), false)), "axis 2 is out of range for 2 dimensions");
    assert_eq!(error(x.sum(Some(&[1, -1]), false)), "axis -1 is named twice");
    assert_eq!(error(none.max(None, false)), "max of no elements: the shape is [0]");
    assert_eq!(error(bools.sub(&bools)), "there is no - for bool; use ^");
    assert_eq!(error(x.not()), "there is no ~ for f32; it is for integers and bool");
    assert_eq!(x.item().unwrap_err().to_string(), "a tensor of shape [2, 3] is not one number");
    assert_eq!(
        Tensor::ones([1], DType::U8).unwrap().to_f32().unwrap_err().to_string(),
        "expected a floating-point type, the tensor is u8"
    );
    assert!(matches!(Tensor::zeros([usize::MAX, 2], DType::I8), Err(Error::ShapeOverflow(_))));
    assert!(matches!(Tensor::zeros([usize::MAX / 8], DType::I32), Err(Error::OutOfMemory { .. })));
}
