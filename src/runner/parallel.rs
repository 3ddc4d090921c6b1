//! A few futures at a time on one task, started in a given order.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Runs all of `work`, at most `limit` at a time, started in order; the results come in the
/// order of `work`. Dropping the returned future drops what is running.
///
/// One task, because children die with the thread that started them, and because the receiver of
/// events need not be `'static`. All are polled at each wake-up, which is cheap for as many as a
/// machine has cores. The first to be polled changes, so that a busy one cannot starve the others.
pub(super) async fn in_parallel<F: Future>(
    work: impl ExactSizeIterator<Item = F>,
    limit: usize,
) -> Vec<F::Output> {
    let mut results: Vec<Option<F::Output>> = (0..work.len()).map(|_| None).collect();
    let mut waiting = work.enumerate();
    let mut active: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    poll_fn(|context| {
        if !active.is_empty() {
            active.rotate_left(1);
        }
        let mut next = 0;
        loop {
            if next == active.len() {
                let room = active.len() < limit.max(1);
                match room.then(|| waiting.next()).flatten() {
                    Some((index, future)) => active.push((index, Box::pin(future))),
                    None if active.is_empty() => return Poll::Ready(()),
                    None => return Poll::Pending,
                }
            }
            let (index, future) = &mut active[next];
            match future.as_mut().poll(context) {
                Poll::Ready(result) => {
                    results[*index] = Some(result);
                    active.remove(next);
                }
                Poll::Pending => next += 1,
            }
        }
    })
    .await;
    // The loop ends only when every future has given its result.
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[tokio::test]
    async fn order_limit_and_results() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let started = RefCell::new(Vec::new());
        let work = (0..20usize).map(|n| {
            let (running, most, started) = (&running, &most, &started);
            async move {
                started.borrow_mut().push(n);
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                for _ in 0..(20 - n) % 7 {
                    tokio::task::yield_now().await;
                }
                running.set(running.get() - 1);
                n * n
            }
        });
        let results = in_parallel(work, 3).await;
        assert_eq!(results, (0..20).map(|n| n * n).collect::<Vec<_>>());
        assert_eq!(*started.borrow(), (0..20).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
    }

    #[tokio::test]
    async fn a_busy_future_does_not_starve_the_others() {
        let done = Cell::new(false);
        let busy = async {
            while !done.get() {
                tokio::task::consume_budget().await;
            }
        };
        let other = async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            done.set(true);
        };
        let work: Vec<Pin<Box<dyn Future<Output = ()>>>> = vec![Box::pin(busy), Box::pin(other)];
        assert_eq!(in_parallel(work.into_iter(), 2).await.len(), 2);
    }
}
