//! One list of work, shared by as many threads as there are processors.

use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads than this gain nothing: the page cache and the kernel's own locks are the limit.
const MOST_THREADS: usize = 16;
/// Fewer items than this for each thread are not worth starting one.
const FEWEST_ITEMS: usize = 8;
/// How many items a thread takes at a time.
const PORTION: usize = 4;

/// How many threads this machine is good for.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

/// Applies `work` to every item, in no order, on up to `threads` threads (this one among them),
/// and returns the results in the items' order. Every thread has a `State` of its own.
pub(crate) fn map<T, R, State>(
    items: &[T],
    threads: usize,
    state: &mut State,
    work: impl Fn(&mut State, &T) -> R + Sync,
) -> Vec<R>
where
    T: Sync,
    R: Send,
    State: Default,
{
    let threads = threads.min(items.len() / FEWEST_ITEMS);
    if threads < 2 {
        return items.iter().map(|item| work(state, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let take = |state: &mut State| {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(PORTION, Ordering::Relaxed);
            if start >= items.len() {
                return done;
            }
            let portion = &items[start..(start + PORTION).min(items.len())];
            done.extend(portion.iter().zip(start..).map(|(item, at)| (at, work(state, item))));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).map(|_| scope.spawn(|| take(&mut State::default()))).collect();
        let mut done = take(state);
        for other in others {
            match other.join() {
                Ok(results) => done.extend(results),
                // The thread's panic is this thread's panic: nothing may be missing.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_items_order_whoever_made_them() {
        for count in [0, 1, 7, 8, 9, 100, 1_003] {
            let items: Vec<usize> = (0..count).collect();
            for threads in [1, 2, 3, 16] {
                let doubled = map(&items, threads, &mut 0_usize, |calls, item| {
                    *calls += 1;
                    item * 2
                });
                assert!(doubled.iter().enumerate().all(|(at, result)| at * 2 == *result));
                assert_eq!(doubled.len(), count);
            }
        }
    }

    #[test]
    #[should_panic(expected = "item 50")]
    fn a_panic_in_any_thread_is_ours() {
        let items: Vec<usize> = (0..100).collect();
        map(&items, 4, &mut (), |(), item| assert!(*item != 50, "item {item}"));
    }
}
