//! Work on all threads whose results come in order.

use std::sync::OnceLock;

use bitnet_core::ThreadPool;

use crate::Result;

/// Calls `make` for all items on the threads of a pool, and `take` with what it made, item by item; as many results as
/// there are threads are held at a time.
///
/// Errors: the first in the order of the items; what comes behind it is not taken.
pub(super) fn in_order<T: Sync, U: Send + Sync>(
    pool: &ThreadPool,
    items: &[T],
    make: impl Fn(&T) -> Result<U> + Sync,
    mut take: impl FnMut(&T, U) -> Result<()>,
) -> Result<()> {
    for items in items.chunks(pool.threads()) {
        let made: Vec<OnceLock<Result<U>>> = items.iter().map(|_| OnceLock::new()).collect();
        pool.split(items.len(), 1, |range| {
            for index in range {
                made[index].get_or_init(|| make(&items[index]));
            }
        });
        for (item, made) in items.iter().zip(made) {
            if let Some(made) = made.into_inner() {
                take(item, made?)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Error;

    #[test]
    fn results_come_in_order_up_to_the_first_error() {
        for threads in [1, 3] {
            let pool = ThreadPool::new(threads).unwrap();
            let items: Vec<usize> = (0..20).collect();
            let mut taken = Vec::new();
            let mut take = |item: &usize, made: usize| {
                assert_eq!(*item * 2, made);
                taken.push(made);
                Ok(())
            };
            in_order(&pool, &items, |item| Ok(item * 2), &mut take).unwrap();
            let fail = |item: &usize| {
                if *item < 7 { Ok(item * 2) } else { Err(Error::line(Path::new("x"), *item, "bad")) }
            };
            let error = in_order(&pool, &items, fail, &mut take).unwrap_err();
            assert_eq!(error.to_string(), "x, line 7: bad");
            let expected = (0..20).chain(0..7).map(|item| item * 2);
            assert_eq!(taken, expected.collect::<Vec<usize>>());
        }
    }
}
