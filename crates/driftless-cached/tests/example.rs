//! A run of the example to its end. It asserts what it shows.

#[path = "../examples/memoize.rs"]
mod memoize;

#[test]
fn a_function_is_memoized_for_two_nodes() {
    memoize::main().unwrap();
}
