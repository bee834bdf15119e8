//! The steps of long verbs, for who wants to know where their time goes: each is begun and ended on the
//! thread that does it. Where nobody watches, a step costs a look at a word of its thread.

use std::cell::RefCell;
use std::sync::Arc;

/// Who is told of steps.
pub trait Steps: Send + Sync {
    /// A step of this name has begun, as a part of `parent`; its number.
    fn begin(&self, name: &'static str, parent: u64) -> u64;
    /// It has ended.
    fn end(&self, step: u64);
}

/// A verb that is watched, or a step of one.
#[derive(Clone)]
pub struct Watched {
    steps: Arc<dyn Steps>,
    parent: u64,
}

thread_local! {
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

impl Watched {
    /// The verb whose number is `parent`.
    #[must_use]
    pub fn new(steps: Arc<dyn Steps>, parent: u64) -> Self {
        Self { steps, parent }
    }

    /// Does what is a part of it, on this thread.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
        let _restored = Restored(WATCHED.replace(Some(self)));
        work()
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watched({})", self.parent)
    }
}

/// What this thread did before, which it does again.
struct Restored(Option<Watched>);

impl Drop for Restored {
    fn drop(&mut self) {
        WATCHED.set(self.0.take());
    }
}

/// What this thread is a part of, to go on with it on another.
pub(crate) fn current() -> Option<Watched> {
    WATCHED.with_borrow(Clone::clone)
}

/// Does what may be a part of a verb that is watched.
pub(crate) fn part_of<T>(watched: Option<Watched>, work: impl FnOnce() -> T) -> T {
    match watched {
        Some(watched) => watched.during(work),
        None => work(),
    }
}

/// Does a step of what this thread does.
pub(crate) fn step<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    let Some(whole) = current() else {
        return work();
    };
    let number = whole.steps.begin(name, whole.parent);
    let ended = Ended {
        steps: Arc::clone(&whole.steps),
        number,
    };
    let part = Watched {
        steps: whole.steps,
        parent: number,
    };
    let done = part.during(work);
    drop(ended);
    done
}

/// Tells of the end, also when the work panics.
struct Ended {
    steps: Arc<dyn Steps>,
    number: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.steps.end(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Steps for Told {
        fn begin(&self, name: &'static str, parent: u64) -> u64 {
            let mut all = self.0.lock().unwrap();
            all.push(format!("{name} of {parent}"));
            all.len() as u64
        }

        fn end(&self, step: u64) {
            self.0.lock().unwrap().push(format!("end of {step}"));
        }
    }

    #[test]
    fn steps_are_parts_of_what_their_thread_does_and_of_nothing_else() {
        let told = Arc::new(Told::default());
        assert_eq!(step("unseen", || 7), 7);
        let verb = Watched::new(Arc::clone(&told) as Arc<dyn Steps>, 0);
        verb.during(|| {
            step("outer", || {
                step("inner", || ());
                let here = current();
                let other = std::thread::spawn(|| part_of(here, || step("beside", || ())));
                other.join().unwrap();
            });
            step("next", || ());
        });
        assert!(current().is_none());
        let all = told.0.lock().unwrap().join(", ");
        let wanted = "outer of 0, inner of 1, end of 2, beside of 1, end of 4, end of 1, next of 0, end of 7";
        assert_eq!(all, wanted);
    }
}
