//! The changes that are under way: what Status says of one that is stuck.
//!
//! Every wait of the engine has a limit far below [`STUCK`], whatever a container does: a change that is older is a
//! fault of the runtime or of the kernel, and the node says so. Pulls are not among them: they have limits of
//! their own, and last as long as a registry lets them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::status;

/// After this time a client has given up and asks again (kubelet's runtimeRequestTimeout).
const SLOW: Duration = Duration::from_secs(2 * 60);
/// After this time RuntimeReady is false.
const STUCK: Duration = Duration::from_secs(10 * 60);
/// How many are named.
const NAMED: usize = 20;

/// A change that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) rpc: &'static str,
    /// The pod or container that it is about.
    pub(crate) of: String,
    begun: Instant,
    /// What its client allows it beyond the usual: a grace period.
    allowed: Duration,
}

impl Call {
    /// How long it has been under way.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    fn overdue(&self, now: Instant) -> Duration {
        self.age(now).saturating_sub(self.allowed)
    }
}

/// All of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<State>>);

/// The number of the last that began, those that are under way, and those that were late.
type State = (u64, BTreeMap<u64, Call>, Late);

/// How many were late that have ended, by RPC.
type Late = BTreeMap<&'static str, u64>;

/// One of them is under way for as long as this lives.
#[derive(Debug)]
pub(crate) struct UnderWay {
    calls: Calls,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut calls = self.calls.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = calls.1.remove(&self.number);
        if let Some(call) = ended.filter(|call| call.overdue(Instant::now()) >= SLOW) {
            *calls.2.entry(call.rpc).or_default() += 1;
        }
    }
}

/// What Status says of the changes that are under way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// None is late.
    Well,
    /// Some are late, in words.
    Slow(String),
    /// One is so late that it will not end, in words.
    Stuck(String),
}

impl Calls {
    /// Notes a change that begins.
    pub(crate) fn begin(&self, rpc: &'static str, of: &str, allowed: Duration) -> UnderWay {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.0 += 1;
        let number = calls.0;
        let call = Call {
            rpc,
            of: status::brief(of),
            begun: Instant::now(),
            allowed,
        };
        calls.1.insert(number, call);
        UnderWay {
            calls: self.clone(),
            number,
        }
    }

    /// Has the pods named of late changes that only know their container.
    pub(crate) fn name_pods(&self, pod_of: impl Fn(&str) -> Option<String>) {
        let (oldest, _) = self.oldest();
        let now = Instant::now();
        let nameless = |call: &Call| call.overdue(now) >= SLOW && !call.of.contains(' ');
        if !oldest.iter().any(nameless) {
            return;
        }
        let found: BTreeMap<String, String> = oldest
            .into_iter()
            .filter(nameless)
            .filter_map(|call| Some((call.of.clone(), pod_of(&call.of)?)))
            .collect();
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for call in calls.1.values_mut() {
            if let Some(pod) = found.get(&call.of) {
                call.of = format!("{} in {pod}", call.of);
            }
        }
    }

    /// The oldest, and how many there are.
    pub(crate) fn oldest(&self) -> (Vec<Call>, usize) {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = calls.1.values().take(NAMED).cloned();
        (oldest.collect(), calls.1.len())
    }

    /// How many have been late, or are, by RPC.
    pub(crate) fn late(&self, now: Instant) -> BTreeMap<&'static str, u64> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = calls.2.clone();
        for call in calls.1.values().filter(|call| call.overdue(now) >= SLOW) {
            *all.entry(call.rpc).or_default() += 1;
        }
        all
    }

    /// How they are at a moment.
    pub(crate) fn health(&self, now: Instant) -> Health {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = calls.1.values().filter(|call| call.overdue(now) >= SLOW);
        let mut late: Vec<&Call> = late.collect();
        late.sort_by_key(|call| std::cmp::Reverse(call.overdue(now)));
        let Some(worst) = late.first() else {
            return Health::Well;
        };
        let (rpc, of, age) = (worst.rpc, &worst.of, worst.age(now).as_secs());
        let mut words = format!("{rpc} of {of} has been under way for {age} s");
        if late.len() > 1 {
            words.push_str(&format!(", and {} more are late", late.len() - 1));
        }
        match worst.overdue(now) >= STUCK {
            true => Health::Stuck(words),
            false => Health::Slow(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_named_when_it_is_late_and_the_runtime_is_not_ready_when_it_will_not_end() {
        let calls = Calls::default();
        let now = Instant::now();
        assert_eq!(calls.health(now + STUCK), Health::Well);
        let grace = calls.begin("StopContainer", "c", STUCK);
        let stop = calls.begin("StopPodSandbox", "a-pod", Duration::ZERO);
        let (oldest, all) = calls.oldest();
        assert_eq!((oldest.len(), all, oldest[0].rpc), (2, 2, "StopContainer"));
        let at = |after| calls.health(Instant::now() + after);
        assert_eq!(at(SLOW / 2), Health::Well);
        let Health::Slow(words) = at(SLOW + Duration::from_secs(5)) else {
            panic!("not slow")
        };
        assert!(
            words.starts_with("StopPodSandbox of a-pod has been under way for 12"),
            "{words}"
        );
        let Health::Stuck(words) = at(STUCK + SLOW) else {
            panic!("not stuck")
        };
        assert!(words.starts_with("StopPodSandbox of a-pod"), "{words}");
        assert!(words.ends_with(", and 1 more are late"), "{words}");
        assert_eq!(calls.late(now), BTreeMap::new());
        let late = calls.late(Instant::now() + SLOW);
        assert_eq!(late, [("StopPodSandbox", 1)].into());
        drop(stop);
        assert!(matches!(at(STUCK + SLOW), Health::Slow(_)));
        drop(grace);
        assert_eq!(at(STUCK * 9), Health::Well);
    }
}
