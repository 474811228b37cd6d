//! Identifiers of the circle, as far as a client needs them.
//!
//! This is the one place in the client that does arithmetic on identifiers; `dht_core::ring` can take its place.

use std::fmt;

/// A place on the identifier circle: 160 bits, big-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 20]);

impl Id {
    /// The identifier in `bytes`; none unless they are 20.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, most significant first.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Where it is on the circle, from 0 to (just) 1.
    pub fn place(self) -> f64 {
        fraction(self.0)
    }

    /// The share of the circle in the clockwise interval (`from`, `self`]; all of it if they are the same.
    pub fn share_from(self, from: Self) -> f64 {
        if self == from {
            return 1.0;
        }
        let mut difference = [0; 20];
        let mut borrow = false;
        for i in (0..20).rev() {
            let (byte, first) = self.0[i].overflowing_sub(from.0[i]);
            let (byte, second) = byte.overflowing_sub(u8::from(borrow));
            difference[i] = byte;
            borrow = first || second;
        }
        fraction(difference)
    }

    /// The first eight hex digits.
    pub fn short(&self) -> String {
        short_hex(&self.0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.short())
    }
}

/// `bytes` in hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The first eight hex digits of `bytes`, the short form of peer and node ids.
pub fn short_hex(bytes: &[u8]) -> String {
    hex(&bytes[..bytes.len().min(4)])
}

/// The bytes that `text` names in hex; none if it is not hex of an even length.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// `bytes` as a fraction of 2^160. An f64 holds 53 bits, so the lowest ones don't count.
fn fraction(bytes: [u8; 20]) -> f64 {
    bytes.iter().rev().fold(0.0, |low, byte| (low + f64::from(*byte)) / 256.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8) -> Id {
        let mut bytes = [0; 20];
        bytes[0] = first;
        Id(bytes)
    }

    #[test]
    fn shares_of_consecutive_nodes_sum_to_the_circle() {
        let nodes = [id(3), id(64), id(200)];
        let total: f64 = (0..3).map(|i| nodes[i].share_from(nodes[(i + 2) % 3])).sum();
        assert!((total - 1.0).abs() < 1e-12);
        assert!((nodes[0].share_from(nodes[2]) - 59.0 / 256.0).abs() < 1e-12, "wraps around zero");
        assert!((id(7).share_from(id(7)) - 1.0).abs() < f64::EPSILON, "a single node has the whole circle");
    }

    #[test]
    fn hex_round_trips_and_refuses_other_text() {
        assert_eq!(from_hex(&hex(&[0, 0x7f, 0xff])), Some(vec![0, 0x7f, 0xff]));
        assert_eq!(from_hex("abc"), None);
        assert_eq!(from_hex("zz"), None);
        assert_eq!(short_hex(&[1, 2]), "0102");
    }
}
