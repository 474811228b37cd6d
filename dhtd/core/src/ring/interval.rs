//! Clockwise intervals of the circle.

use super::Id;

/// `x` lies strictly inside the clockwise interval (a, b). The interval (a, a) is the circle without `a`.
#[must_use]
pub fn between(a: Id, x: Id, b: Id) -> bool {
    if a < b { a < x && x < b } else { a < x || x < b }
}

/// `x` lies in the clockwise interval (a, b]. The interval (a, a] is the whole circle.
/// A node at `b` with predecessor `a` owns exactly the identifiers that (a, b] covers.
#[must_use]
pub fn covers(a: Id, x: Id, b: Id) -> bool {
    x == b || between(a, x, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8) -> Id {
        let mut bytes = [0; 20];
        bytes[0] = first;
        Id::new(bytes)
    }

    #[test]
    fn the_interval_from_a_to_a_is_all_but_a() {
        assert!(between(id(5), id(6), id(5)));
        assert!(between(id(5), id(4), id(5)));
        assert!(!between(id(5), id(5), id(5)));
        assert!(covers(id(5), id(5), id(5)));
    }

    #[test]
    fn intervals_wrap_around_zero() {
        assert!(between(id(250), id(3), id(10)));
        assert!(!between(id(250), id(100), id(10)));
        assert!(!between(id(250), id(250), id(10)));
        assert!(!between(id(250), id(10), id(10)));
        assert!(covers(id(250), id(10), id(10)));
    }
}
