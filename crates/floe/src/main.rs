//! The program `floe`.
fn main() {}
