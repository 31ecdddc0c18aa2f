//! Threads that look for work instead of going to sleep.
//!
//! A node of a small network is computed in the time that it takes to wake a thread. While [`awake`] runs, the other threads of
//! the pool look for parts of its work all the time, as those of OpenMP do; where there is none for a while, less often.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rayon::Yield;

/// How long threads may take to come.
const CALL: Duration = Duration::from_millis(2);

/// How often a thread looks before it only looks from time to time: about a millisecond.
const LOOKS: u32 = 1 << 11;

/// How long it then rests.
const REST: Duration = Duration::from_micros(50);

/// What threads tell each other.
#[derive(Default)]
struct Calls {
    /// How many have come.
    here: AtomicUsize,
    /// Whether all have, so that work begins.
    begun: AtomicBool,
    ended: AtomicBool,
}

/// Ends the calls, come what may.
struct End<'c>(&'c Calls);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

/// Calls `work` while the other threads of the pool look for parts of it. Outside a pool, in one of a single thread, and
/// where the other threads are busy, it is only called.
pub fn awake<T>(work: impl FnOnce() -> T) -> T {
    let others = rayon::current_num_threads() - 1;
    if others == 0 || rayon::current_thread_index().is_none() {
        return work();
    }
    let calls = Calls::default();
    rayon::in_place_scope(|scope| {
        let end = End(&calls);
        (0..others).for_each(|_| scope.spawn(|_| calls.look()));
        // No work may begin before: who waits for a part of it might take a call for another part, and never end.
        let called = Instant::now();
        while calls.here.load(Ordering::Acquire) < others {
            if called.elapsed() > CALL {
                drop(end);
                return work();
            }
            std::hint::spin_loop();
        }
        calls.begun.store(true, Ordering::Release);
        work()
    })
}

impl Calls {
    /// Does parts of the work until it ends.
    fn look(&self) {
        let ended = || self.ended.load(Ordering::Acquire);
        self.here.fetch_add(1, Ordering::AcqRel);
        while !self.begun.load(Ordering::Acquire) && !ended() {
            std::hint::spin_loop();
        }
        let mut idle = 0;
        while !ended() {
            match rayon::yield_now() {
                Some(Yield::Executed) => idle = 0,
                _ if idle < LOOKS => idle += 1,
                _ => std::thread::sleep(REST),
            }
            (0..32).for_each(|_| std::hint::spin_loop());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rayon::prelude::*;

    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    /// Work of many small parts, in parts of parts.
    fn sum(of: u64) -> u64 {
        (0..of)
            .map(|at| {
                (0..64).into_par_iter().map(|x| (0..8).into_par_iter().map(|y| x * y + at).sum::<u64>()).sum::<u64>()
            })
            .sum()
    }

    #[test]
    fn work_ends_and_is_the_same() {
        let expected = sum(200);
        for threads in [1, 2, 3, 8] {
            assert_eq!(pool(threads).install(|| awake(|| sum(200))), expected, "{threads} threads");
        }
        assert_eq!(awake(|| sum(200)), expected, "outside a pool");
    }

    #[test]
    fn calls_within_calls_and_on_busy_threads_end() {
        let expected = sum(20);
        pool(3).install(|| {
            assert_eq!(awake(|| awake(|| sum(20))), expected);
            (0..12).into_par_iter().for_each(|_| assert_eq!(awake(|| sum(20)), expected));
        });
    }

    #[test]
    fn a_panic_ends_the_calls() {
        let pool = pool(2);
        let caught =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.install(|| awake(|| panic!("work failed")))));
        assert!(caught.is_err());
        assert_eq!(pool.install(|| sum(1)), sum(1));
    }
}
