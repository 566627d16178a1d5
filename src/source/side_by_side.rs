//! Many items looked at by a few at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What came of one item: results, and items that it led to.
pub type Looked<T, R> = (Vec<R>, Vec<T>);

/// What `look` makes of all items and of those that they lead to, in no order: so many at once, each on a task of the
/// runtime, so that one is understood while others are waited for. Dropping the future ends them all.
pub async fn side_by_side<T, R, F>(many: usize, items: Vec<T>, look: impl Fn(T) -> F + Clone + Send + 'static) -> Vec<R>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Looked<T, R>> + Send,
{
    let queue = Arc::new(Queue::new(items));
    let mut readers = JoinSet::new();
    for _ in 0..many.max(1) {
        let (queue, look) = (queue.clone(), look.clone());
        readers.spawn(async move {
            let mut all = Vec::new();
            while let Some(item) = queue.take().await {
                let (seen, further) = look(item).await;
                all.extend(seen);
                queue.done(further);
            }
            all
        });
    }
    readers.join_all().await.into_iter().flatten().collect()
}

/// It ends when nothing waits and nobody is at work, since work may lead to more.
struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    /// The last one is taken first: what a folder holds before the next folder, so that few wait.
    waiting: Vec<T>,
    at_work: usize,
}

impl<T> Queue<T> {
    fn new(waiting: Vec<T>) -> Self {
        Self { state: Mutex::new(State { waiting, at_work: 0 }), changed: Notify::new() }
    }

    async fn take(&self) -> Option<T> {
        loop {
            // It hears of a change from now on, before it is waited for.
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if let Some(item) = state.waiting.pop() {
                    state.at_work += 1;
                    return Some(item);
                }
                if state.at_work == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// With what was taken, which led to these.
    fn done(&self, further: Vec<T>) {
        let mut state = self.state();
        state.at_work -= 1;
        let is_news = !further.is_empty() || (state.at_work == 0 && state.waiting.is_empty());
        state.waiting.extend(further);
        drop(state);
        if is_news {
            self.changed.notify_waiters();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// Each number leads to those below its half.
    async fn halves(many: usize, first: Vec<u32>) -> (Vec<u32>, usize) {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen_at_once = most.clone();
        let look = move |number: u32| {
            let (running, most) = (running.clone(), most.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(u64::from(number % 3))).await;
                running.fetch_sub(1, Ordering::SeqCst);
                (vec![number], (0..number / 2).collect())
            }
        };
        let mut seen = side_by_side(many, first, look).await;
        seen.sort_unstable();
        (seen, seen_at_once.load(Ordering::SeqCst))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_that_items_lead_to_is_looked_at_once_by_no_more_than_so_many() {
        for many in [0, 1, 2, 16] {
            let (seen, at_once) = halves(many, vec![9, 4]).await;
            assert_eq!(seen, [0, 0, 0, 0, 1, 1, 2, 3, 4, 9], "{many}");
            assert!(at_once <= many.max(1), "{at_once} of {many}");
        }
        assert_eq!(halves(4, Vec::new()).await, (Vec::new(), 0));
    }
}
