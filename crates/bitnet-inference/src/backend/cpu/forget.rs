//! Positions taken out of the middle of a sequence.
//!
//! A key is stored rotated to its position p: `R(p) k`. At p - d it has to be `R(p - d) k = R(p - d) R(p)^-1 R(p) k`, so it is
//! turned back by the angles it was turned by and then to the new ones. Turning by the angle of d alone would be one
//! rotation less, and wrong by the rounding of large angles, each time anew.

use std::ops::Range;

use super::CpuSession;
use crate::backend::{PAGE, Page};

impl CpuSession {
    /// Moves keys and values of the positions `range.end..len` down to `range.start`.
    pub(super) fn move_down(&mut self, pages: &[Page], range: Range<usize>, len: usize) {
        let config = &self.model.config;
        let width = config.kv_heads * config.head_dim;
        let (mut keys, mut values) = (vec![0.0; width], vec![0.0; width]);
        for layer in 0..config.layers {
            let rope = config.local(layer).and(self.local_rope.as_ref()).unwrap_or(&self.rope);
            for (to, from) in (range.start..).zip(range.end..len) {
                let place = |position: usize| (pages[position / PAGE], position % PAGE);
                let (page, slot) = place(from);
                self.cache.read_token(layer, page, slot, &mut keys, &mut values);
                for head in keys.chunks_exact_mut(config.head_dim) {
                    rope.rotate_back(from, head);
                    rope.rotate(to, head);
                }
                let (page, slot) = place(to);
                self.cache.write(layer, page, slot, &keys, &values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitnet_core::ThreadPool;

    use super::*;
    use crate::Checkpoint;
    use crate::backend::cpu::{CpuBackend, CpuOptions};
    use crate::backend::{KvType, Limits, Session, Work};
    use crate::model::Model;

    const LEN: usize = 150;
    const FORGOTTEN: Range<usize> = 10..77;

    fn backend() -> CpuBackend {
        let pool = Arc::new(ThreadPool::new(2).unwrap());
        let model = Model::load(&Checkpoint::embedded().unwrap(), &pool).unwrap();
        CpuBackend::new(model, pool, &CpuOptions::default()).unwrap()
    }

    /// A session that has read `ids`, with its pages in no order.
    fn read(backend: &CpuBackend, ids: &[u32], kv_type: KvType) -> (CpuSession, [Page; 3]) {
        let limits = Limits { pages: 3, positions: LEN, tokens: LEN };
        let (mut session, pages) = (backend.session(limits, kv_type).unwrap(), [2, 0, 1].map(Page));
        session.execute(&[Work { ids, position: 0, pages: &pages, outputs: 1 }]).unwrap();
        (session, pages)
    }

    /// The keys, then the values of a layer.
    fn stored(session: &CpuSession, pages: &[Page], layer: usize, len: usize) -> [Vec<f32>; 2] {
        let config = &session.model.config;
        let width = config.kv_heads * config.head_dim;
        let mut stored = [vec![0.0; len * width], vec![0.0; len * width]];
        let [keys, values] = &mut stored;
        for (position, (keys, values)) in
            keys.chunks_exact_mut(width).zip(values.chunks_exact_mut(width)).enumerate()
        {
            let page = pages[position / PAGE];
            session.cache.read_token(layer, page, position % PAGE, keys, values);
        }
        stored
    }

    fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn the_first_layer_is_that_of_a_fresh_reading() {
        let backend = backend();
        let ids: Vec<u32> = (0..LEN as u32).map(|i| i * 7919 % 2000).collect();
        let left = [&ids[..FORGOTTEN.start], &ids[FORGOTTEN.end..]].concat();
        for (kv_type, tolerance) in [(KvType::F32, 1e-6), (KvType::F16, 2e-3), (KvType::I8, 3e-2)] {
            let (mut session, pages) = read(&backend, &ids, kv_type);
            let before = stored(&session, &pages, 3, FORGOTTEN.start);
            session.forget(&pages, FORGOTTEN, LEN).unwrap();
            let (fresh, fresh_pages) = read(&backend, &left, kv_type);
            let [keys, values] = stored(&session, &pages, 0, left.len());
            let [fresh_keys, fresh_values] = stored(&fresh, &fresh_pages, 0, left.len());
            let scale = fresh_keys.iter().fold(0.0_f32, |max, key| max.max(key.abs()));
            let difference = largest_difference(&keys, &fresh_keys) / scale;
            assert!(difference < tolerance, "{kv_type}: {difference}");
            assert!(
                largest_difference(&values, &fresh_values) <= if kv_type == KvType::I8 { 1e-6 } else { 0.0 }
            );
            assert_eq!(stored(&session, &pages, 3, FORGOTTEN.start), before, "what is in front stays");
        }
    }

    #[test]
    fn a_token_behind_the_gap_goes_on_from_what_is_left() {
        let backend = backend();
        let ids: Vec<u32> = (0..LEN as u32).map(|i| i * 7919 % 2000).collect();
        let mut sequence = backend.sequence(LEN).unwrap();
        sequence.feed(&ids, 1).unwrap();
        assert!(sequence.feed(&[1], 1).is_err(), "full");
        sequence.forget(FORGOTTEN).unwrap();
        assert_eq!(sequence.len(), LEN - FORGOTTEN.len());
        sequence.feed(&[1], 1).unwrap();
        assert!(sequence.logits(1).unwrap().iter().all(|logit| logit.is_finite()));
    }
}
