//! Items of work in the order of their jobs, taken by any number of threads.
//!
//! Each job is a tensor with stages; when the last item of a stage is done, the thread that
//! did it asks the job for the next one. Results are kept by index, so nothing depends on
//! who did what. Of several errors the earliest in that order is reported, for any number
//! of threads: whoever meets one lets all earlier items finish.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// A tensor's work, in stages of independent items.
pub(crate) trait Job: Sync {
    /// Buffers that a thread keeps from item to item.
    type Scratch: Default;

    /// Items of the first stage.
    fn begin(&self) -> Result<usize, Error>;

    /// Does item `index` of the current stage.
    fn run(&self, index: usize, scratch: &mut Self::Scratch) -> Result<(), Error>;

    /// Ends the current stage; items of the next one, or none at the end of the job.
    fn advance(&self) -> Result<Option<usize>, Error>;
}

struct State {
    /// The next job to begin.
    next: usize,
    /// Items ready to be taken: (job, index).
    items: VecDeque<(usize, usize)>,
    /// Items of each begun job's stage that are not done.
    left: Vec<usize>,
    /// Jobs begun and not ended.
    open: usize,
    /// The earliest error and its place.
    failed: Option<((usize, usize), Error)>,
}

/// Runs all jobs on `threads` threads.
///
/// # Errors
///
/// The earliest error of a job.
pub(crate) fn run<J: Job>(jobs: &[J], pool: &rayon::ThreadPool) -> Result<(), Error> {
    let queue = Queue {
        jobs,
        state: Mutex::new(State { next: 0, items: VecDeque::new(), left: vec![0; jobs.len()], open: 0, failed: None }),
        ready: Condvar::new(),
    };
    pool.broadcast(|_| queue.work());
    let state = queue.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failed.map_or(Ok(()), |(_, error)| Err(error))
}

struct Queue<'a, J> {
    jobs: &'a [J],
    state: Mutex<State>,
    ready: Condvar,
}

impl<J: Job> Queue<'_, J> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let _guard = Leave(self);
        let mut scratch = J::Scratch::default();
        while let Some((job, index)) = self.take() {
            let done = self.jobs[job].run(index, &mut scratch);
            self.done(job, index, done);
        }
    }

    /// The next item, waiting while others may still produce some.
    fn take(&self) -> Option<(usize, usize)> {
        let mut state = self.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            if state.next < self.jobs.len() {
                self.begin(&mut state);
            } else if state.open == 0 {
                return None;
            } else {
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn begin(&self, state: &mut State) {
        let job = state.next;
        state.next += 1;
        match self.jobs[job].begin() {
            Ok(0) => {}
            Ok(items) => {
                state.open += 1;
                push(state, job, items);
            }
            Err(error) => fail(state, (job, 0), error),
        }
        self.ready.notify_all();
    }

    fn done(&self, job: usize, index: usize, result: Result<(), Error>) {
        let mut state = self.lock();
        if let Err(error) = result {
            fail(&mut state, (job, index), error);
        }
        state.left[job] -= 1;
        if state.left[job] == 0 && state.failed.is_none() {
            drop(state);
            let next = self.jobs[job].advance();
            state = self.lock();
            match next {
                Ok(Some(items)) => push(&mut state, job, items),
                Ok(None) => state.open -= 1,
                Err(error) => fail(&mut state, (job, usize::MAX), error),
            }
        }
        drop(state);
        self.ready.notify_all();
    }
}

/// Lets the other threads leave when one panics, so that the panic is seen.
struct Leave<'q, 'a, J: Job>(&'q Queue<'a, J>);

impl<J: Job> Drop for Leave<'_, '_, J> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.lock();
            state.items.clear();
            state.next = self.0.jobs.len();
            state.open = 0;
            self.0.ready.notify_all();
        }
    }
}

/// Later stages go first: they end jobs that are open.
fn push(state: &mut State, job: usize, items: usize) {
    state.left[job] = items;
    for index in (0..items).rev() {
        state.items.push_front((job, index));
    }
}

fn fail(state: &mut State, place: (usize, usize), error: Error) {
    if state.failed.as_ref().is_none_or(|(earliest, _)| place < *earliest) {
        state.failed = Some((place, error));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::ErrorKind;

    /// Two stages of `items`; item `bad` of the first fails.
    struct Count {
        items: usize,
        bad: Option<usize>,
        stage: AtomicUsize,
        ran: [AtomicUsize; 2],
    }

    impl Count {
        fn new(items: usize, bad: Option<usize>) -> Self {
            Self { items, bad, stage: AtomicUsize::new(0), ran: Default::default() }
        }
    }

    impl Job for Count {
        type Scratch = ();

        fn begin(&self) -> Result<usize, Error> {
            Ok(self.items)
        }

        fn run(&self, index: usize, _: &mut ()) -> Result<(), Error> {
            let stage = self.stage.load(Ordering::SeqCst);
            self.ran[stage].fetch_add(1, Ordering::SeqCst);
            match self.bad {
                Some(bad) if bad == index => Err(ErrorKind::NotFinite { index }.into()),
                _ => Ok(()),
            }
        }

        fn advance(&self) -> Result<Option<usize>, Error> {
            Ok((self.stage.fetch_add(1, Ordering::SeqCst) == 0).then_some(self.items))
        }
    }

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_item_of_every_stage_runs_once() {
        for threads in [1, 2, 5] {
            let jobs: Vec<_> = (0..20).map(|n| Count::new(n, None)).collect();
            run(&jobs, &pool(threads)).unwrap();
            for job in &jobs {
                assert!(job.ran.iter().all(|r| r.load(Ordering::SeqCst) == job.items));
            }
        }
    }

    #[test]
    fn the_earliest_error_wins_for_any_number_of_threads() {
        for threads in [1, 2, 5] {
            for _ in 0..50 {
                let jobs = [Count::new(3, None), Count::new(9, Some(4)), Count::new(5, Some(0))];
                let error = run(&jobs, &pool(threads)).unwrap_err();
                assert_eq!(*error.kind(), ErrorKind::NotFinite { index: 4 });
            }
        }
    }
}
