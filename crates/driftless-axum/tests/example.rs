//! A run of the example to its end. It asserts what it shows.

#[path = "../examples/own_writes.rs"]
mod own_writes;

#[test]
fn own_writes_are_read_on_the_second_node() {
    own_writes::main().unwrap();
}
