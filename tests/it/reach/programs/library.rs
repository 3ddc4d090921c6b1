// A comment.
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub fn upper(text: &str) -> String { helper(text) }
fn helper(text: &str) -> String { text.to_uppercase() }
static LIMIT: u32 = 7;
pub fn below(n: u32) -> bool { n < LIMIT }
const SIZE: usize = 3;
pub fn sized() -> Vec<u8> { vec![0; SIZE] }
static TABLE: [u32; 3] = [1, 2, 3];
pub fn table() -> &'static [u32] { &TABLE }
static FIRST: AtomicU32 = AtomicU32::new(0);
static SECOND: AtomicU32 = AtomicU32::new(0);
pub fn count() -> u32 { FIRST.fetch_add(1, Relaxed) + SECOND.load(Relaxed) }
pub trait Shape {
    fn area(&self) -> u32;
    fn radius(&self) -> u32 { 2 }
    fn around(&self) -> u32 { 3 * self.radius() }
}
pub struct Square(pub u32);
pub struct Point;
impl Shape for Square {
    fn area(&self) -> u32 { self.0 * self.0 }
    fn around(&self) -> u32 { 4 }
}
impl Shape for Point {
    fn area(&self) -> u32 { 0 }
}
static DROPPED: AtomicU32 = AtomicU32::new(0);
pub struct Noisy;
impl Drop for Noisy {
    fn drop(&mut self) { DROPPED.store(1, Relaxed); }
}
pub fn larger<T: PartialOrd>(a: T, b: T) -> T { if a < b { b } else { a } }
pub fn adder() -> Box<dyn Fn(u32) -> u32> { Box::new(|x| x + 17) }
thread_local! { static OWN: Cell<u32> = const { Cell::new(5) }; }
pub fn scale(x: f64) -> f64 { 1.5 * x }
pub fn text() -> &'static str { include_str!("text.txt") }
extern "C" fn assembled() -> u32 { 23 }
pub fn by_assembler() -> u32 {
    let value: u32;
    unsafe { std::arch::asm!("call {}", sym assembled, out("eax") value, clobber_abi("C")) };
    value
}
#[inline(always)] fn inlined() -> u32 { 29 }
pub fn inlining() -> u32 { inlined() }
pub struct Pair { pub one: u32, pub two: u32 }
pub fn pair(pair: &Pair) -> u32 { 2 * pair.one + pair.two }
pub struct Place { pub file: &'static str, pub line: u32, pub column: u32 }
pub fn place() -> &'static Place { &Place { file: "x.rs", line: 1, column: 2 } }
pub fn complain() { panic!("message") }
pub fn even(n: u32) -> u32 { if n == 0 { 3 } else { odd(n - 1) } }
pub fn odd(n: u32) -> u32 { if n == 1 { 5 } else { even(n - 1) } }

#[cfg(test)]
mod tests {
    use super::*;
    #[test] fn plain() { assert_eq!(1 + 1, 2); }
    #[test] fn private() { assert_eq!(upper("a").len(), 1); }
    #[test] fn private_too() { assert_eq!(upper("b").len(), 1); }
    #[test] fn a_static() { assert!(below(1)); }
    #[test] fn a_const() { assert!(sized().len() > 1); }
    #[test] fn a_table() { assert!(table().len() > 1); }
    #[test] fn a_counter() { assert!(count() < 100); }
    #[test] fn a_vtable() { let shape: Box<dyn Shape> = Box::new(Square(1)); assert!(shape.area() > 0); }
    #[test] fn a_default_method() { let shape: Box<dyn Shape> = Box::new(Point); assert!(shape.around() > 0); }
    #[test] fn a_drop() { drop(Noisy); }
    #[test] fn a_generic() { larger(1, 2); }
    #[test] fn a_closure() { assert!(adder()(1) > 1); }
    #[test] fn a_thread_local() { assert!(OWN.get() > 1); }
    #[test] fn a_float() { assert!(scale(1.0) > 1.0); }
    #[test] fn a_file() { assert!(!text().is_empty()); }
    #[test] #[should_panic(expected = "one")] fn should_panic() { panic!("one and two"); }
    #[test] #[ignore] fn ignored() {}
    #[test] #[should_panic] fn a_message() { complain(); }
    #[test] fn a_cycle() { assert!(even(4) + odd(3) > 0); }
    #[test] fn a_place() { assert!(place().line + place().column > 0 && !place().file.is_empty()); }
    #[test] fn assembler() { assert!(by_assembler() > 0); }
    #[test] fn inline() { assert!(inlining() > 0); }
    #[test] fn a_layout() { assert!(pair(&Pair { one: 1, two: 2 }) > 0); }
    #[test] fn a_result() -> Result<(), String> { Ok(()) }
}
