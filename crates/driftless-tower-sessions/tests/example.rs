//! A run of the example to its end. It asserts what it shows.

#[path = "../examples/login_logout.rs"]
mod login_logout;

#[test]
fn a_login_on_one_node_and_a_logout_on_a_second_one() {
    login_logout::main().unwrap();
}
