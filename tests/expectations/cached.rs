//! Expectations of users of cached 4 (the macros and the stores).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driftless::{Cache, Filled, RemovalCause};

use super::support::{NoRow, Removals, at_most, keys, local, numbers};

const HOUR: Duration = Duration::from_secs(3_600);
const BLINK: Duration = Duration::from_millis(40);

#[test]
fn a_memoised_function_runs_its_body_once_for_each_argument() {
    // Differs: coming-from-other-caches.md, "cached", "`#[cached]`"
    let (cache, calls) = (numbers(), AtomicUsize::new(0));
    let square = |n: u32| {
        cache.get_with_blocking(n, || {
            calls.fetch_add(1, Ordering::SeqCst);
            n * n
        })
    };
    assert_eq!((square(3), square(3), square(4)), (9, 9, 16));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_memoised_function_may_call_itself() {
    fn fibonacci(cache: &Cache<u32, u64>, n: u32) -> u64 {
        cache.get_with_blocking(
            n,
            || if n < 2 { u64::from(n) } else { fibonacci(cache, n - 1) + fibonacci(cache, n - 2) },
        )
    }
    let cache = local().open().unwrap();
    assert_eq!(fibonacci(&cache, 30), 832_040);
    assert_eq!(cache.stats().fills.filled, 31);
}

#[test]
fn only_ok_is_cached() {
    let (cache, calls) = (numbers(), AtomicUsize::new(0));
    let look_up = |fails: bool| {
        cache.try_get_with_blocking(1, || {
            calls.fetch_add(1, Ordering::SeqCst);
            if fails { Err(NoRow) } else { Ok(10) }
        })
    };
    assert!(look_up(true).is_err() && look_up(true).is_err());
    assert_eq!((look_up(false).unwrap(), look_up(true).unwrap()), (10, 10));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[test]
fn none_is_cached_unless_the_filler_says_otherwise() {
    // Differs: coming-from-other-caches.md, "cached", "a `None` is not cached"
    let cache: Cache<u32, Option<u32>> = local().open().unwrap();
    assert_eq!(cache.get_with_blocking(1, || None), None);
    assert_eq!(cache.get_with_blocking(1, || Some(10)), None);
    let uncached = || Ok::<_, NoRow>(Filled::uncached(None));
    assert_eq!(cache.fill_with_blocking(2, uncached).unwrap(), None);
    assert_eq!(cache.get_with_blocking(2, || Some(20)), Some(20));
}

#[test]
fn an_expired_value_is_no_fallback_for_an_error() {
    // Differs: coming-from-other-caches.md, "cached", "`result_fallback`"
    let cache = numbers();
    cache.insert_with_ttl(1, 10, Duration::from_millis(1)).unwrap();
    std::thread::sleep(BLINK);
    assert!(cache.try_get_with_blocking(1, || Err::<u32, _>(NoRow)).is_err());
}

#[test]
fn a_hit_does_not_renew_the_time_to_live() {
    // Differs: coming-from-other-caches.md, "Shared by several", "a read prolongs the life of an entry"
    let cache: Cache<u32, u32> = local().time_to_live(HOUR).open().unwrap();
    cache.insert(1, 10).unwrap();
    let before = cache.entry(&1).unwrap().expires_in();
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(cache.get_with_blocking(1, || 11), 10);
    assert!(cache.entry(&1).unwrap().expires_in() < before);
}

#[test]
fn first_calls_at_the_same_time_always_run_one_body() {
    // Differs: coming-from-other-caches.md, "cached", "`sync_writes`"
    let (cache, calls) = (numbers(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                cache.get_with_blocking(1, || {
                    calls.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(BLINK);
                    10
                })
            });
        }
    });
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn each_value_may_decide_its_own_expiry() {
    // Differs: coming-from-other-caches.md, "cached", "`Expires`"
    let cache: Cache<u32, u32> = local().open().unwrap();
    let filler = || Ok::<_, NoRow>(Filled::new(10).ttl(HOUR));
    assert_eq!(cache.fill_with_blocking(1, filler).unwrap(), 10);
    assert!(cache.entry(&1).unwrap().expires_in().is_some_and(|left| left <= HOUR));
    let forever = || Ok::<_, NoRow>(Filled::new(20).forever());
    assert_eq!(cache.fill_with_blocking(2, forever).unwrap(), 20);
    assert_eq!(cache.entry(&2).unwrap().expires_in(), None);
}

#[test]
fn the_time_of_a_slow_fill_counts_from_its_end() {
    let cache: Cache<u32, u32> = local().time_to_live(HOUR).open().unwrap();
    let started = std::time::Instant::now();
    cache.get_with_blocking(1, || {
        std::thread::sleep(BLINK);
        10
    });
    let left = cache.entry(&1).unwrap().expires_in().unwrap();
    assert!(left + started.elapsed() >= HOUR + BLINK / 2, "{left:?}");
}

#[test]
fn one_value_can_be_cached_under_the_unit_key() {
    let cache: Cache<(), u32> = local().time_to_live(HOUR).open().unwrap();
    assert_eq!((cache.get_with_blocking((), || 1), cache.get_with_blocking((), || 2)), (1, 1));
    assert_eq!(cache.remove(&()), Some(1));
}

#[test]
fn several_arguments_are_a_tuple() {
    let cache: Cache<(String, u32), String> = local().open().unwrap();
    let render = |page: &str, size| cache.get_with_blocking((page.to_owned(), size), || format!("{page} {size}"));
    assert_eq!((render("a", 1), render("a", 2)), ("a 1".into(), "a 2".into()));
    assert_eq!(cache.entry_count(), 2);
}

#[test]
fn a_zero_time_to_live_is_refused_by_the_builder_and_a_zero_size_is_not() {
    // Differs: coming-from-other-caches.md, "Shared by several", "a capacity of zero"
    let refused = local::<u32, u32>().time_to_live(Duration::ZERO).open().unwrap_err().to_string();
    assert!(refused.contains("time_to_live"), "{refused}");
    assert!(local::<u32, u32>().max_capacity(0).open().is_ok());
}

#[test]
fn remove_of_an_expired_entry_returns_nothing_and_removes_it() {
    let (removals, cache) = Removals::of(local::<u32, u32>());
    cache.insert_with_ttl(1, 10, Duration::from_millis(1)).unwrap();
    std::thread::sleep(BLINK);
    assert_eq!(cache.remove(&1), None);
    removals.are(&[(1, 10, RemovalCause::Expired)]);
}

#[test]
fn a_peek_changes_neither_the_order_nor_the_counts() {
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    assert!(cache.entry(&1).is_some() && cache.contains_key(&1));
    cache.insert(3, 3).unwrap();
    assert_eq!((keys(&cache), cache.hits_and_misses()), (vec![2, 3], (0, 0)));
}

#[test]
fn counters_go_on_after_a_clear() {
    // Differs: coming-from-other-caches.md, "Shared by several", "counters can be reset"
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), None));
    cache.invalidate_all();
    assert_eq!(cache.hits_and_misses(), (1, 1));
}

#[test]
fn a_value_can_be_computed_and_stored_in_advance() {
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    assert_eq!(cache.get_with_blocking(1, || panic!("it was primed")), 10);
}

#[tokio::test]
async fn a_panicking_factory_poisons_nothing() {
    let cache = numbers();
    let panics = || async {
        panic!("on purpose");
        #[allow(unreachable_code)]
        Ok::<u32, NoRow>(1)
    };
    assert!(cache.try_get_with(1, panics).await.is_err());
    assert_eq!(cache.get_with(1, || async { 10 }).await, 10);
    assert_eq!(cache.stats().fills.panicked, 1);
}
