use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[test]
fn memory_does_not_grow_with_reuse() {
    let mut timers = Timers::default();
    let now = Instant::now();
    for n in 0..1000 {
        let id = timers.insert(now);
        timers.schedule(id, now + Duration::from_millis(n), Waker::noop());
        timers.schedule(id, now, Waker::noop());
        timers.remove(id);
    }
    assert_eq!((timers.slots.len(), timers.heap.len(), timers.free.len()), (1, 0, 1));
}

proptest! {
    #[test]
    fn timers_expire_in_the_order_of_their_deadlines_whatever_was_moved_or_stopped(
        actions in prop::collection::vec((0_u32..20, prop::option::weighted(0.8, 0_u64..50)), 0..200),
        until in 0_u64..60,
    ) {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        let mut model = BTreeMap::new();
        let ids: Vec<_> = (0..20).map(|_| timers.insert(start)).collect();
        for (i, deadline) in actions {
            let id = ids[i as usize];
            match deadline {
                Some(ms) => {
                    timers.schedule(id, at(ms), Waker::noop());
                    model.insert(id, ms);
                }
                None => {
                    timers.cancel(id);
                    model.remove(&id);
                }
            }
            prop_assert_eq!(timers.next(), model.values().min().map(|&ms| at(ms)));
        }
        let mut last = start;
        let due = model.values().filter(|&&ms| ms <= until).count();
        for _ in 0..due {
            let next = timers.next().unwrap();
            prop_assert!(next >= last);
            last = next;
            prop_assert!(timers.expire(at(until)).is_some());
        }
        prop_assert!(timers.expire(at(until)).is_none());
        prop_assert_eq!(timers.heap.len(), model.len() - due);
    }
}
