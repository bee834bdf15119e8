//! A list's work in as many threads as pay: never one for each of what is listed.

/// With more a list is read by several threads.
const MANY: usize = 32;
/// And by at most so many.
const THREADS: usize = 4;

/// Does `work` with each of `items` in as many threads as pay; what has no result is left out. The order
/// is kept.
pub(super) fn in_threads<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Option<R> + Sync,
) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = match items.len() > MANY {
        true => processors.min(THREADS),
        false => 1,
    };
    if threads == 1 {
        return items.iter().filter_map(work).collect();
    }
    let part = items.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let work = &work;
        let begun: Vec<_> = items
            .chunks(part)
            .map(|items| {
                let all = move || items.iter().filter_map(work).collect::<Vec<R>>();
                (items, std::thread::Builder::new().spawn_scoped(scope, all))
            })
            .collect();
        let mut results = Vec::with_capacity(items.len());
        for (items, begun) in begun {
            match begun.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(part)) => results.extend(part),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                // No thread to be had: this one does it.
                Err(_) => results.extend(items.iter().filter_map(work)),
            }
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_keep_the_order_and_leave_out_what_is_nothing() {
        let items: Vec<u32> = (0..1000).collect();
        let odd = |number: &u32| (number % 2 == 1).then_some(*number);
        let expected: Vec<u32> = items.iter().filter_map(odd).collect();
        assert_eq!(in_threads(&items, odd), expected);
        assert_eq!(in_threads(&items[..3], odd), [1]);
        assert!(in_threads(&items[..0], odd).is_empty());
    }
}
