//! Identifiers of nodes and keys, and of peers.

use std::{fmt, str::FromStr};

use sha1::{Digest, Sha1};
use thiserror::Error;

/// A point on the identifier circle modulo 2^160 (Chord, section IV-B), big-endian.
/// Nodes and keys live on the same circle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id([u8; 20]);

impl Id {
    /// Bits of an identifier: `m` in the Chord paper.
    pub const BITS: u32 = 160;

    /// The identifier with these big-endian bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The identifier of a key: SHA-1(key).
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self(Sha1::digest(key).into())
    }

    /// The identifier of a peer's `index`-th node: SHA-1(peer id, index as big-endian `u32`).
    #[must_use]
    pub fn of_node(peer: PeerId, index: u32) -> Self {
        let mut hash = Sha1::new();
        hash.update(peer.as_bytes());
        hash.update(index.to_be_bytes());
        Self(hash.finalize().into())
    }

    /// The big-endian bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// `self + 2^bit` on the circle: where finger `bit` of a node at `self` begins.
    ///
    /// # Panics
    /// If `bit` is not below [`Id::BITS`].
    #[must_use]
    pub fn plus_power(self, bit: u32) -> Self {
        assert!(bit < Self::BITS, "an identifier has {} bits", Self::BITS);
        let mut sum = self.0;
        let mut place = 19 - (bit / 8) as usize;
        let mut carry = 1u16 << (bit % 8);
        loop {
            carry += u16::from(sum[place]);
            sum[place] = carry.to_be_bytes()[1];
            carry >>= 8;
            if carry == 0 || place == 0 {
                return Self(sum);
            }
            place -= 1;
        }
    }

    /// The way from `self` clockwise to `to`.
    #[must_use]
    pub fn distance_to(self, to: Self) -> Self {
        let mut difference = [0; 20];
        let mut borrow = 0i16;
        for place in (0..20).rev() {
            let digit = i16::from(to.0[place]) - i16::from(self.0[place]) - borrow;
            borrow = i16::from(digit < 0);
            difference[place] = digit.rem_euclid(256).to_be_bytes()[1];
        }
        Self(difference)
    }

    /// The distance as a share of the whole circle, in [0, 1).
    #[must_use]
    pub fn as_fraction(self) -> f64 {
        self.0.iter().rev().fold(0.0, |sum, byte| (sum + f64::from(*byte)) / 256.0)
    }

    /// The place of the highest bit that is set; `None` for zero.
    #[must_use]
    pub fn highest_bit(self) -> Option<u32> {
        let zeros = self.0.iter().take_while(|byte| **byte == 0).count();
        let byte = self.0.get(zeros)?;
        Some(Self::BITS - 1 - (8 * u32::try_from(zeros).unwrap_or(0) + byte.leading_zeros()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..4])
    }
}

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse_hex(text).map(Self)
    }
}

/// The name of one `dhtd` process for life: 16 random bytes kept in its data directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PeerId([u8; 16]);

impl PeerId {
    /// The peer id with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The first eight hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{self:?}")
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..4])
    }
}

impl FromStr for PeerId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse_hex(text).map(Self)
    }
}

/// The text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected {digits} hexadecimal digits")]
pub struct ParseIdError {
    digits: usize,
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let error = ParseIdError { digits: 2 * N };
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(error);
    }
    let mut bytes = [0; N];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).map_err(|_| error.clone())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(last: u8) -> Id {
        let mut bytes = [0; 20];
        bytes[19] = last;
        Id::new(bytes)
    }

    #[test]
    fn adding_a_power_carries_and_wraps() {
        assert_eq!(id(0xff).plus_power(0).to_string(), format!("{:040x}", 0x100));
        assert_eq!(Id::new([0xff; 20]).plus_power(0), Id::default());
        assert_eq!(Id::default().plus_power(159).as_bytes()[0], 0x80);
    }

    #[test]
    fn distance_goes_clockwise_around_the_circle() {
        assert_eq!(id(3).distance_to(id(5)), id(2));
        assert_eq!(id(5).distance_to(id(3)).distance_to(Id::default()), id(2));
        assert_eq!(id(5).distance_to(id(5)), Id::default());
    }

    #[test]
    fn adding_a_power_is_that_far_away() {
        let start = Id::of_key(b"start");
        for bit in 0..Id::BITS {
            assert_eq!(start.distance_to(start.plus_power(bit)).highest_bit(), Some(bit));
        }
        assert_eq!(Id::default().highest_bit(), None);
    }

    #[test]
    fn text_form_reads_back() {
        let id = Id::of_key(b"key");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("xyz".parse::<Id>().is_err());
        assert!("é".repeat(20).parse::<Id>().is_err());
    }

    #[test]
    fn half_of_the_circle_is_half() {
        assert!((Id::default().plus_power(159).as_fraction() - 0.5).abs() < 1e-12);
    }
}
